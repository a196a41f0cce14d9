// Max-pooling, any window and stride, overlapping too. x at a pixel stride; y and argmax (N, P, Q, C). Sizes of C count units.

// The first of equals is the largest, and the first NaN before any number. `place` counts through the window, row by row.
extern "C" __global__ void __launch_bounds__(BLOCK)
max_pool(const STORE* x, i64 x_pixel, STORE* y, u8* argmax, i64 count, i64 h_size, i64 w_size, i64 c_size, i64 p_size, i64 q_size,
         i64 r_size, i64 s_size, i64 stride_h, i64 stride_w, i64 width) {
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
max_pool_grad(const STORE* dy, i64 dy_pixel, const u8* argmax, const STORE* plus, i64 plus_pixel, STORE* dx, i64 count, i64 h_size,
              i64 w_size, i64 c_size, i64 p_size, i64 q_size, i64 r_size, i64 s_size, i64 stride_h, i64 stride_w, i64 width) {
    const i64 at = thread();
    if (at >= count) return;
    i64 n = at;
    const i64 c = last_index(n, c_size);
    const STORE* before = plus + n * plus_pixel;
    const i64 w = last_index(n, w_size), h = last_index(n, h_size);
    by_units(width, [&](auto unit) {
        auto sum = unit_of<REAL>(plus ? load<decltype(unit)>(before, c) : unit);
        for (i64 r = h % stride_h, p = h / stride_h; r < r_size && p >= 0; r += stride_h, p--) {
            if (p >= p_size) continue;
            for (i64 s = w % stride_w, q = w / stride_w; s < s_size && q >= 0; s += stride_w, q--) {
                if (q >= q_size) continue;
                const i64 i = (n * p_size + p) * q_size + q;
                const auto found = load<Unit<u8, sum.size>>(argmax, i * c_size + c);
                const auto value = load<decltype(unit)>(dy + i * dy_pixel, c);
                for (int j = 0; j < sum.size; j++)
                    if (found.of[j] == r * s_size + s) sum.of[j] += value.of[j];
            }
        }
        store(dx, at, unit_of<STORE>(sum));
    });
}
