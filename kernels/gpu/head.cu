// The head and the loss in one pass over the pixels: z = x w + b, softmax cross-entropy, and the gradients of all.
//
// It is compiled for LANES and CLASSES. A pixel's channels lie in LANES neighbouring lanes of a warp, 16 bytes in each, w and
// dw beside them. So logits are sums over these lanes, all of which then have them; they never leave registers.

constexpr int UNIT = ACCESS / sizeof(STORE), C = LANES * UNIT, K = CLASSES;
constexpr int GROUPS = BLOCK / LANES, WARPS = BLOCK / 32;  // groups: of lanes, each with a pixel of its own

using U = Unit<STORE, UNIT>;

struct Pixel {
    U x;
    REAL weight;
    int label;
};

// The sum of all, the same in each warp.
__device__ double sum_of(const double* a, i64 n) {
    double sum = 0;
    for (i64 i = threadIdx.x % 32; i < n; i += 32) sum += a[i];
    for (int lane = 16; lane; lane /= 2) sum += shuffle_xor(sum, lane);
    return sum;
}

// Turn z into softmax(z) - onehot, and return -log softmax(z)[label].
__device__ __forceinline__ REAL cross_entropy(REAL (&z)[K], int label) {
    REAL largest = z[0], chosen = nan(""), normaliser = 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
        largest = z[k] > largest ? z[k] : largest;
        chosen = k == label ? z[k] : chosen;
    }
#pragma unroll
    for (int k = 0; k < K; k++) normaliser += z[k] = exp(z[k] - largest);
#pragma unroll
    for (int k = 0; k < K; k++) z[k] = z[k] / normaliser - (k == label);
    return log(normaliser) + (largest - chosen);
}

// sums[(lane * N + j) * step] = the sum over the block's groups of what that lane has in of_lane[j], for so many lanes.
template <int N, typename T>
__device__ __forceinline__ void add_groups(T (&of_lane)[N], int lanes, double* sums, int step) {
    SHARED(memory);
    T* of_warp = (T*)memory + threadIdx.x / 32 * lanes * N;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < N; j++) {
#pragma unroll
        for (int group = LANES; group < 32; group *= 2) of_lane[j] += shuffle_xor(of_lane[j], group);
        if (lane < lanes) of_warp[lane * N + j] = of_lane[j];
    }
    __syncthreads();
    if (threadIdx.x < lanes * N) {
        double sum = 0;
        for (int warp = 0; warp < WARPS; warp++) sum += ((T*)memory)[warp * lanes * N + threadIdx.x];
        sums[threadIdx.x * step] = sum;
    }
    __syncthreads();  // memory may be written again
}

// sums (blocks, C K + K + 1): of each block's pixels the parts of dw, db and the loss. A pixel of weight 0 has dz = 0, whatever
// its logits and label are.
extern "C" __global__ void __launch_bounds__(BLOCK)
linear_cross_entropy(const STORE* x, i64 x_pixel, const REAL* w, const REAL* b, const int* labels, const REAL* weights,
                     i64 n_pixels, const double* weight_sums, i64 n_sums, STORE* dx, double* sums) {
    const REAL total = sum_of(weight_sums, n_sums);
    const int lane = threadIdx.x % LANES, group = threadIdx.x / LANES;
    REAL w_of_lane[K][UNIT], dw[K][UNIT] = {}, db[K] = {};
    double loss = 0;
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int j = 0; j < UNIT; j++) w_of_lane[k][j] = REAL(STORE(w[(lane * UNIT + j) * K + k]));  // rounded as any factor

    const i64 step = i64(gridDim.x) * GROUPS;
    const auto read = [&](i64 i) {
        return i < n_pixels ? Pixel{load<U>(x + i * x_pixel, lane), weights[i], labels[i]} : Pixel{};
    };
    Pixel next = read(i64(blockIdx.x) * GROUPS + group);
    for (i64 first = i64(blockIdx.x) * GROUPS; first < n_pixels; first += step) {  // of a warp all lanes go on: they shuffle
        Pixel pixel = next;
        next = read(first + step + group);  // is on its way meanwhile
        REAL z[K] = {};
#pragma unroll
        for (int j = 0; j < UNIT; j++)
#pragma unroll
            for (int k = 0; k < K; k++) z[k] += REAL(pixel.x.of[j]) * w_of_lane[k][j];
#pragma unroll
        for (int apart = 1; apart < LANES; apart *= 2)
#pragma unroll
            for (int k = 0; k < K; k++) z[k] += shuffle_xor(z[k], apart);
#pragma unroll
        for (int k = 0; k < K; k++) z[k] += b[k];

        const REAL term = cross_entropy(z, pixel.label), share = pixel.weight / total;
        const bool counts = pixel.weight != 0;
        if (counts) loss += share * term;
#pragma unroll
        for (int k = 0; k < K; k++) {
            z[k] = counts ? share * z[k] : REAL(0);
            db[k] += z[k];
        }
#pragma unroll
        for (int j = 0; j < UNIT; j++) {
            const REAL x_j = pixel.x.of[j];
            REAL dx_j = 0;
#pragma unroll
            for (int k = 0; k < K; k++) {
                dw[k][j] += x_j * z[k];
                dx_j += w_of_lane[k][j] * z[k];
            }
            pixel.x.of[j] = dx_j;
        }
        if (first + group < n_pixels) store(dx + (first + group) * C, lane, pixel.x);
    }

    sums += i64(blockIdx.x) * (C * K + K + 1);
#pragma unroll
    for (int k = 0; k < K; k++) add_groups(dw[k], LANES, sums + k, K);
    double rest[K + 1];
#pragma unroll
    for (int k = 0; k < K; k++) rest[k] = db[k];
    rest[K] = loss;
    add_groups(rest, 1, sums + C * K, 1);
}
