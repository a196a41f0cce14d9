// The update rules, over flat arrays, in place. Where the compiler fuses a product and a sum, one rounding is missing: so what
// these give may differ from what the CPU gives in the last bit. Nothing is written where the loss is not finite.

__device__ bool is_lost(const REAL* loss) {
    return loss && *loss - *loss != 0;  // infinity - infinity is NaN
}

// d = g + weight_decay p; v = momentum v + d; p = p - learning_rate v, or, with Nesterov, p - learning_rate (d + momentum v).
extern "C" __global__ void __launch_bounds__(BLOCK)
sgd(REAL* param, const REAL* grad, REAL* velocity, i64 count, double learning_rate, double momentum, double weight_decay,
    double nesterov, const REAL* loss, i64 width) {
    const i64 i = thread();
    if (i >= count || is_lost(loss)) return;
    const REAL rate = learning_rate, keep = momentum, decay = weight_decay;
    by_units(width, [&](auto p) {
        p = load<decltype(p)>(param, i);
        const auto g = load<decltype(p)>(grad, i);
        auto v = load<decltype(p)>(velocity, i);
        for (int j = 0; j < p.size; j++) {
            const REAL decayed = g.of[j] + decay * p.of[j];
            v.of[j] = keep * v.of[j] + decayed;
            p.of[j] -= rate * (nesterov != 0 ? decayed + keep * v.of[j] : v.of[j]);
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

// mean = mean + rest (p - mean).
extern "C" __global__ void __launch_bounds__(BLOCK)
average(REAL* mean, const REAL* param, i64 count, double rest, i64 width) {
    const i64 i = thread();
    if (i >= count) return;
    const REAL share = rest;
    by_units(width, [&](auto m) {
        m = load<decltype(m)>(mean, i);
        const auto p = load<decltype(m)>(param, i);
        for (int j = 0; j < m.size; j++) m.of[j] += share * (p.of[j] - m.of[j]);
        store(mean, i, m);
    });
}

// The sum of what the block's threads have, for the first of them: halves are added until one is left.
__device__ double sum_of_block(double own) {
    SHARED(memory);
    double* of_thread = (double*)memory + threadIdx.x;
    *of_thread = own;
    for (unsigned half = BLOCK / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) *of_thread += of_thread[half];
    }
    return *of_thread;
}

// sums[blockIdx.x] = sum of the squares of the block's chunk, in double.
extern "C" __global__ void __launch_bounds__(BLOCK)
sum_squares(const REAL* grad, i64 count, i64 chunk, double* sums) {
    const i64 first = blockIdx.x * chunk, last = first + chunk < count ? first + chunk : count;
    double own = 0;
    for (i64 i = first + threadIdx.x; i < last; i += BLOCK) own += (double)grad[i] * (double)grad[i];
    const double sum = sum_of_block(own);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// norm = the root of the sum of all sums: one block.
extern "C" __global__ void __launch_bounds__(BLOCK)
norm_of_sums(const double* sums, i64 count, double* norm) {
    double own = 0;
    for (i64 i = threadIdx.x; i < count; i += BLOCK) own += sums[i];
    const double sum = sum_of_block(own);
    if (threadIdx.x == 0) *norm = sqrt(sum);
}

// g = g min(1, most / norm): a norm that is NaN changes nothing, for then a number of g is.
extern "C" __global__ void __launch_bounds__(BLOCK)
clip(REAL* grad, i64 count, const double* norm, double most, i64 width) {
    const i64 i = thread();
    if (i >= count || !(*norm > most)) return;
    const REAL scale = most / *norm;
    by_units(width, [&](auto g) {
        g = load<decltype(g)>(grad, i);
        for (int j = 0; j < g.size; j++) g.of[j] *= scale;
        store(grad, i, g);
    });
}
