// What is done to each element, or down each column of channels. Activations at pixel strides. Sizes of C count units.

// y = x + b, where there is a b; then max(y, 0), where that is asked for: NaN is not <= 0, and stays. y may be x.
extern "C" __global__ void __launch_bounds__(BLOCK)
add_bias_relu(const REAL* x, i64 x_pixel, const REAL* b, i64 with_relu, REAL* y, i64 y_pixel, i64 c_size, i64 count, i64 width) {
    i64 i = thread();
    if (i >= count) return;
    const i64 c = last_index(i, c_size);
    by_units(width, [&](auto unit) {
        unit = load<decltype(unit)>(x + i * x_pixel, c);
        for (int j = 0; j < unit.size; j++) {
            if (b) unit.of[j] += b[c * unit.size + j];
            if (with_relu && unit.of[j] <= 0) unit.of[j] = 0;
        }
        store(y + i * y_pixel, c, unit);
    });
}

// dx = dy where y > 0, else 0.
extern "C" __global__ void __launch_bounds__(BLOCK)
relu_grad(const REAL* dy, i64 dy_pixel, const REAL* y, i64 y_pixel, REAL* dx, i64 c_size, i64 count, i64 width) {
    const i64 at = thread();
    if (at >= count) return;
    i64 i = at;
    const i64 c = last_index(i, c_size);
    by_units(width, [&](auto unit) {
        unit = load<decltype(unit)>(dy + i * dy_pixel, c);
        const auto out = load<decltype(unit)>(y + i * y_pixel, c);
        for (int j = 0; j < unit.size; j++) unit.of[j] = out.of[j] > 0 ? unit.of[j] : REAL(0);
        store(dx, at, unit);
    });
}

// sums[blockIdx.y, c] = sum over the block's rows of a, in double. Threads are laid out as (rows, columns); `columns` is a power
// of two, so that the rows of threads are halved until one is left. Where there is a mask, only what lies where it is > 0 counts.
template <typename In, typename Out>
__device__ void add_rows(const In* a, i64 a_row, const In* mask, i64 mask_row, i64 n_rows, i64 c_size, i64 chunk, i64 columns,
                         Out* sums) {
    SHARED(memory);
    double* of_thread = (double*)memory;
    const i64 c = blockIdx.x * columns + threadIdx.x % columns, first = blockIdx.y * chunk;
    const i64 last = first + chunk < n_rows ? first + chunk : n_rows;
    double sum = 0;
    if (c < c_size) {
        for (i64 i = first + threadIdx.x / columns; i < last; i += BLOCK / columns) {
            const double value = a[i * a_row + c];  // always loaded: so several loads are on their way at once
            if (!mask || mask[i * mask_row + c] > 0) sum += value;
        }
    }
    of_thread[threadIdx.x] = sum;
    for (unsigned half = BLOCK / 2; half >= columns; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of_thread[threadIdx.x] += of_thread[threadIdx.x + half];
    }
    if (threadIdx.x < columns && c < c_size) sums[blockIdx.y * c_size + c] = of_thread[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(BLOCK)
sum_chunks(const REAL* a, i64 a_row, const REAL* mask, i64 mask_row, i64 n_rows, i64 c_size, i64 chunk, i64 columns,
           double* sums) {
    add_rows<REAL, double>(a, a_row, mask, mask_row, n_rows, c_size, chunk, columns, sums);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
sum_sums(const double* sums, i64 n_rows, i64 c_size, i64 columns, REAL* total) {
    add_rows<double, REAL>(sums, c_size, nullptr, 0, n_rows, c_size, n_rows, columns, total);
}
