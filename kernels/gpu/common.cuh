// What all sources share. Its text stands in front of each: NVRTC finds no headers.
//
// Every instruction that C++ has no word for is one function here, in inline PTX. The tests run the same sources on the
// processor (MINUNET_ON_CPU), where these functions are written out lane by lane as NVIDIA's "PTX ISA" describes them; the names
// in parentheses are its headings. cp.async, tf32 and bf16 exist from sm_80 on.
//
// A source is compiled for one type of numbers: REAL is what it computes with, and what parameters are; STORE what activations are
// stored as, the same or bf16 (which makes it NARROW). BLOCK threads make a block, where a kernel has no reason for another number;
// by one instruction, a thread loads or stores ACCESS bytes at most. Whatever launchers count with comes from them, as those do.

typedef long long i64;
typedef unsigned char u8;

#ifndef MINUNET_ON_CPU

#define SHARED(name) extern __shared__ __align__(128) unsigned char name[]  // the launch says how many bytes

// v of the lane whose number differs in the bits of lane_mask; all 32 lanes take part ("shfl.sync").
__device__ __forceinline__ float shuffle_xor(float v, int lane_mask) { return __shfl_xor_sync(0xffffffffu, v, lane_mask); }
__device__ __forceinline__ double shuffle_xor(double v, int lane_mask) { return __shfl_xor_sync(0xffffffffu, v, lane_mask); }

// What lies there, as units of more than one number each, aligned to their size: the tests' version looks whether it is.
template <typename U> __device__ __forceinline__ U* units_at(const void* p) { return (U*)p; }

__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// Four 8 x 8 matrices of 16-bit numbers: lane l points at row l % 8 of matrix l / 8, and gets of matrix i, in r[i], the pair
// (row l / 4, columns 2 (l % 4) and the next); transposed, that pair of the matrix's transpose ("ldmatrix").
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row_of_this_lane) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row_of_this_lane)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void* row_of_this_lane) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row_of_this_lane)) : "memory");
}

#if __CUDA_ARCH__ >= 800

// Start to copy from global to shared memory, both aligned to as many bytes; where not valid, zeros, and `from` is not read
// ("cp.async"). 16 bytes pass L1 by, which has no use for them a second time.
__device__ __forceinline__ void cp_async_16(void* to_shared, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(to_shared)), "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void cp_async_4(void* to_shared, const void* from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"(shared_address(to_shared)), "l"(__cvta_generic_to_global(from)), "r"(valid ? 4 : 0) : "memory");
}

// Close this thread's group of copies; wait until all of its groups but the last N have arrived ("cp.async.wait_group").
// What other threads copied is there after a __syncthreads() behind their wait.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}

// The nearest number of 11 significant bits, of two the one away from zero ("cvt", .rna).
__device__ __forceinline__ unsigned as_tf32(float v) {
    unsigned r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
    return r;
}

// d (16 x 8) += a (16 x 8) b (8 x 8), in float. Lane l holds, with g = l / 4 and t = l % 4 ("Matrix Fragments for mma.m16n8k8"):
// a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (t, g), (t + 4, g);
// d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d (16 x 8) += a (16 x 16) b (16 x 8), two bfloat16 in each register, the first in its low half ("... for mma.m16n8k16"):
// a: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each with the next column; b: (2t, g), (2t + 8, g), with the next row.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif  // sm_80
#endif  // MINUNET_ON_CPU

// The upper half of a float: its sign, its exponent, and 8 significant bits, rounded to the nearest, of two to the even one.
struct bf16 {
    unsigned short bits;

    bf16() = default;
    __device__ __forceinline__ bf16(float v) {
        const unsigned u = __float_as_uint(v);
        bits = v != v ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
    }
    __device__ __forceinline__ operator float() const { return __uint_as_float(unsigned(bits) << 16); }
};

// The number of this thread in the launch: a thread from the number of things on does nothing.
__device__ __forceinline__ i64 thread() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ constexpr i64 ceil_div(i64 n, i64 each) { return (n + each - 1) / each; }

// What one thread takes at once of an array: 16 bytes where its launcher found them aligned (layout.py), else one element.
template <typename T, int N> struct alignas(N * sizeof(T)) Unit {
    static constexpr int size = N;
    T of[N];
};

// Run the body with a unit of that many numbers as they are stored, all 0.
template <typename Body> __device__ __forceinline__ void by_units(i64 size, Body body) {
    if (size == 1)
        body(Unit<STORE, 1>{});
    else
        body(Unit<STORE, ACCESS / sizeof(STORE)>{});
}

template <typename T, typename U> __device__ __forceinline__ Unit<T, U::size> unit_of(const U& from) {
    Unit<T, U::size> unit;
    for (int j = 0; j < U::size; j++) unit.of[j] = from.of[j];
    return unit;
}

template <typename U, typename T> __device__ __forceinline__ U load(const T* start, i64 i) {
    return units_at<const U>(start)[i];
}

template <typename U, typename T> __device__ __forceinline__ void store(T* start, i64 i, const U& unit) {
    units_at<U>(start)[i] = unit;
}

// Take the last index off a flat index into an array whose last axis has that size.
__device__ __forceinline__ i64 last_index(i64& flat, i64 size) {
    const i64 last = flat % size;
    flat /= size;
    return last;
}
