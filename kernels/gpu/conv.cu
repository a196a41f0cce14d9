// The three convolutions, each a product of matrices that are never built ("implicit GEMM").
//
// Of an image a, im2col makes the matrix of its columns: a row for each window (n, p, q), a column for each tap (i, j, c),
//
//     columns(a)[(n, p, q), (i, j, c)] = a[n, first + p step + i tap, first + q step + j tap, c], and 0 outside of the image,
//
// with two numbers each for first, step and tap: along the height and along the width. All six factors are such matrices:
//
//     y  = columns(x) w           x with step = stride, tap = 1, first = -padding; w as it lies is (R S C, K), an image of
//                                 one row with 1 x 1 windows.
//     dw = columns(x)^T dy        dy is (N P Q, K), its own 1 x 1 windows.
//     dx = columns(dy) w'         Pixel h of dx is seen by tap r of window p where h = p stride + r - padding: by every
//                                 stride-th tap. So pixels h = phase + t stride of one phase have their own product: with
//                                 r = r0 + i stride and r0 = (phase + padding) mod stride, it is p = t + first - i where
//                                 first = (phase + padding - r0) / stride. That is step = 1, tap = -1 on dy; and w' is
//                                 (taps i, j of the phase; K) x C, columns of w as one image of R x (S C) pixels and K
//                                 channels, whose C windows lie side by side, with tap = (stride, stride C) and first =
//                                 (r0, s0 C). No tap is multiplied by zeros between pixels, and rows of the product go to
//                                 their phase's pixels: the pixel shuffle.
//
// A block of threads makes ROWS x COLUMNS elements of the product. It walks along the depth, over which is summed, in chunks of
// DEPTH: taps for y and dx, windows for dw. A chunk of both factors comes into shared memory while earlier ones are multiplied:
//
//     AlongTaps       rows of the tile are windows, the depth is taps       x for y, dy and w for dx
//     AlongWindows    rows of the tile are taps, the depth is windows       w for y, x and dy for dw
//
// Neither divides while it walks: an index moves by a constant, digit by digit. What lies outside is zeros, be it padding, the
// rest of a tile or the end of the depth. dw's depth is cut into parts by the shape alone; each part writes its own sum, and
// `sum_parts` adds them in order. Within a part the order of summation is that of the depth. So bits depend on nothing else:
// not on the width of tiles or loads, and those of y and dx not on how many images there are.
//
// The compiler is told what to make, by plan.py, whose Tile says what ROWS, COLUMNS, VECTOR, DEPTH, STAGES and SPACE are. With
// TENSOR, tensor cores multiply factors rounded to TF32 (11 bits), or bf16 as they are, and add in float; without, multiply-adds
// in REAL. STORE is what images and w lie in memory as: REAL, or bf16, of which products are exact in REAL.

#if !TENSOR || __CUDA_ARCH__ >= 800 || defined(MINUNET_ON_CPU)

template <bool FIRST, typename A, typename B> struct Either { typedef A type; };
template <typename A, typename B> struct Either<false, A, B> { typedef B type; };

typedef Either<bool(TENSOR), STORE, REAL>::type Factor;  // a number in shared memory

constexpr int PIECE = 16 / sizeof(Factor);  // numbers that ldmatrix and the tensor cores' fragments take together
constexpr int HALVES = 2;  // of a chunk: while one is multiplied, a half of a later chunk is in registers at most
constexpr int RESIDENT = VECTOR > 1 ? 2 : 1;  // blocks on a multiprocessor, for which registers must suffice
constexpr int NOWHERE = -LIMIT;  // above any image

// ---- Indices: a window (n, p, q) or a tap (i, j, c), digit by digit ----

struct Digits {
    int high, middle, low;
};

__device__ __forceinline__ i64 quotient(i64 a, int b) { return a >> 32 ? a / b : i64(unsigned(a) / unsigned(b)); }

__device__ __forceinline__ Digits digits(i64 index, int middle, int low) {
    const i64 rest = quotient(index, low), high = quotient(rest, middle);
    return {int(high), int(rest - high * middle), int(index - rest * low)};
}

__device__ __forceinline__ Digits sum(Digits a, Digits b, int middle, int low) {
    Digits s{a.high + b.high, a.middle + b.middle, a.low + b.low};
    if (s.low >= low) s.low -= low, ++s.middle;
    if (s.middle >= middle) s.middle -= middle, ++s.high;
    return s;
}

// ---- The matrix columns(a) ----

struct Place {  // where a window's first tap lies: its pixel's number among those of all images, and its place in its own
    int pixel, y, x;
};

struct Tap {  // how far from there a tap lies, and its channel
    int pixel, y, x, c;
};

struct Columns {
    const STORE* a;
    int step;  // numbers from a pixel to the next
    int h, w;
    int n, p, q;  // windows
    int i, j, c;  // taps and channels
    int step_h, step_w, tap_h, tap_w, first_h, first_w;

    __device__ __forceinline__ Place place(Digits window) const {
        if (window.high >= n) return {0, NOWHERE, 0};
        const int y = first_h + window.middle * step_h, x = first_w + window.low * step_w;
        return {(window.high * h + y) * w + x, y, x};
    }
    __device__ __forceinline__ Tap tap(Digits t) const {
        if (t.high >= i) return {0, NOWHERE, 0, 0};
        const int y = t.high * tap_h, x = t.middle * tap_w;
        return {y * w + x, y, x, t.low};
    }
};

// 1 x 1 windows of N images: as a matrix, the images as they lie.
__device__ __forceinline__ Columns points(const STORE* a, i64 step, int n, int h, int w, int c) {
    return {a, int(step), h, w, n, h, w, 1, 1, c, 1, 1, 1, 1, 0, 0};
}

// ---- Tiles in shared memory ----

// BY_ROWS: a row's DEPTH numbers in turn, 64 bytes in four pieces that change places from row to row, so that eight rows of
// one piece (what ldmatrix reads) lie in all 32 banks, as do the two whole rows that eight threads write. Otherwise all rows'
// numbers of one depth in turn, and so much space between depths that 4 depths of 8 rows (what the lanes of a warp read for
// mma) lie in all banks too, or vectors along the depth (which multiply-adds want across it) meet in few when they are written.
template <int WIDE, bool BY_ROWS> struct Tile {
    static constexpr int LINE = WIDE + SPACE;
    static constexpr int SIZE = BY_ROWS ? WIDE * DEPTH : LINE * DEPTH;
    static constexpr int DEPTH_STEP = BY_ROWS ? 1 : LINE;

    __device__ __forceinline__ static int at(int row, int depth) {
        if (BY_ROWS) return row * DEPTH + (depth / PIECE ^ (row / 2 & 3)) * PIECE + depth % PIECE;
        return depth * LINE + row;
    }
};

// ---- From memory into a tile ----

struct Parcel {  // one vector on its way: straight into shared memory for tensor cores, else through registers
    Unit<STORE, VECTOR> value;

    __device__ __forceinline__ void fetch(const Columns& of, Place place, Tap tap, Factor* to) {
        const int y = place.y + tap.y, x = place.x + tap.x;
        const bool inside = unsigned(y) < unsigned(of.h) && unsigned(x) < unsigned(of.w);
        const i64 pixel = inside ? place.pixel + tap.pixel : 0;
        const STORE* from = of.a + pixel * of.step + tap.c;
#if TENSOR
        if constexpr (sizeof value == 16)
            cp_async_16(to, from, inside);
        else
            cp_async_4(to, from, inside);
#else
        value = inside ? load<decltype(value)>(from, 0) : decltype(value){};
#endif
    }

    // Step: from one number of the vector to the next, in the tile.
    template <int STEP> __device__ __forceinline__ void put(Factor* to) const {
        if constexpr (TENSOR) return;
        const auto v = unit_of<Factor>(value);
        if constexpr (STEP == 1)
            store(to, 0, v);
        else
            for (int e = 0; e < VECTOR; ++e) to[e * STEP] = v.of[e];
    }
};

// A loader moves chunk after chunk, in halves: `begin` sends the next half off, `end` puts down what goes through registers.

// The first of a half's parcels, of so many that a thread has of a chunk.
__device__ constexpr int first_of(int each, int half) { return half < HALVES ? half * ((each + 1) / HALVES) : each; }

template <int WIDE> struct AlongTaps {
    using Layout = Tile<WIDE, bool(TENSOR)>;  // multiply-adds want the rows in turn
    static constexpr int ACROSS = DEPTH / VECTOR, PASS = BLOCK / ACROSS, EACH = ceil_div(WIDE, PASS);

    const Columns of;
    const int row = threadIdx.x / ACROSS, depth = threadIdx.x % ACROSS * VECTOR;
    Place places[EACH];
    Digits taps, step;
    Parcel parcels[first_of(EACH, 1)];

    __device__ __forceinline__ AlongTaps(const Columns& of, i64 first_row) : of(of) {
#pragma unroll
        for (int e = 0; e < EACH; ++e) places[e] = of.place(digits(first_row + row + e * PASS, of.p, of.q));
        taps = digits(depth, of.j, of.c);
        step = digits(DEPTH, of.j, of.c);
    }
    template <int HALF> __device__ __forceinline__ void begin(Factor* tile) {
        const Tap tap = of.tap(taps);
#pragma unroll
        for (int e = first_of(EACH, HALF); e < first_of(EACH, HALF + 1); ++e)
            if (WIDE >= PASS || row < WIDE)  // a narrow tile has no work for all threads
                parcels[e - first_of(EACH, HALF)].fetch(of, places[e], tap, tile + Layout::at(row + e * PASS, depth));
        if (HALF == HALVES - 1) taps = sum(taps, step, of.j, of.c);
    }
    template <int HALF> __device__ __forceinline__ void end(Factor* tile) const {
#pragma unroll
        for (int e = first_of(EACH, HALF); e < first_of(EACH, HALF + 1); ++e)
            parcels[e - first_of(EACH, HALF)].template put<Layout::DEPTH_STEP>(tile + Layout::at(row + e * PASS, depth));
    }
};

template <int WIDE> struct AlongWindows {
    using Layout = Tile<WIDE, false>;
    static constexpr int ACROSS = WIDE / VECTOR, EACH = ceil_div(DEPTH, BLOCK / ACROSS), PASS = DEPTH / EACH;

    const Columns of;
    const int row = threadIdx.x % ACROSS * VECTOR, depth = threadIdx.x / ACROSS;
    Tap tap;
    Digits window, step;
    Parcel parcels[first_of(EACH, 1)];

    __device__ __forceinline__ AlongWindows(const Columns& of, i64 first_row, i64 first_depth) : of(of) {
        tap = of.tap(digits(first_row + row, of.j, of.c));
        window = digits(first_depth + depth, of.p, of.q);
        step = digits(PASS, of.p, of.q);
    }
    template <int HALF> __device__ __forceinline__ void begin(Factor* tile) {
#pragma unroll
        for (int e = first_of(EACH, HALF); e < first_of(EACH, HALF + 1); ++e) {
            if (DEPTH >= BLOCK / ACROSS || depth < DEPTH)
                parcels[e - first_of(EACH, HALF)].fetch(of, of.place(window), tap, tile + Layout::at(row, depth + e * PASS));
            window = sum(window, step, of.p, of.q);
        }
    }
    template <int HALF> __device__ __forceinline__ void end(Factor* tile) const {
#pragma unroll
        for (int e = first_of(EACH, HALF); e < first_of(EACH, HALF + 1); ++e)
            parcels[e - first_of(EACH, HALF)].template put<1>(tile + Layout::at(row, depth + e * PASS));
    }
};

// ---- The arithmetic: a thread's share of the tile's sums ----

#if TENSOR

// Eight warps, each of TILES x 4 products of 16 x 8, whose fragments common.cuh tells: lane 4 g + t has rows g and g + 8 of the
// left factor, column g of the right one, and rows g and g + 8 of the sums at columns 2 t and 2 t + 1. Of the depth, it has t and
// t + 4 of eight in TF32; in bf16, the pairs from 2 t and 2 t + 8 on of sixteen.
struct Sums {
    static constexpr int WARPS_ACROSS = COLUMNS / 32, WARPS_DOWN = BLOCK / 32 / WARPS_ACROSS;
    static constexpr int TILES = ROWS / WARPS_DOWN / 16;

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = warp / WARPS_ACROSS * TILES * 16, column = warp % WARPS_ACROSS * 32;
    float sums[TILES][4][4] = {};

    template <class A, class B> __device__ __forceinline__ void add(const Factor* a, const Factor* b, int depth) {
        unsigned left[TILES][4], right[2][4];
#pragma unroll
        for (int j = 0; j < 2; ++j) quad<B>(right[j], b, column + 16 * j, depth);
#pragma unroll
        for (int i = 0; i < TILES; ++i) quad<A>(left[i], a, row + 16 * i, depth);
#pragma unroll
        for (int i = 0; i < TILES; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) {  // of 16 columns' quad, eight are at places 0 and 2, eight at 1 and 3
                const unsigned pair[2] = {right[j / 2][j % 2], right[j / 2][j % 2 + 2]};
                if constexpr (NARROW)
                    mma_bf16(sums[i][j], left[i], pair);
                else
                    mma_tf32(sums[i][j], left[i], pair);
            }
    }

    // Of the tile's rows and depths from there: rows g and g + 8 of the first half of the depth, and the same of the second.
    // A row of ldmatrix's is a piece; a pair of its 16-bit numbers is a pair of bf16, or one number of TF32.
    template <class Layout>
    __device__ __forceinline__ void quad(unsigned (&out)[4], const Factor* tile, int row, int depth) const {
        if constexpr (Layout::DEPTH_STEP == 1) {
            ldmatrix_x4(out, tile + Layout::at(row + lane % 16, depth + lane / 16 * PIECE));
        } else if constexpr (NARROW) {  // matrices are of 8 depths x 8 rows
            ldmatrix_x4_trans(out, tile + Layout::at(row + lane / 8 % 2 * 8, depth + lane / 16 * 8 + lane % 8));
        } else {
            const Factor* from = tile + Layout::at(row + lane / 4, depth + lane % 4);
#pragma unroll
            for (int e = 0; e < 4; ++e) out[e] = __float_as_uint(from[Layout::at(e % 2 * 8, e / 2 * 4)]);
        }
        if constexpr (!NARROW)
#pragma unroll
            for (int e = 0; e < 4; ++e) out[e] = as_tf32(__uint_as_float(out[e]));
    }

    template <class Write> __device__ __forceinline__ void each(const Write& write) const {
#pragma unroll
        for (int i = 0; i < TILES; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e)
                    write(row + 16 * i + lane / 4 + 8 * e, column + 8 * j + lane % 4 * 2,
                          Unit<REAL, 2>{sums[i][j][2 * e], sums[i][j][2 * e + 1]});
    }
};

#else

// 16 x 16 threads. A thread's rows lie in groups of 16 bytes, as do its columns, and those of the 16 threads side by side.
struct Sums {
    static constexpr int R = ROWS / 16, C = COLUMNS / 16, WIDE = 16 / sizeof(REAL);
    static constexpr int R_GROUP = R < WIDE ? R : WIDE, C_GROUP = C < WIDE ? C : WIDE;

    const int row = threadIdx.x / 16 * R_GROUP, column = threadIdx.x % 16 * C_GROUP;
    REAL sums[R][C] = {};

    template <class A, class B> __device__ __forceinline__ void add(const Factor* a, const Factor* b, int first) {
#pragma unroll
        for (int depth = first; depth < first + DEPTH / HALVES; ++depth) {
            REAL left[R], right[C];
            gather<R, R_GROUP>(left, a + A::at(row, depth));
            gather<C, C_GROUP>(right, b + B::at(column, depth));
#pragma unroll
            for (int i = 0; i < R; ++i)
#pragma unroll
                for (int j = 0; j < C; ++j) sums[i][j] += left[i] * right[j];
        }
    }

    template <int N, int GROUP> __device__ __forceinline__ static void gather(REAL (&out)[N], const REAL* from) {
#pragma unroll
        for (int i = 0; i < N; i += GROUP) {
            const auto v = load<Unit<REAL, GROUP>>(from + 16 * i, 0);
#pragma unroll
            for (int e = 0; e < GROUP; ++e) out[i + e] = v.of[e];
        }
    }

    template <class Write> __device__ __forceinline__ void each(const Write& write) const {
#pragma unroll
        for (int i = 0; i < R; ++i)
#pragma unroll
            for (int j = 0; j < C; j += C_GROUP) {
                Unit<REAL, C_GROUP> v;
#pragma unroll
                for (int e = 0; e < C_GROUP; ++e) v.of[e] = sums[i][j + e];
                write(row + i / R_GROUP * 16 * R_GROUP + i % R_GROUP, column + 16 * j, v);
            }
    }
};

#endif

// ---- The product ----

template <typename T> struct Output {  // rows of the product are windows of an image's pixels, or rows in turn
    T* a;
    i64 step;  // numbers from a pixel to the next
    i64 rows;
    int columns;
    i64 column_step;  // numbers from a column to the next: other than 1 only where one number is stored at a time
    const REAL* bias;  // or null
    bool relu;
    int h, w, p, q, step_h, step_w, first_h, first_w;

    __device__ __forceinline__ i64 at(i64 row) const {
        if (step_h == 1 && step_w == 1) return row * step;
        const Digits d = digits(row, p, q);
        return ((i64(d.high) * h + first_h + d.middle * step_h) * w + first_w + d.low * step_w) * step;
    }
    template <int N> __device__ __forceinline__ void write(i64 to, int column, const Unit<REAL, N>& sums) const {
        Unit<T, N> v;
#pragma unroll
        for (int e = 0; e < N; ++e) {
            REAL sum = sums.of[e];
            if (bias && column + e < columns) sum += bias[column + e];
            if (relu && sum <= 0) sum = 0;  // a NaN stays
            v.of[e] = sum;
        }
        if constexpr (VECTOR > 1) {
            if (column < columns) store(a + to + column, 0, v);
        } else {
#pragma unroll
            for (int e = 0; e < N; ++e)
                if (column + e < columns) a[to + (column + e) * column_step] = v.of[e];
        }
    }
};

__device__ __forceinline__ void sent() {
#if TENSOR
    cp_async_commit();
#endif
}

__device__ __forceinline__ void arrived() {  // the oldest chunk on its way
#if TENSOR
    cp_async_wait<STAGES - 2>();
#endif
    __syncthreads();
}

// The halves of a chunk that comes, while those of another one are multiplied; there may be none of either.
template <int HALF, class A, class B>
__device__ __forceinline__ void move_and_multiply(A& a, B& b, Sums& sums, Factor* coming, const Factor* chunk) {
    if (coming) a.template begin<HALF>(coming), b.template begin<HALF>(coming + A::Layout::SIZE);
    if (HALF == HALVES - 1) sent();
    if (chunk) sums.template add<typename A::Layout, typename B::Layout>(chunk, chunk + A::Layout::SIZE, HALF * DEPTH / HALVES);
    if (coming) a.template end<HALF>(coming), b.template end<HALF>(coming + A::Layout::SIZE);
}

// Write the sum of `chunks` chunks of a times b into the output's tile of that first row and column.
template <class A, class B, class Output>
__device__ __forceinline__ void multiply(A& a, B& b, int chunks, const Output& output, i64 row, int column, u8* shared) {
    i64* at = reinterpret_cast<i64*>(shared);  // where the tile's rows go: found once each, and kept out of registers
    if (threadIdx.x < ROWS) at[threadIdx.x] = row + threadIdx.x < output.rows ? output.at(row + threadIdx.x) : -1;
    __syncthreads();

    Factor* tiles = reinterpret_cast<Factor*>(at + ROWS);
    const auto stage = [&](int chunk) { return tiles + unsigned(chunk) % STAGES * (A::Layout::SIZE + B::Layout::SIZE); };
    Sums sums;
    for (int coming = 0; coming < chunks + STAGES - 1; ++coming) {
        const int chunk = coming - (STAGES - 1);
        if (chunk >= 0) arrived();  // and all threads are done with the chunk before, whose place is free
        Factor* to = coming < chunks ? stage(coming) : nullptr;
        const Factor* from = chunk >= 0 ? stage(chunk) : nullptr;
        move_and_multiply<0>(a, b, sums, to, from);
        move_and_multiply<1>(a, b, sums, to, from);
    }
    sums.each([&](int r, int c, auto v) {
        if (at[r] >= 0) output.write(at[r], column + c, v);
    });
}

// ---- The kernels. Blocks side by side share rows: what one loads the other finds in the cache. ----

template <typename T>
__device__ __forceinline__ void convolve(
    const STORE* x, i64 x_step, i64 n, i64 h, i64 w, i64 c, const STORE* weights, i64 r, i64 s, i64 k, const REAL* b, i64 relu,
    T* y, i64 y_step, i64 p, i64 q, i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w, u8* shared) {
    const int across = ceil_div(k, COLUMNS), column = blockIdx.x % across * COLUMNS, depth = int(r * s * c);
    const i64 row = i64(blockIdx.x / across) * ROWS;
    const Columns windows{x, int(x_step), int(h), int(w), int(n), int(p), int(q), int(r), int(s), int(c),
                          int(stride_h), int(stride_w), 1, 1, int(-padding_h), int(-padding_w)};
    AlongTaps<ROWS> left(windows, row);
    AlongWindows<COLUMNS> right(points(weights, k, 1, 1, depth, int(k)), column, 0);
    const Output<T> output{y, y_step, n * p * q, int(k), 1, b, relu != 0, int(p), int(q), int(p), int(q), 1, 1, 0, 0};
    multiply(left, right, ceil_div(depth, DEPTH), output, row, column, shared);
}

// x (N, H, W, C) at a pixel stride, weights (R, S, C, K), b (K,) or null -> y (N, P, Q, K) at a pixel stride.
#define CONV2D(NAME, T)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) NAME(                                                       \
        const STORE* __restrict__ x, i64 x_step, i64 n, i64 h, i64 w, i64 c, const STORE* __restrict__ weights, i64 r, i64 s, \
        i64 k, const REAL* __restrict__ b, i64 relu, T* __restrict__ y, i64 y_step, i64 p, i64 q, i64 stride_h, i64 stride_w, \
        i64 padding_h, i64 padding_w) {                                                                                       \
        SHARED(shared);                                                                                                       \
        convolve<T>(x, x_step, n, h, w, c, weights, r, s, k, b, relu, y, y_step, p, q, stride_h, stride_w, padding_h,         \
                    padding_w, shared);                                                                                       \
    }

CONV2D(conv2d, STORE)
#if NARROW
CONV2D(conv2d_widened, REAL)  // the head's logits, of which a loss is made
#endif

struct Phase {  // along one axis: see the top
    int first_pixel, pixels, first_tap, taps, first_window;

    __device__ __forceinline__ Phase(i64 phase, i64 size, i64 kernel, i64 stride, i64 padding) {
        first_pixel = int(phase);
        pixels = ceil_div(size - phase, int(stride));
        first_tap = int((phase + padding) % stride);
        taps = first_tap < kernel ? ceil_div(kernel - first_tap, int(stride)) : 0;
        first_window = int((phase + padding - first_tap) / stride);
    }
};

// dy (N, P, Q, K), weights (R, S, C, K), b (C,) or null -> dx (N, H, W, C). Images are at pixel strides.
extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) conv2d_input_grad(
    const STORE* __restrict__ dy, i64 dy_step, i64 n, i64 p, i64 q, i64 k, const STORE* __restrict__ weights, i64 r, i64 s,
    i64 c, const REAL* __restrict__ b, i64 relu, STORE* __restrict__ dx, i64 dx_step, i64 h, i64 w, i64 stride_h, i64 stride_w,
    i64 padding_h, i64 padding_w, i64 phases_w, i64 blocks_of_a_phase) {
    SHARED(shared);
    const i64 phase = blockIdx.x / blocks_of_a_phase, block = blockIdx.x % blocks_of_a_phase;
    const Phase down(phase / phases_w, h, r, stride_h, padding_h), along(phase % phases_w, w, s, stride_w, padding_w);
    const int across = ceil_div(c, COLUMNS), column = int(block % across) * COLUMNS;
    const i64 row = block / across * ROWS, rows = n * down.pixels * along.pixels;
    if (row >= rows) return;  // phases differ by a pixel
    const int taps = down.taps * along.taps;
    const Columns windows{dy, int(dy_step), int(p), int(q), int(n), down.pixels, along.pixels,
                          taps ? down.taps : 0, taps ? along.taps : 1, int(k), 1, 1, -1, -1,
                          down.first_window, along.first_window};
    const Columns transposed{weights, int(k), int(r), int(s * c), 1, 1, int(c), windows.i, windows.j, int(k), 1, 1,
                             int(stride_h), int(stride_w * c), down.first_tap, int(along.first_tap * c)};
    AlongTaps<ROWS> left(windows, row);
    AlongTaps<COLUMNS> right(transposed, column);
    const Output<STORE> output{dx, dx_step, rows, int(c), 1, b, relu != 0, int(h), int(w), down.pixels, along.pixels,
                        int(stride_h), int(stride_w), down.first_pixel, along.first_pixel};
    multiply(left, right, ceil_div(taps * k, DEPTH), output, row, column, shared);
}

// x (N, H, W, C), dy (N, P, Q, K), at pixel strides -> parts of dw (parts, R, S, C, K), of so many chunks each. Or, where dw has
// few taps, which would fill no tile's rows, dw^T = dy^T columns(x): in narrow tiles alone, others are not to know of it.
extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) conv2d_weight_grad(
    const STORE* __restrict__ x, i64 x_step, i64 n, i64 h, i64 w, i64 c, const STORE* __restrict__ dy, i64 dy_step, i64 p, i64 q,
    i64 k, REAL* __restrict__ dw, i64 r, i64 s, i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w, i64 chunks,
    i64 few_taps) {
    SHARED(shared);
    const bool transposed = COLUMNS == 16 && few_taps;
    const int taps = int(r * s * c), rows = transposed ? k : taps, columns = transposed ? taps : k;
    const int across = ceil_div(columns, COLUMNS), down = ceil_div(rows, ROWS);
    const int column = blockIdx.x % across * COLUMNS, row = blockIdx.x / across % down * ROWS;
    const i64 part = blockIdx.x / across / down, first = part * chunks * DEPTH;
    const Columns windows{x, int(x_step), int(h), int(w), int(n), int(p), int(q), int(r), int(s), int(c),
                          int(stride_h), int(stride_w), 1, 1, int(-padding_h), int(-padding_w)};
    const Columns gradient = points(dy, dy_step, int(n), int(p), int(q), int(k));
    AlongWindows<ROWS> left(transposed ? gradient : windows, row, first);
    AlongWindows<COLUMNS> right(transposed ? windows : gradient, column, first);
    const Output<REAL> output{dw + part * taps * k, transposed ? 1 : k, rows, columns, transposed ? k : 1, nullptr, false,
                              1, 1, 1, 1, 1, 1, 0, 0};
    multiply(left, right, int(chunks), output, row, column, shared);
}

// parts (parts, size) -> total (size,), in order.
extern "C" __global__ void __launch_bounds__(BLOCK) sum_parts(
    const REAL* __restrict__ parts, REAL* __restrict__ total, i64 n_parts, i64 size) {
    const i64 at = thread();
    if (at >= size) return;
    REAL sum = 0;
#pragma unroll 8
    for (i64 part = 0; part < n_parts; ++part) sum += parts[part * size + at];
    total[at] = sum;
}

#endif
