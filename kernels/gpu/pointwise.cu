// What is done to each element, or down each column of channels. Activations at pixel strides. Sizes of C count units.

// y = x + b, where there is a b; then max(y, 0), where that is asked for: NaN is not <= 0, and stays. y may be x.
extern "C" __global__ void __launch_bounds__(BLOCK)
add_bias_relu(const STORE* x, i64 x_pixel, const REAL* b, i64 with_relu, STORE* y, i64 y_pixel, i64 c_size, i64 count, i64 width) {
    i64 i = thread();
    if (i >= count) return;
    const i64 c = last_index(i, c_size);
    by_units(width, [&](auto unit) {
        unit = load<decltype(unit)>(x + i * x_pixel, c);
        for (int j = 0; j < unit.size; j++) {
            REAL v = unit.of[j];
            if (b) v += b[c * unit.size + j];
            unit.of[j] = with_relu && v <= 0 ? REAL(0) : v;
        }
        store(y + i * y_pixel, c, unit);
    });
}

template <typename U> __device__ __forceinline__ U where_positive(U dy, const U& y) {
    for (int j = 0; j < U::size; j++) dy.of[j] = y.of[j] > 0 ? REAL(dy.of[j]) : REAL(0);
    return dy;
}

// dx = dy where y > 0, else 0.
extern "C" __global__ void __launch_bounds__(BLOCK)
relu_grad(const STORE* dy, i64 dy_pixel, const STORE* y, i64 y_pixel, STORE* dx, i64 c_size, i64 count, i64 width) {
    const i64 at = thread();
    if (at >= count) return;
    i64 i = at;
    const i64 c = last_index(i, c_size);
    by_units(width, [&](auto unit) {
        unit = load<decltype(unit)>(dy + i * dy_pixel, c);
        store(dx, at, where_positive(unit, load<decltype(unit)>(y + i * y_pixel, c)));
    });
}

// sums[blockIdx.y, c] = sum over the block's rows of what `units(row, c)` gives, in double. Threads are laid out as (rows, units
// of columns); `columns`, in units as c_size, is a power of two, so that the rows of threads are halved until one is left.
template <typename U, typename Units, typename Out>
__device__ void add_rows(const Units& units, i64 n_rows, i64 c_size, i64 chunk, i64 columns, Out* sums) {
    SHARED(memory);
    double* of_thread = (double*)memory + threadIdx.x;
    const i64 c = blockIdx.x * columns + threadIdx.x % columns, first = blockIdx.y * chunk;
    const i64 last = first + chunk < n_rows ? first + chunk : n_rows;
    double sum[U::size] = {};
    if (c < c_size) {
        for (i64 row = first + threadIdx.x / columns; row < last; row += BLOCK / columns) {
            const U unit = units(row, c);
            for (int j = 0; j < U::size; j++) sum[j] += unit.of[j];
        }
    }
    for (int j = 0; j < U::size; j++) of_thread[j * BLOCK] = sum[j];
    for (unsigned half = BLOCK / 2; half >= columns; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            for (int j = 0; j < U::size; j++) of_thread[j * BLOCK] += of_thread[j * BLOCK + half];
    }
    if (threadIdx.x < columns && c < c_size)
        for (int j = 0; j < U::size; j++) sums[(blockIdx.y * c_size + c) * U::size + j] = of_thread[j * BLOCK];
}

// A unit from an address at which it may not be aligned: the sum's order is that of units, and must not depend on addresses.
template <typename U> __device__ __forceinline__ U load_any(const STORE* a, i64 c, bool aligned) {
    if (aligned) return load<U>(a, c);
    U unit;
    for (int j = 0; j < U::size; j++) unit.of[j] = a[c * U::size + j];
    return unit;
}

// Sums of dy; and where there is a y, of dy where y > 0, which goes to dx, 0 elsewhere.
extern "C" __global__ void __launch_bounds__(BLOCK)
sum_chunks(const STORE* dy, i64 dy_pixel, const STORE* y, i64 y_pixel, STORE* dx, i64 n_pixels, i64 c_size, i64 chunk, i64 columns,
           double* sums, i64 width, i64 aligned) {
    by_units(width, [&](auto unit) {
        using U = decltype(unit);
        const auto units = [&](i64 pixel, i64 c) {
            U found = load_any<U>(dy + pixel * dy_pixel, c, aligned);
            if (!y) return found;
            found = where_positive(found, load_any<U>(y + pixel * y_pixel, c, aligned));
            store(dx, pixel * c_size + c, found);
            return found;
        };
        add_rows<U>(units, n_pixels, c_size, chunk, columns, sums);
    });
}

extern "C" __global__ void __launch_bounds__(BLOCK)
sum_sums(const double* sums, i64 n_rows, i64 c_size, i64 columns, REAL* total) {
    using U = Unit<double, 1>;
    add_rows<U>([&](i64 row, i64 c) { return load<U>(sums, row * c_size + c); }, n_rows, c_size, n_rows, columns, total);
}

// Each number of a in another type: bf16 in place of float, or the other way round.
#if NARROW
extern "C" __global__ void __launch_bounds__(BLOCK) narrow(const REAL* a, STORE* b, i64 count) {
    const i64 i = thread();
    if (i < count) b[i] = a[i];
}
extern "C" __global__ void __launch_bounds__(BLOCK) widen(const STORE* a, REAL* b, i64 count) {
    const i64 i = thread();
    if (i < count) b[i] = a[i];
}
#endif
