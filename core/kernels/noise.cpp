// Philox4x32-10, the counter-based noise of core/rng.py: for a few counters, and for one of each token of a row.

#include "rows.h"

namespace {

// The upper and the lower word of a product.
template <class Word>
struct Product {
    Word high, low;
};
inline Product<uint32_t> times(uint32_t a, uint32_t b) {
    const uint64_t whole = uint64_t(a) * b;
    return {uint32_t(whole >> 32), uint32_t(whole)};
}
inline Product<words> times(uint32_t a, words b) {
    const __m512i one = _mm512_set1_epi32(a);  // two products of each pair of lanes, each as wide as both
    const __m512i even = _mm512_mul_epu32(one, (__m512i)b),
                  odd = _mm512_mul_epu32(one, _mm512_srli_epi64((__m512i)b, 32));
    return {(words)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd),
            (words)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32))};
}

// Four words of a counter and two of a key; four words back, in c.
template <class Word>
inline void philox(Word *c, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        const Product<Word> p0 = times(0xD2511F53u, c[0]), p1 = times(0xCD9E8D57u, c[2]);
        c[0] = p1.high ^ c[1] ^ k0, c[1] = p1.low;
        c[2] = p0.high ^ c[3] ^ k1, c[3] = p0.low;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
}

// In [0, 1), of 53 bits.
inline double unit(uint32_t high, uint32_t low) {
    return double((uint64_t(high) >> 5) * 67108864 + (low >> 6)) * (1.0 / 9007199254740992.0);
}

}  // namespace

extern "C" {

// words [6, count]: four words of a counter and two of a key; out [4, count].
void noise_philox(const uint32_t *words, int64_t count, uint32_t *out) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t c[4];
        for (int which = 0; which < 4; which++) c[which] = words[which * count + i];
        philox(c, words[4 * count + i], words[5 * count + i]);
        for (int which = 0; which < 4; which++) out[which * count + i] = c[which];
    }
}

// places [count, 3]: seed, position and attempt; out [count, draws]: numbers in [0, 1) of 53 bits.
void noise_uniform(const uint64_t *places, int64_t count, int64_t key, int64_t draws, double *out) {
    for (int64_t i = 0; i < count; i++, places += 3) {
        for (int64_t draw = 0; draw < draws; draw++) {
            uint32_t c[4] = {uint32_t(draw), uint32_t(places[1]), uint32_t(places[2]), uint32_t(key)};
            philox(c, uint32_t(places[0]), uint32_t(places[0] >> 32));
            *out++ = unit(c[0], c[1]);
        }
    }
}

// out [rows, columns]: such numbers, of counters that differ within a row by the first word alone: `first`, rows of
// `columns` of them, `stride` apart. rest [rows, 5]: the others, and the key's.
void noise_rows(const int64_t *first, int64_t stride, int64_t rows, int64_t columns, const int64_t *rest, double *out,
                int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        const int64_t *own = first + row * stride, *others = rest + row * 5;
        for (int64_t i = 0; i < columns; i += LANES) {
            const int64_t here = least_of(LANES, columns - i);
            words c[4] = {};
            for (int64_t lane = 0; lane < here; lane++) c[0][lane] = uint32_t(own[i + lane]);
            for (int which = 1; which < 4; which++) c[which] += uint32_t(others[which - 1]);
            philox(c, uint32_t(others[3]), uint32_t(others[4]));
            for (int64_t lane = 0; lane < here; lane++) out[row * columns + i + lane] = unit(c[0][lane], c[1][lane]);
        }
    });
}
}
