// What looks through windows: im2col, its adjoint, max-pooling. x (N, H, W, C) at a pixel stride; y and argmax (N, P, Q, C) and
// the matrix (N P Q, R S C), dense. Sizes of C count units.

#define GEOMETRY                                                                                                                \
    i64 count, i64 h_size, i64 w_size, i64 c_size, i64 r_size, i64 s_size, i64 p_size, i64 q_size, i64 stride_h, i64 stride_w, \
        i64 pad_h, i64 pad_w, i64 width

// Each unit of the matrix fetches its own: 0 where its tap lies outside the image.
extern "C" __global__ void __launch_bounds__(BLOCK) im2col(const STORE* x, i64 x_pixel, STORE* cols, GEOMETRY) {
    const i64 at = thread();
    if (at >= count) return;
    i64 n = at;
    const i64 c = last_index(n, c_size), s = last_index(n, s_size), r = last_index(n, r_size);
    const i64 q = last_index(n, q_size), p = last_index(n, p_size);
    const i64 h = p * stride_h - pad_h + r, w = q * stride_w - pad_w + s;
    const bool inside = h >= 0 && h < h_size && w >= 0 && w < w_size;
    by_units(width, [&](auto unit) {
        if (inside) unit = load<decltype(unit)>(x + ((n * h_size + h) * w_size + w) * x_pixel, c);
        store(cols, at, unit);
    });
}

// Run the body with each window that sees a pixel of the padded image, and the tap by which it does, tap after tap.
template <typename Body>
__device__ __forceinline__ void by_windows(
    i64 n, i64 h, i64 w, i64 r_size, i64 s_size, i64 p_size, i64 q_size, i64 stride_h, i64 stride_w, Body body) {
    for (i64 r = h % stride_h, p = h / stride_h; r < r_size && p >= 0; r += stride_h, p--) {
        if (p >= p_size) continue;
        for (i64 s = w % stride_w, q = w / stride_w; s < s_size && q >= 0; s += stride_w, q--) {
            if (q >= q_size) continue;
            body((n * p_size + p) * q_size + q, r, s);
        }
    }
}

// Each unit of x sums its copies: of tap after tap, as the specification does, so that both round alike.
extern "C" __global__ void __launch_bounds__(BLOCK) col2im(const STORE* cols, STORE* x, GEOMETRY) {
    const i64 at = thread();
    if (at >= count) return;
    i64 n = at;
    const i64 c = last_index(n, c_size), w = last_index(n, w_size) + pad_w, h = last_index(n, h_size) + pad_h;
    by_units(width, [&](auto unit) {
        Unit<REAL, unit.size> sum{};
        by_windows(n, h, w, r_size, s_size, p_size, q_size, stride_h, stride_w, [&](i64 window, i64 r, i64 s) {
            const auto copy = load<decltype(unit)>(cols, ((window * r_size + r) * s_size + s) * c_size + c);
            for (int j = 0; j < sum.size; j++) sum.of[j] += copy.of[j];
        });
        store(x, at, unit_of<STORE>(sum));
    });
}

// The first of equals is the largest, and the first NaN before any number. `place` counts through the window, row by row.
extern "C" __global__ void __launch_bounds__(BLOCK) max_pool(const STORE* x, i64 x_pixel, STORE* y, u8* argmax, GEOMETRY) {
    const i64 at = thread();
    if (at >= count) return;
    i64 n = at;
    const i64 c = last_index(n, c_size), q = last_index(n, q_size), p = last_index(n, p_size);
    const STORE* window = x + ((n * h_size + p * stride_h) * w_size + q * stride_w) * x_pixel;
    by_units(width, [&](auto largest) {
        Unit<u8, largest.size> found{};
        largest = load<decltype(largest)>(window, c);
        for (int place = 1, r = 0, s = 1; place < r_size * s_size; place++, s++) {
            if (s == s_size) r++, s = 0;
            const auto value = load<decltype(largest)>(window + (r * w_size + s) * x_pixel, c);
            for (int j = 0; j < largest.size; j++) {
                const REAL best = largest.of[j], here = value.of[j];
                const bool better = here > best || (here != here && best == best);
                largest.of[j] = better ? here : best;
                found.of[j] = better ? place : found.of[j];
            }
        }
        store(y, at, largest);
        store(argmax, at, found);
    });
}

// Each unit of dx gathers dy from the windows in which it was the largest, in the order of its places in them, beside what it
// has of `plus`, if there is one.
extern "C" __global__ void __launch_bounds__(BLOCK)
max_pool_grad(const STORE* dy, i64 dy_pixel, const u8* argmax, const STORE* plus, i64 plus_pixel, STORE* dx, GEOMETRY) {
    const i64 at = thread();
    if (at >= count) return;
    i64 n = at;
    const i64 c = last_index(n, c_size);
    const STORE* before = plus + n * plus_pixel;
    const i64 w = last_index(n, w_size), h = last_index(n, h_size);
    by_units(width, [&](auto unit) {
        auto sum = unit_of<REAL>(plus ? load<decltype(unit)>(before, c) : unit);
        by_windows(n, h, w, r_size, s_size, p_size, q_size, stride_h, stride_w, [&](i64 window, int r, int s) {
            const auto found = load<Unit<u8, decltype(sum)::size>>(argmax, window * c_size + c);
            const auto value = load<decltype(unit)>(dy + window * dy_pixel, c);
            for (int j = 0; j < sum.size; j++)
                if (found.of[j] == r * int(s_size) + s) sum.of[j] += value.of[j];
        });
        store(dx, at, unit_of<STORE>(sum));
    });
}
