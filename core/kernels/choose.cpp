// The best k of a whole vocabulary, and draws from few candidates.

#include "rows.h"

namespace {

constexpr int64_t SMALL = 1024;  // columns that are put in order as they are
constexpr int BIN_BITS = 14;     // of a float, that tell bins apart

// A number that k columns at least are no less than: the k-th best of the maxima, as each is some column's.
float least_by_maxima(const float *maxima, int64_t blocks, int64_t k) {
    std::vector<float> sorted(blocks);
    for (int64_t i = 0; i < blocks; i++) sorted[i] = maxima[i] == maxima[i] ? maxima[i] : INFINITY;
    std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), [](float a, float b) { return a > b; });
    return sorted[k - 1];
}

// The same by counting columns in bins of the leading bits, for a k that is much of the blocks.
float least_by_bins(const float *x, int64_t columns, int64_t k) {
    std::vector<int32_t> counts(1 << BIN_BITS);
    for (int64_t i = 0; i < columns; i++) counts[ascending(x[i]) >> (32 - BIN_BITS)]++;
    int64_t bin = (1 << BIN_BITS) - 1;
    for (int64_t held = counts[bin]; held < k;) held += counts[--bin];
    const uint32_t edge = uint32_t(bin) << (32 - BIN_BITS), bits = edge >> 31 ? edge & 0x7fffffff : ~edge;
    float least;
    std::memcpy(&least, &bits, sizeof least);
    if (least != least) return bin >> (BIN_BITS - 1) ? INFINITY : -INFINITY;  // of either sign, beyond the infinities
    return least;
}

// The k best, best first, ties to the lower column: all that is better than a number which k columns reach, put in
// order, and behind it the first columns that equal it.
void best_of(const float *x, int64_t columns, int64_t k, const float *maxima, float *top, int64_t *at) {
    const int64_t blocks = columns / WIDTH;
    const bool by_maxima = 2 * k <= blocks;
    const float least = by_maxima         ? least_by_maxima(maxima, blocks, k)
                        : columns > SMALL ? least_by_bins(x, columns, k)
                                          : -INFINITY;
    std::vector<uint64_t> better;
    std::vector<int64_t> equal;
    for (int64_t first = 0; first < columns; first += WIDTH) {
        const int64_t end = least_of(first + WIDTH, columns);
        if (by_maxima && first / WIDTH < blocks && maxima[first / WIDTH] < least) continue;
        for (int64_t i = first; i < end; i++) {
            if (x[i] < least) continue;
            if (x[i] != least)
                better.push_back(key(x[i], i));
            else if (int64_t(equal.size()) < k)
                equal.push_back(i);
        }
    }
    const int64_t ahead = least_of(k, better.size());
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

extern "C" {

// values [rows, columns]; maxima [rows, columns / WIDTH]; ends [rows, 2].
void choose_look(const float *values, int64_t rows, int64_t columns, float *maxima, float *ends, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        look(values + row * columns, columns, maxima + row * (columns / WIDTH), ends + row * 2);
    });
}

// top and at: [rows, k]. Maxima and ends are written where they are not `known`.
void choose_best(const float *values, int64_t rows, int64_t columns, int64_t k, float *maxima, float *ends,
                 int64_t known, float *top, int64_t *at, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        const float *own = values + row * columns;
        float *blocks = maxima + row * (columns / WIDTH);
        if (!known) look(own, columns, blocks, ends + row * 2);
        best_of(own, columns, k, blocks, top + row * k, at + row * k);
    });
}

// -- few candidates, best first: weights [rows, count] ----------------------------------------------------------------

// keep [rows, count]: above which lies less than a share of the mass, rounded to float32, and the `least` best.
void choose_keep_share(const double *weights, int64_t rows, int64_t count, float share, int64_t least, uint8_t *keep) {
    for (int64_t row = 0; row < rows; row++, weights += count, keep += count) {
        double whole = 0.0, until = 0.0;
        for (int64_t i = 0; i < count; i++) whole += weights[i];
        for (int64_t i = 0; i < count; i++) {
            until += weights[i];
            keep[i] = i < least || float((until - weights[i]) / whole) < share;
        }
    }
}

// tokens [rows]: in the order of ids, the first whose running sum exceeds u times the whole.
void choose_among(const double *weights, const int64_t *ids, int64_t rows, int64_t count, const double *uniform,
                  int64_t *tokens) {
    std::vector<std::pair<int64_t, double>> held;
    for (int64_t row = 0; row < rows; row++, weights += count, ids += count) {
        held.clear();
        for (int64_t i = 0; i < count; i++)
            if (weights[i] != 0.0) held.emplace_back(ids[i], weights[i]);
        std::sort(held.begin(), held.end());
        double whole = 0.0, until = 0.0;
        for (const auto &one : held) whole += one.second;
        const double target = uniform[row] * whole;
        for (const auto &one : held) {
            until += one.second;
            tokens[row] = one.first;
            if (until > target || until >= whole) break;
        }
    }
}
}
