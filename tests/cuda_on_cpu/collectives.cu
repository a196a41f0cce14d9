// Each function of kernels/gpu/common.cuh by itself, for the tests of the shim; the compile gate builds it too.

extern "C" __global__ void exchange(const REAL* x, REAL* y, i64 lane_mask) {
    y[thread()] = shuffle_xor(x[thread()], (int)lane_mask);
}

// Lane l brings row l, of 8 numbers of 16 bits.
extern "C" __global__ void matrices(const unsigned* rows, unsigned* r_of_lanes, i64 transposed) {
    SHARED(shared);
    unsigned* const mine = (unsigned*)shared + 4 * threadIdx.x;
    for (int i = 0; i < 4; i++) mine[i] = rows[4 * threadIdx.x + i];
    __syncthreads();
    unsigned r[4];
    if (transposed)
        ldmatrix_x4_trans(r, mine);
    else
        ldmatrix_x4(r, mine);
    for (int i = 0; i < 4; i++) r_of_lanes[4 * threadIdx.x + i] = r[i];
}

#if __CUDA_ARCH__ >= 800 || defined(MINUNET_ON_CPU)

extern "C" __global__ void rounded(const float* x, unsigned* y, i64 n) {
    if (thread() < n) y[thread()] = as_tf32(x[thread()]);
}

// a (32, 4) and b (32, 2): what each lane holds of the factors; d (32, 4): of the sum before, and after.
extern "C" __global__ void product(const unsigned* a, const unsigned* b, float* d, i64 bf16) {
    const unsigned *own_a = a + 4 * threadIdx.x, *own_b = b + 2 * threadIdx.x;
    float* const own_d = d + 4 * threadIdx.x;
    unsigned ra[4] = {own_a[0], own_a[1], own_a[2], own_a[3]}, rb[2] = {own_b[0], own_b[1]};
    float rd[4] = {own_d[0], own_d[1], own_d[2], own_d[3]};
    if (bf16)
        mma_bf16(rd, ra, rb);
    else
        mma_tf32(rd, ra, rb);
    for (int i = 0; i < 4; i++) own_d[i] = rd[i];
}

// x (2, 32), y (4, 32): the first half of x before it has arrived, and after; the second half then, and after it has arrived.
extern "C" __global__ void copied(const float* x, float* y, i64 n_valid) {
    SHARED(shared);
    float* const s = (float*)shared + threadIdx.x;
    x += threadIdx.x, y += threadIdx.x;
    s[0] = s[32] = -1;  // what a copy under way makes worthless
    cp_async_4(s, x, threadIdx.x < n_valid);
    cp_async_commit();
    cp_async_4(s + 32, x + 32, true);
    cp_async_commit();
    y[0] = s[0];
    cp_async_wait<1>();
    y[32] = s[0];
    y[64] = s[32];
    cp_async_wait<0>();
    y[96] = s[32];
}

extern "C" __global__ void copied_16(const float* x, float* y, i64 n_valid, i64 commit) {
    SHARED(shared);
    float* const s = (float*)shared + 4 * threadIdx.x;
    cp_async_16(s, x + 4 * threadIdx.x, threadIdx.x < n_valid);
    if (commit) cp_async_commit();
    cp_async_wait<0>();
    for (int i = 0; i < 4; i++) y[4 * threadIdx.x + i] = s[i];
}

#endif
