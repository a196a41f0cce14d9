// Dropout, drawn by Philox4x32-10 (philox.py): a function of an element's number, so that each thread draws its own.
// It is compiled for EACH elements of a thread: whole blocks of four words, and whole units.

typedef unsigned long long u64;

// The block of four words that belongs to a counter below 2^64.
__device__ __forceinline__ void philox4x32(u64 counter, u64 key, unsigned* words) {
    unsigned c0 = (unsigned)counter, c1 = (unsigned)(counter >> 32), c2 = 0, c3 = 0;
    unsigned k0 = (unsigned)key, k1 = (unsigned)(key >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const u64 first = (u64)0xD2511F53u * c0, second = (u64)0xCD9E8D57u * c2;
        c0 = (unsigned)(second >> 32) ^ c1 ^ k0;
        c1 = (unsigned)second;
        c2 = (unsigned)(first >> 32) ^ c3 ^ k1;
        c3 = (unsigned)first;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

// y = x * keep: keep is 0 where the word of an element is below `least`, else `scale`. x at a pixel stride; c_size and count are
// of units. The key is what lies at seed_at, where that is given: so a graph draws anew at each launch.
extern "C" __global__ void __launch_bounds__(BLOCK)
dropout(const STORE* x, i64 x_pixel, i64 least, double scale, i64 seed, const i64* seed_at, STORE* y, i64 c_size, i64 count,
        i64 width) {
    unsigned words[EACH];
    for (int block = 0; block < EACH / 4; block++)
        philox4x32(thread() * (EACH / 4) + block, seed_at ? *seed_at : seed, words + 4 * block);
    by_units(width, [&](auto unit) {
        for (int first = 0; first < EACH; first += unit.size) {
            const i64 at = (EACH * thread() + first) / unit.size;
            if (at >= count) return;
            i64 i = at;
            const i64 c = last_index(i, c_size);
            unit = load<decltype(unit)>(x + i * x_pixel, c);
            for (int j = 0; j < unit.size; j++) unit.of[j] = unit.of[j] * (words[first + j] < least ? REAL(0) : REAL(scale));
            store(y, at, unit);
        }
    });
}
