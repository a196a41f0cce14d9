// The update rules, over flat arrays, in place. Where the compiler fuses a product and a sum, one rounding is missing: so what
// these give may differ from what the CPU gives in the last bit. Nothing is written where the loss is not finite.

__device__ bool is_lost(const REAL* loss) {
    return loss && *loss - *loss != 0;  // infinity - infinity is NaN
}

// v = momentum v + (g + weight_decay p); p = p - learning_rate v.
extern "C" __global__ void __launch_bounds__(BLOCK)
sgd(REAL* param, const REAL* grad, REAL* velocity, i64 count, double learning_rate, double momentum, double weight_decay,
    const REAL* loss, i64 width) {
    const i64 i = thread();
    if (i >= count || is_lost(loss)) return;
    const REAL rate = learning_rate, keep = momentum, decay = weight_decay;
    by_units(width, [&](auto p) {
        p = load<decltype(p)>(param, i);
        const auto g = load<decltype(p)>(grad, i);
        auto v = load<decltype(p)>(velocity, i);
        for (int j = 0; j < p.size; j++) {
            v.of[j] = keep * v.of[j] + (g.of[j] + decay * p.of[j]);
            p.of[j] -= rate * v.of[j];
        }
        store(velocity, i, v);
        store(param, i, p);
    });
}

// m = beta1 m + rest1 g; v = beta2 v + rest2 g g; step = correct1 m / (sqrt(correct2 v) + epsilon);
// p = p - learning_rate (step + weight_decay p).
extern "C" __global__ void __launch_bounds__(BLOCK)
adam(REAL* param, const REAL* grad, REAL* m_start, REAL* v_start, i64 count, double learning_rate, double beta1, double rest1,
     double beta2, double rest2, double correct1, double correct2, double epsilon, double weight_decay, const REAL* loss,
     i64 width) {
    const i64 i = thread();
    if (i >= count || is_lost(loss)) return;
    const REAL rate = learning_rate, keep1 = beta1, new1 = rest1, keep2 = beta2, new2 = rest2;
    const REAL scale1 = correct1, scale2 = correct2, small = epsilon, decay = weight_decay;
    by_units(width, [&](auto p) {
        p = load<decltype(p)>(param, i);
        const auto g = load<decltype(p)>(grad, i);
        auto m = load<decltype(p)>(m_start, i), v = load<decltype(p)>(v_start, i);
        for (int j = 0; j < p.size; j++) {
            m.of[j] = keep1 * m.of[j] + new1 * g.of[j];
            v.of[j] = keep2 * v.of[j] + new2 * g.of[j] * g.of[j];
            const REAL step = scale1 * m.of[j] / (sqrt(scale2 * v.of[j]) + small);
            p.of[j] -= rate * (step + decay * p.of[j]);
        }
        store(m_start, i, m);
        store(v_start, i, v);
        store(param, i, p);
    });
}
