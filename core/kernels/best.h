// The best k of a row.
#pragma once

#include "rows.h"

namespace {

constexpr int64_t SMALL = 1024;  // columns that are put in order as they are
constexpr int BIN_BITS = 14;     // of a float, that tell bins apart

// The float of which `ascending` makes this, or the infinity next to it.
inline float float_of(uint32_t order) {
    const uint32_t bits = order >> 31 ? order & 0x7fffffff : ~order;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x == x ? x : order >> 31 ? INFINITY : -INFINITY;
}

// Which of LANES numbers, of which `count` are there, are no less than the least; NaN is not.
inline uint32_t reaching(const float *x, int64_t count, float least) {
    const uint32_t there = count < LANES ? (1u << count) - 1 : 0xffff;
    return there & _mm512_cmp_ps_mask((__m512)some(x, count, 0.0f), _mm512_set1_ps(least), _CMP_NLT_UQ);
}

// A number that k columns at least are no less than: one that k of the maxima are no less than, as each is some
// column's, and not many more. By halving the room between the least and the largest float.
inline float least_by_maxima(const float *maxima, int64_t blocks, int64_t k) {
    std::vector<uint32_t> keys(blocks);
    for (int64_t i = 0; i < blocks; i++) keys[i] = ascending(maxima[i]);
    const auto reached = [&](uint32_t key) {
        int32_t count = 0;
        for (int64_t i = 0; i < blocks; i++) count += keys[i] >= key;
        return count;
    };
    uint32_t low = 0, high = 0xffffffff;  // reached by k at least; by fewer, or the last there is
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        const int64_t count = reached(middle);
        (count >= k ? low : high) = middle;
        if (count >= k && count <= k + k / 8) break;
    }
    return float_of(low);
}

// The same by counting columns in bins of the leading bits, for a k that is much of the blocks.
inline float least_by_bins(const float *x, int64_t columns, int64_t k) {
    std::vector<int32_t> counts(1 << BIN_BITS);
    for (int64_t i = 0; i < columns; i++) counts[ascending(x[i]) >> (32 - BIN_BITS)]++;
    int64_t bin = (1 << BIN_BITS) - 1;
    for (int64_t held = counts[bin]; held < k;) held += counts[--bin];
    return float_of(uint32_t(bin) << (32 - BIN_BITS));
}

// The k best, best first, ties to the lower column: all that is better than a number which k columns reach, put in
// order, and behind it the first columns that equal it. Without `maxima`, or where they are not those of x, which is
// not worth a check beforehand, all columns are looked at.
inline void best_of(const float *x, int64_t columns, int64_t k, const float *maxima, float *top, int64_t *at) {
    const int64_t blocks = columns / WIDTH;
    const bool by_maxima = maxima && 2 * k <= blocks;
    const float least = by_maxima         ? least_by_maxima(maxima, blocks, k)
                        : columns > SMALL ? least_by_bins(x, columns, k)
                                          : -INFINITY;
    std::vector<uint64_t> better;
    std::vector<int64_t> equal;
    for (int64_t first = 0; first < columns; first += WIDTH) {
        const int64_t end = least_of(first + WIDTH, columns);
        if (by_maxima && first / WIDTH < blocks && maxima[first / WIDTH] < least) continue;
        for (int64_t lanes = first; lanes < end; lanes += LANES) {
            for (uint32_t held = reaching(x + lanes, end - lanes, least); held; held &= held - 1) {
                const int64_t i = lanes + __builtin_ctz(held);
                if (x[i] != least)
                    better.push_back(key(x[i], i));
                else if (int64_t(equal.size()) < k)
                    equal.push_back(i);
            }
        }
    }
    const int64_t ahead = least_of(k, better.size());
    if (by_maxima && ahead + int64_t(equal.size()) < k) return best_of(x, columns, k, nullptr, top, at);
    if (int64_t(better.size()) > k) {
        std::nth_element(better.begin(), better.begin() + k, better.end());
        better.resize(k);
    }
    std::sort(better.begin(), better.end());
    for (int64_t i = 0; i < k; i++) {
        at[i] = i < ahead ? int64_t(better[i] & 0xffffffff) : equal[i - ahead];
        top[i] = x[at[i]];
    }
}

}  // namespace
