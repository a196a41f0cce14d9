// Runs CUDA kernels on the processor. Its text stands in front of kernels/gpu/common.cuh and of a .cu file; door.py compiles the
// three as one, with a table of the file's kernels behind them.
//
// Blocks run one after another. Each thread of a block is a fiber with a stack of its own, which runs until it has to wait: for
// its block at __syncthreads(), or for its warp where 32 lanes act together. The order of the threads is drawn anew from a seed
// whenever all wait. So what a kernel must not rely on does not hold here either:
//
//   shared memory starts as NaN, and so does what cp.async has been told to fill, until the thread has waited for it;
//   all threads of a block meet at the same __syncthreads(), all lanes of a warp at the same operation, or the launch fails;
//   what is misaligned, lies outside shared memory, or does not exist at the device's capability, fails too.
//
// It finds no race that no order of whole stretches between two waits shows.

#define MINUNET_ON_CPU 1

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <utility>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

#define __device__
#define __host__
#define __forceinline__ inline
#define __syncthreads() shim::wait_for_block(__FILE__, __LINE__)
#define SHARED(name) unsigned char* const name = shim::shared

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

template <class To, class From> To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline float __uint_as_float(unsigned u) { return same_bits<float>(u); }
inline unsigned __float_as_uint(float f) { return same_bits<unsigned>(f); }

// CUDA's: of a number and NaN they give the number.
inline int max(int a, int b) { return a > b ? a : b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }

struct bf16;  // of common.cuh

namespace shim {

const unsigned WARP = 32, MOST_THREADS = 1024, MOST_COPIES = 256;  // copies: in flight, of one thread
const size_t STACK = 64 * 1024, PAGE = 4096, MOST_SHARED = 227 * 1024, GUARD = 128;
const int POISON = 0xFF;  // in each byte: NaN in any float type
const unsigned char SIGNAL[4] = {0xFF, 0xFF, 0xBF, 0xFF};  // a signalling NaN: arithmetic makes none, not of NaN either

enum class At { ready, block, warp, end };

struct Copy {  // of cp.async
    void* to;
    const void* from;
    unsigned bytes, group;
    bool valid;
};

struct Thread {
    void* context;  // where its registers lie while it does not run
    At at;
    const char* what;  // it waits for: an operation's name, or a file's
    int line;
    void (*operation)(void* const* lanes);
    void* operands;
    unsigned n_copies, group;  // group: how many it has committed
};

Thread threads[MOST_THREADS], scheduler, caller;
Thread* self;
Copy copies[MOST_THREADS][MOST_COPIES];
char* stacks;
unsigned guarded;  // stacks that have their page
alignas(128) unsigned char memory[GUARD + MOST_SHARED + GUARD];
unsigned char* const shared = memory + GUARD;
size_t n_shared;
int capability;
uint64_t order_seed;
char message[512];
const uint64_t* arguments;
void (*kernel)(const uint64_t* arguments);

// ---- fibers: save what a called function must keep, and go on with another stack

#if defined(__x86_64__)
asm(R"(
.text
.type minunet_switch, @function
minunet_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");
extern "C" __attribute__((visibility("hidden"))) void minunet_switch(void** from, void* to);

void start(Thread& t, char* top, void (*body)()) {
    void** frame = (void**)top - 8;  // six registers, the address that `ret` goes to, and that of no caller
    memset(frame, 0, 8 * sizeof *frame);
    frame[6] = (void*)body;
    t.context = frame;
}
void go(Thread& from, Thread& to) { minunet_switch(&from.context, to.context); }

#elif defined(__aarch64__)
asm(R"(
.text
.type minunet_switch, %function
minunet_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]; stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]; ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
extern "C" __attribute__((visibility("hidden"))) void minunet_switch(void** from, void* to);

void start(Thread& t, char* top, void (*body)()) {
    void** frame = (void**)top - 20;
    memset(frame, 0, 20 * sizeof *frame);
    frame[11] = (void*)body;  // x30, which `ret` goes to
    t.context = frame;
}
void go(Thread& from, Thread& to) { minunet_switch(&from.context, to.context); }

#else
ucontext_t contexts[MOST_THREADS + 2];
ucontext_t& context(Thread& t) {
    return contexts[&t == &scheduler ? MOST_THREADS : &t == &caller ? MOST_THREADS + 1 : &t - threads];
}

void start(Thread& t, char* top, void (*body)()) {
    getcontext(&context(t));
    context(t).uc_stack.ss_sp = top - STACK / 2;
    context(t).uc_stack.ss_size = STACK / 2;
    makecontext(&context(t), body, 0);
}
void go(Thread& from, Thread& to) { swapcontext(&context(from), &context(to)); }
#endif

// The top of a stack, below which a page without any right ends it. Tops lie at different places of their pages: at the same
// ones they would compete for the same few lines of the caches.
char* stack_top(unsigned i) {
    if (!stacks) {
        stacks = (char*)mmap(nullptr, (MOST_THREADS + 1) * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    // Only of those that are used: each parts a mapping, of which a process may have 65,530, and each library has stacks.
    for (; guarded <= i; guarded++) mprotect(stacks + guarded * STACK, PAGE, PROT_NONE);
    return stacks + (i + 1) * STACK - (i % 61) * 448;
}

// ---- what a kernel must not do ends the launch, with a message

[[noreturn]] void fail(const char* format, ...) {
    int n = snprintf(message, sizeof message, "block (%u, %u, %u), ", blockIdx.x, blockIdx.y, blockIdx.z);
    if (self != &scheduler) n += snprintf(message + n, sizeof message - n, "thread %u: ", threadIdx.x);
    va_list rest;
    va_start(rest, format);
    vsnprintf(message + n, sizeof message - n, format, rest);
    va_end(rest);
    go(*self, caller);
    __builtin_unreachable();
}

void require_capability(int least, const char* what) {
    if (capability < least) fail("%s needs sm_%d, and this device is sm_%d", what, least, capability);
}

void require_shared(const void* p, size_t bytes, const char* what) {
    long long place = (const unsigned char*)p - shared, size = (long long)bytes;
    if (place < 0 || place + size > (long long)n_shared)
        fail("%s: %lld is no place for %lld bytes in the %zu of shared memory", what, place, size, n_shared);
    if (place % size) fail("%s: the place %lld in shared memory is no multiple of %lld", what, place, size);
}

// ---- waiting

void wait(At at, const char* what, int line = 0, void (*operation)(void* const* lanes) = nullptr, void* operands = nullptr) {
    self->at = at;
    self->what = what;
    self->line = line;
    self->operation = operation;
    self->operands = operands;
    go(*self, scheduler);
}

void wait_for_block(const char* file, int line) { wait(At::block, file, line); }

// Wait for all 32 lanes, with the address of what this one brings to their operation and takes from it.
template <class Operands> void together(const char* what, Operands& mine, void (*operation)(void* const* lanes)) {
    wait(At::warp, what, 0, operation, &mine);
}

// ---- the order of threads: round a circle from some place, forwards or backwards; in seed 0 from the first to the last

struct Order {
    unsigned n, start;
    bool back;
    unsigned operator()(unsigned i) const {
        unsigned place = back ? start + n - i : start + i;
        return place < n ? place : place - n;
    }
};

Order draw_order(unsigned n) {
    if (!order_seed) return {n, 0, false};
    order_seed = order_seed * 6364136223846793005u + 1442695040888963407u;  // Knuth, The Art of Computer Programming 2, 3.3.4
    return {n, (unsigned)(order_seed >> 33) % n, order_seed >> 63 != 0};
}

// ---- running a block

void run(Thread& t) {
    self = &t;
    threadIdx.x = (unsigned)(&t - threads);
    go(scheduler, t);
    self = &scheduler;
}

const char* place(const Thread& t) {
    static char text[2][160];
    static int turn = 0;
    char* place = text[turn ^= 1];
    unsigned number = (unsigned)(&t - threads);
    if (t.at == At::end) snprintf(place, sizeof text[0], "thread %u has ended", number);
    if (t.at == At::warp) snprintf(place, sizeof text[0], "thread %u is at %s", number, t.what);
    if (t.at == At::block) snprintf(place, sizeof text[0], "thread %u waits at %s:%d", number, t.what, t.line);
    return place;
}

void require_together(const Thread& a, const Thread& b) {
    bool same = a.at == b.at && (a.at == At::end || (a.what == b.what && a.line == b.line && a.operation == b.operation));
    if (same) return;
    const char* who = a.at == At::warp || b.at == At::warp ? "a warp's lanes diverge" : "a block's threads diverge";
    fail("%s: %s, %s", who, place(a), place(b));
}

// Run a warp's threads until all are at their ends or wait for the block.
void run_warp(Thread* lanes, unsigned n, const Order& order) {
    for (;;) {
        bool meet = false;
        for (unsigned i = 0; i < WARP; i++) {
            unsigned lane = order(i);
            if (lane < n && lanes[lane].at == At::ready) run(lanes[lane]);
        }
        for (unsigned i = 0; i < n; i++) meet |= lanes[i].at == At::warp;
        if (!meet) return;
        void* operands[WARP];
        for (unsigned i = 0; i < n; i++) {
            require_together(lanes[0], lanes[i]);
            operands[i] = lanes[i].operands;
        }
        if (n < WARP) fail("%s takes 32 lanes, and a warp has %u", lanes[0].what, n);
        lanes[0].operation(operands);
        for (unsigned i = 0; i < n; i++) lanes[i].at = At::ready;
    }
}

void set_guards() {
    for (size_t i = 0; i < GUARD; i++) memory[i] = shared[n_shared + i] = SIGNAL[i % sizeof SIGNAL];
}

void require_guards() {
    for (size_t i = 0; i < GUARD; i++) {
        long long before = (long long)i - (long long)GUARD, behind = (long long)(n_shared + i);
        if (memory[i] != SIGNAL[i % sizeof SIGNAL]) fail("something was written before shared memory, at %lld", before);
        if (shared[behind] != SIGNAL[i % sizeof SIGNAL])
            fail("something was written behind %zu bytes of shared memory, at %lld", n_shared, behind);
    }
}

void run_block() {
    unsigned n = blockDim.x, warps = (n + WARP - 1) / WARP;
    memset(shared, POISON, n_shared);
    set_guards();
    for (unsigned i = 0; i < n; i++) {
        threads[i].at = At::ready;
        threads[i].n_copies = threads[i].group = 0;
    }
    do {
        Order of_warps = draw_order(warps), of_lanes = draw_order(WARP);
        for (unsigned i = 0; i < warps; i++) {
            unsigned first = of_warps(i) * WARP;
            run_warp(threads + first, n - first < WARP ? n - first : WARP, of_lanes);
        }
        for (unsigned i = 1; i < n; i++) require_together(threads[0], threads[i]);
        for (unsigned i = 0; i < n && threads[i].at == At::block; i++) threads[i].at = At::ready;
    } while (threads[0].at == At::ready);
    require_guards();
}

void run_grid() {
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) run_block();
    go(scheduler, caller);
}

void run_thread() {
    for (;;) {  // a turn is a block
        kernel(arguments);
        wait(At::end, "its end");
    }
}

// ---- a kernel's parameters, each of 8 bytes: what they are, in two letters, and the call

template <class T> struct Letter { static constexpr char value = '?'; };
template <> struct Letter<float> { static constexpr char value = 'f'; };
template <> struct Letter<double> { static constexpr char value = 'd'; };
template <> struct Letter<unsigned char> { static constexpr char value = 'B'; };
template <> struct Letter<unsigned> { static constexpr char value = 'I'; };
template <> struct Letter<int> { static constexpr char value = 'i'; };
template <> struct Letter<bf16> { static constexpr char value = 'h'; };
template <> struct Letter<long long> { static constexpr char value = 'q'; };

template <class P> struct Parameter { static_assert(sizeof(P) == 0, "a parameter is a pointer, a long long or a double"); };
template <> struct Parameter<long long> { static constexpr char how = ' ', what = 'q'; };
template <> struct Parameter<double> { static constexpr char how = ' ', what = 'd'; };
template <class T> struct Parameter<T*> { static constexpr char how = 'w', what = Letter<T>::value; };
template <class T> struct Parameter<const T*> { static constexpr char how = 'r', what = Letter<T>::value; };

template <auto function> struct Entry;
template <class... P, void (*function)(P...)> struct Entry<function> {
    struct Pair { char how, what; };
    static constexpr Pair parameters[] = {{Parameter<P>::how, Parameter<P>::what}..., {0, 0}};
    template <size_t... i> static void call(const uint64_t* words, std::index_sequence<i...>) {
        function(same_bits<P>(words[i])...);
    }
    static void run(const uint64_t* words) { call(words, std::index_sequence_for<P...>{}); }
};

struct Row {
    const char* name;
    const void* parameters;
    void (*run)(const uint64_t* words);
    int most_threads;
};
constexpr int most_threads(int threads = MOST_THREADS, int = 0, int = 0) { return threads; }  // of __launch_bounds__

// ---- copies that arrive when they are waited for

void cp_async(void* to, const void* from, unsigned bytes, bool valid) {
    require_capability(80, "cp.async");
    require_shared(to, bytes, "cp.async");
    if ((uintptr_t)from % bytes) fail("cp.async: an address in global memory is no multiple of %u", bytes);
    if (self->n_copies == MOST_COPIES) fail("cp.async: a thread has more than %u copies in flight", MOST_COPIES);
    memset(to, POISON, bytes);
    copies[self - threads][self->n_copies++] = {to, from, bytes, self->group, valid};
}

void cp_async_wait(unsigned in_flight) {
    require_capability(80, "cp.async");
    Copy* mine = copies[self - threads];
    unsigned left = 0;
    for (unsigned i = 0; i < self->n_copies; i++) {
        const Copy c = mine[i];
        if (c.group + in_flight >= self->group) mine[left++] = c;
        else if (c.valid) memcpy(c.to, c.from, c.bytes);
        else memset(c.to, 0, c.bytes);
    }
    self->n_copies = left;
}

// ---- operations of a warp, as "PTX ISA" describes them

template <class T> struct Shuffle { T v; int mask; T result; };

template <class T> T shuffle_xor(T v, int mask) {
    Shuffle<T> mine = {v, mask, v};
    together("shuffle_xor", mine, [](void* const* lanes) {
        for (unsigned i = 0; i < WARP; i++) {
            Shuffle<T>& lane = *(Shuffle<T>*)lanes[i];
            lane.result = ((Shuffle<T>*)lanes[(i ^ lane.mask) % WARP])->v;
        }
    });
    return mine.result;
}

struct Rows { const void* row; unsigned (&r)[4]; };

template <bool transposed> void load_matrices(void* const* lanes) {
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        uint16_t m[8][8];
        for (unsigned row = 0; row < 8; row++) memcpy(m[row], ((Rows*)lanes[8 * matrix + row])->row, sizeof m[row]);
        for (unsigned i = 0; i < WARP; i++) {
            unsigned row = i / 4, column = i % 4 * 2;
            unsigned first = transposed ? m[column][row] : m[row][column];
            unsigned next = transposed ? m[column + 1][row] : m[row][column + 1];
            ((Rows*)lanes[i])->r[matrix] = first | next << 16;
        }
    }
}

template <bool transposed> void ldmatrix(unsigned (&r)[4], const void* row) {
    require_capability(75, "ldmatrix");
    require_shared(row, 16, "ldmatrix");
    Rows mine = {row, r};
    together(transposed ? "ldmatrix, transposed" : "ldmatrix", mine, load_matrices<transposed>);
}

struct Product {
    float (&d)[4];
    const unsigned (&a)[4];
    const unsigned (&b)[2];
};

// A product of two such numbers is exact in float. Hardware adds several at a time and rounds as nobody documents; here one
// after another.
template <int K> void add_product(float (&d)[16][8], const float (&a)[16][K], const float (&b)[K][8]) {
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < K; k++)
            for (int n = 0; n < 8; n++) d[m][n] += a[m][k] * b[k][n];
}

// Lane (g, t), of 8 x 4, holds of d (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
template <int K> void multiply(void* const* lanes, const float (&a)[16][K], const float (&b)[K][8]) {
    float d[16][8];
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 4; j++) d[i / 4 + j / 2 * 8][i % 4 * 2 + j % 2] = ((Product*)lanes[i])->d[j];
    add_product<K>(d, a, b);
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 4; j++) ((Product*)lanes[i])->d[j] = d[i / 4 + j / 2 * 8][i % 4 * 2 + j % 2];
}

inline float of_tf32(unsigned u) { return same_bits<float>(u & 0xffffe000u); }  // the low 13 bits are not looked at
inline float of_bf16(unsigned u) { return same_bits<float>(u << 16); }

inline void multiply_tf32(void* const* lanes) {
    float a[16][8], b[8][8];
    for (int i = 0; i < 32; i++) {
        const Product& lane = *(Product*)lanes[i];
        for (int j = 0; j < 4; j++) a[i / 4 + j % 2 * 8][i % 4 + j / 2 * 4] = of_tf32(lane.a[j]);
        for (int j = 0; j < 2; j++) b[i % 4 + j * 4][i / 4] = of_tf32(lane.b[j]);
    }
    multiply<8>(lanes, a, b);
}

inline void multiply_bf16(void* const* lanes) {
    float a[16][16], b[16][8];
    for (int i = 0; i < 32; i++) {
        const Product& lane = *(Product*)lanes[i];
        for (int j = 0; j < 8; j++)  // number j % 2 of register j / 2
            a[i / 4 + j / 2 % 2 * 8][i % 4 * 2 + j % 2 + j / 4 * 8] = of_bf16(lane.a[j / 2] >> j % 2 * 16);
        for (int j = 0; j < 4; j++) b[i % 4 * 2 + j % 2 + j / 2 * 8][i / 4] = of_bf16(lane.b[j / 2] >> j % 2 * 16);
    }
    multiply<16>(lanes, a, b);
}

}  // namespace shim

// ---- what common.cuh declares for a GPU

template <typename U> U* units_at(const void* p) {
    if ((uintptr_t)p % alignof(U)) shim::fail("a unit of %zu bytes lies at an address that is no multiple of that", alignof(U));
    return (U*)p;
}
inline float shuffle_xor(float v, int lane_mask) { return shim::shuffle_xor(v, lane_mask); }
inline double shuffle_xor(double v, int lane_mask) { return shim::shuffle_xor(v, lane_mask); }
inline void ldmatrix_x4(unsigned (&r)[4], const void* row_of_this_lane) { shim::ldmatrix<false>(r, row_of_this_lane); }
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* row_of_this_lane) { shim::ldmatrix<true>(r, row_of_this_lane); }
inline void cp_async_16(void* to_shared, const void* from, bool valid) { shim::cp_async(to_shared, from, 16, valid); }
inline void cp_async_4(void* to_shared, const void* from, bool valid) { shim::cp_async(to_shared, from, 4, valid); }
inline void cp_async_commit() { shim::self->group++; }
template <int N> void cp_async_wait() { shim::cp_async_wait(N); }

inline unsigned as_tf32(float v) {
    shim::require_capability(80, "as_tf32");
    unsigned u = __float_as_uint(v);
    if (isnan(v)) return 0x7fffffff;
    return isinf(v) ? u : (u + 0x1000) & 0xffffe000u;  // half of the last place, and cut: ties go away from zero
}

inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    shim::require_capability(80, "mma_tf32");
    shim::Product mine = {d, a, b};
    shim::together("mma_tf32", mine, shim::multiply_tf32);
}
inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    shim::require_capability(80, "mma_bf16");
    shim::Product mine = {d, a, b};
    shim::together("mma_bf16", mine, shim::multiply_bf16);
}

// ---- what door.py calls

extern "C" __attribute__((visibility("default"))) const char* minunet_launch(
    void (*run)(const uint64_t*), const unsigned* grid, unsigned block, uint64_t shared_bytes, const uint64_t* words,
    int capability, uint64_t seed) {
    using namespace shim;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block, 1, 1};
    blockIdx = {0, 0, 0};
    threadIdx = {0, 0, 0};
    kernel = run;
    arguments = words;
    n_shared = shared_bytes;
    shim::capability = capability;
    order_seed = seed;
    message[0] = 0;
    for (unsigned i = 0; i < block; i++) start(threads[i], stack_top(i + 1), run_thread);
    start(scheduler, stack_top(0), run_grid);
    self = &scheduler;
    go(caller, scheduler);
    return message[0] ? message : nullptr;
}
