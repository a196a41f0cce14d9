// Softmax cross-entropy and its gradient, computed in double. logits (N, P, Q, K) at a pixel stride, one label and weight
// a pixel.

// The sum over a block's threads: the same in each, added in the same order each time.
__device__ double block_sum(double value, double* of_warp) {
    for (int lane = 16; lane; lane /= 2) value += shuffle_xor(value, lane);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0;
    for (int warp = 0; warp < BLOCK / 32; warp++) sum += of_warp[warp];
    __syncthreads();  // of_warp may be written again
    return sum;
}

template <typename T> __device__ double block_sum_of(const T* a, i64 n, double* of_warp) {
    double sum = 0;
    for (i64 i = threadIdx.x; i < n; i += BLOCK) sum += a[i];
    return block_sum(sum, of_warp);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
sum_weights(const REAL* weights, i64 n_pixels, double* sums) {
    SHARED(memory);
    double sum = 0;
    for (i64 i = thread(); i < n_pixels; i += i64(gridDim.x) * BLOCK) sum += weights[i];
    sum = block_sum(sum, (double*)memory);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Fill a pixel's dz with share (softmax(z) - onehot), and return share times -log softmax(z)[label].
__device__ double cross_entropy_of_pixel(const REAL* z, i64 k_size, int label, double share, REAL* dz) {
    double largest = z[0], chosen = nan(""), normaliser = 0;
    for (i64 k = 0; k < k_size; k++) {
        largest = z[k] > largest ? z[k] : largest;
        chosen = k == label ? z[k] : chosen;
    }
    for (i64 k = 0; k < k_size; k++) normaliser += exp(z[k] - largest);
    for (i64 k = 0; k < k_size; k++) dz[k] = share * (exp(z[k] - largest) / normaliser - (k == label));
    return share * (log(normaliser) + (largest - chosen));
}

// A pixel of weight 0 takes no part: its logits and label are not even read. Each block adds the blocks' sums of weights itself.
extern "C" __global__ void __launch_bounds__(BLOCK)
cross_entropy(const REAL* logits, i64 pixel, const int* labels, const REAL* weights, i64 n_pixels, i64 k_size,
              const double* weight_sums, i64 n_sums, REAL* dlogits, double* losses) {
    SHARED(memory);
    double* of_warp = (double*)memory;
    const double total = block_sum_of(weight_sums, n_sums, of_warp);
    double loss = 0;
    for (i64 i = thread(); i < n_pixels; i += i64(gridDim.x) * BLOCK) {
        REAL* dz = dlogits + i * k_size;
        if (weights[i] != 0)
            loss += cross_entropy_of_pixel(logits + i * pixel, k_size, labels[i], weights[i] / total, dz);
        else
            for (i64 k = 0; k < k_size; k++) dz[k] = 0;
    }
    loss = block_sum(loss, of_warp);
    if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

extern "C" __global__ void __launch_bounds__(BLOCK)
sum_losses(const double* losses, i64 n, REAL* loss) {
    SHARED(memory);
    const double sum = block_sum_of(losses, n, (double*)memory);
    if (threadIdx.x == 0) *loss = sum;
}
