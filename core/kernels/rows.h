// Rows over a vocabulary, for what chooses among them: a look at all of a row, and the order of its columns.
//
// Rows lie densely, one behind another, and never see each other: what comes out of a row depends neither on how many
// there are nor on the threads. Columns may be any number; a block is WIDTH of them, the last one shorter.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t WIDTH = 96;
constexpr int64_t ALONE = 1 << 14;  // columns, of all rows, that are not worth a second thread
constexpr float NOT_ONE = std::numeric_limits<float>::quiet_NaN();

// LANES numbers, of which `count` are there.
inline vec some(const float *x, int64_t count, float rest) {
    if (count >= LANES) return load(x);
    vec part = all(rest);
    if (count > 0) std::memcpy(&part, x, count * sizeof(float));
    return part;
}

inline void put(float *at, vec x, int64_t count) {
    if (count >= LANES) return store(at, x);
    if (count > 0) std::memcpy(at, &x, count * sizeof(float));
}

inline int64_t least_of(int64_t a, int64_t b) { return a < b ? a : b; }

// Rows in turn, on several threads where that is worth it.
template <class Work>
void each_row(int64_t rows, int64_t columns, int64_t threads, const Work &work) {
    const bool many = threads > 1 && rows > 1 && rows * columns > ALONE;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (many)
    for (int64_t row = 0; row < rows; row++) work(row);
}

// -- a look at all of a row -------------------------------------------------------------------------------------------

// Writes the largest value of each whole block; `ends`: the least and the largest of all. NaN where NaN is among them.
inline void look(const float *x, int64_t columns, float *maxima, float *ends) {
    vec lowest = all(INFINITY), highest = all(-INFINITY);
    words odd = {};  // the largest bits without the sign: those of NaN lie above those of infinity
    for (int64_t first = 0; first < columns; first += WIDTH) {
        const int64_t here = least_of(WIDTH, columns - first);
        vec best = all(-INFINITY);
        for (int64_t i = 0; i < here; i += LANES) {
            const vec own = some(x + first + i, here - i, x[first]);
            const words bits = (words)own & 0x7fffffff;
            best = larger(own, best);
            lowest = smaller(own, lowest);
            odd = bits > odd ? bits : odd;
        }
        highest = larger(best, highest);
        if (here == WIDTH) maxima[first / WIDTH] = largest(best);
    }
    uint32_t oddest = 0;
    for (int i = 0; i < LANES; i++) oddest = std::max(oddest, odd[i]);
    ends[0] = -largest(-lowest);
    ends[1] = largest(highest);
    if (oddest <= 0x7f800000) return;
    ends[0] = ends[1] = NOT_ONE;
    for (int64_t i = 0; i < columns / WIDTH * WIDTH; i++)
        if (x[i] != x[i]) maxima[i / WIDTH] = NOT_ONE;
}

// -- weights ----------------------------------------------------------------------------------------------------------

typedef float eight __attribute__((vector_size(4 * 8)));
typedef double wide __attribute__((vector_size(8 * 8)));

// The lanes of a vector in float64, the upper half on the lower one.
inline wide halves_of(vec x) {
    eight low, high;
    std::memcpy(&low, &x, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char *>(&x) + sizeof low, sizeof high);
    return __builtin_convertvector(low, wide) + __builtin_convertvector(high, wide);
}

// The sum of a vector's lanes, in float64.
inline double whole_of(wide x) {
    const auto four = [&](int i) { return (x[i] + x[i + 4]) + (x[i + 2] + x[i + 6]); };
    return four(0) + four(1);
}
inline double whole_of(vec x) { return whole_of(halves_of(x)); }

// e^(x - highest). What float32 loses of the difference is as much as ten roundings of a weight: it is put back, to
// first order, so that each weight is off by two ulps at most.
inline vec weight(vec x, float highest) {
    const vec from = all(-highest), far = x + from, back = far - x;
    const vec lost = (x - (far - back)) + (from - back), near = exponential(far);
    return near > 0.0f ? near + near * lost : near;  // -inf has lost what is no number
}

// -- the order of columns ---------------------------------------------------------------------------------------------

// The float's order as an unsigned integer's; the zeros are one, and NaN is above all.
inline uint32_t ascending(float x) {
    const float one_zero = x + 0.0f;
    int32_t bits;
    std::memcpy(&bits, &one_zero, sizeof bits);
    const uint32_t ordered = uint32_t(bits ^ ((bits >> 31) | INT32_MIN));
    return x == x ? ordered : 0xffffffff;
}

inline uint64_t key(float x, int64_t column) { return uint64_t(~ascending(x)) << 32 | uint64_t(column); }

}  // namespace
