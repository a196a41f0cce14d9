// im2col and its adjoint. x (N, H, W, C) at a pixel stride; the matrix (N P Q, R S C), dense. Sizes of C count units.

// Each unit of the matrix fetches its own: 0 where its tap lies outside the image.
extern "C" __global__ void __launch_bounds__(BLOCK)
im2col(const STORE* x, i64 x_pixel, STORE* cols, i64 count, i64 h_size, i64 w_size, i64 c_size, i64 r_size, i64 s_size, i64 p_size,
       i64 q_size, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w, i64 width) {
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

// Each unit of x sums its copies: of tap after tap, as the specification does, so that both round alike.
extern "C" __global__ void __launch_bounds__(BLOCK)
col2im(const STORE* cols, STORE* x, i64 count, i64 h_size, i64 w_size, i64 c_size, i64 r_size, i64 s_size, i64 p_size, i64 q_size,
       i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w, i64 width) {
    const i64 at = thread();
    if (at >= count) return;
    i64 n = at;
    const i64 c = last_index(n, c_size), w = last_index(n, w_size) + pad_w, h = last_index(n, h_size) + pad_h;
    by_units(width, [&](auto unit) {
        Unit<REAL, unit.size> sum{};
        for (i64 r = h % stride_h, p = h / stride_h; r < r_size && p >= 0; r += stride_h, p--) {
            if (p >= p_size) continue;
            for (i64 s = w % stride_w, q = w / stride_w; s < s_size && q >= 0; s += stride_w, q--) {
                if (q >= q_size) continue;
                const i64 tap = (((n * p_size + p) * q_size + q) * r_size + r) * s_size + s;
                const auto copy = load<decltype(unit)>(cols, tap * c_size + c);
                for (int j = 0; j < sum.size; j++) sum.of[j] += copy.of[j];
            }
        }
        store(x, at, unit_of<STORE>(sum));
    });
}
