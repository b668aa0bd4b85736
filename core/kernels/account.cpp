// What a trace says of distributions: how sure each is, its likeliest tokens, and what a stage removed from it.
//
// A distribution is float32 logits [rows, columns], and the id of each column where those are not the whole vocabulary.

#include "rows.h"

namespace {

// The facts of a row, and behind them the logits, the ids and the probabilities of its best tokens, best first.
enum { KEPT, ENTROPY, HIGHEST, WHOLE, FACTS };

// -- a row by itself --------------------------------------------------------------------------------------------------

float highest_of(const float *x, int64_t columns) {
    vec highest = all(-INFINITY);
    for (int64_t i = 0; i < columns; i += LANES) highest = larger(some(x + i, columns - i, -INFINITY), highest);
    return largest(highest);
}

// How many tokens are left, the entropy in nats, and the sum of the weights. NaN where there is no finite best.
void measure(const float *x, int64_t columns, float highest, double *facts) {
    const vec farthest = all(104.0f);  // e^-104 is 0: what was removed has no infinity to multiply it by
    const bool sound = std::isfinite(highest);
    int64_t kept = 0;
    double whole = 0.0, distance = 0.0;
    for (int64_t first = 0; first < columns; first += WIDTH) {
        const int64_t here = least_of(WIDTH, columns - first);
        vec part = {}, far = {};
        ints removed = {};
        for (int64_t i = 0; i < here; i += LANES) {
            const vec own = some(x + first + i, here - i, -INFINITY), mine = weight(own, highest);
            removed -= own == -INFINITY;
            part += mine;
            far += mine * smaller(highest - own, farthest);
        }
        kept += (here + LANES - 1) / LANES * LANES;
        for (int i = 0; i < LANES; i++) kept -= removed[i];
        whole += whole_of(part);
        distance += whole_of(far);
    }
    facts[KEPT] = double(kept);
    facts[ENTROPY] = sound ? std::log(whole) + distance / whole : NOT_ONE;
    facts[HIGHEST] = highest;
    facts[WHOLE] = sound ? whole : NOT_ONE;
}

// The `count` best columns, ties to the lower one; -infinity where there are fewer. `maxima`: of blocks, if known.
void list(const float *x, int64_t columns, const float *maxima, int64_t count, double *logits, double *at) {
    std::fill(logits, logits + count, -INFINITY);
    std::fill(at, at + count, 0.0);
    for (int64_t first = 0; first < columns; first += WIDTH) {
        const int64_t end = least_of(first + WIDTH, columns);
        if (maxima && end == first + WIDTH && !(maxima[first / WIDTH] > logits[count - 1])) continue;
        for (int64_t column = first; column < end; column++) {
            if (!(x[column] > logits[count - 1])) continue;
            int64_t place = count - 1;
            for (; place > 0 && x[column] > logits[place - 1]; place--) {
                logits[place] = logits[place - 1];
                at[place] = at[place - 1];
            }
            logits[place] = x[column];
            at[place] = double(column);
        }
    }
}

double probability(double logit, const double *facts) { return std::exp(logit - facts[HIGHEST]) / facts[WHOLE]; }

// -- a token in it ----------------------------------------------------------------------------------------------------

int64_t column_of(const int64_t *ids, int64_t columns, int64_t token) {
    if (!ids) return token >= 0 && token < columns ? token : columns;
    return std::find(ids, ids + columns, token) - ids;
}

// How many columns are better, ties to the lower one.
int64_t better(const float *x, int64_t columns, int64_t column) {
    const float own = x[column];
    int32_t before = 0, behind = 0;
    for (int64_t i = 0; i < column; i++) before += x[i] >= own;
    for (int64_t i = column + 1; i < columns; i++) behind += x[i] > own;
    return int64_t(before) + behind;
}

// -- what a stage removed ---------------------------------------------------------------------------------------------

// Which ids are left: of all, or of those that are listed. `vocabulary`: none is as large.
struct Left {
    const float *logits;
    int64_t columns;
    std::vector<uint8_t> listed;  // by id, where there is a list

    Left(const float *logits, const int64_t *ids, int64_t columns, int64_t vocabulary)
        : logits(logits), columns(columns), listed(ids ? vocabulary + LANES : 0) {
        for (int64_t i = 0; ids && i < columns; i++)
            if (uint64_t(ids[i]) < uint64_t(vocabulary)) listed[ids[i]] = logits[i] != -INFINITY;
    }

    bool has(int64_t id) const {
        if (listed.empty()) return uint64_t(id) < uint64_t(columns) && logits[id] != -INFINITY;
        return uint64_t(id) < listed.size() && listed[id];
    }

    // Logits of a vector of ids, without those of what is left.
    vec without(vec own, int64_t first) const {
        if (listed.empty()) return some(logits + first, columns - first, -INFINITY) == -INFINITY ? own : all(-INFINITY);
        bytes left;
        std::memcpy(&left, listed.data() + first, sizeof left);
        return widened(left) == 0 ? own : all(-INFINITY);
    }
    vec without(vec own, const int64_t *ids, int64_t here) const {
        float rest[LANES];
        store(rest, own);
        for (int64_t i = 0; i < here; i++)
            if (has(ids[i])) rest[i] = -INFINITY;
        return load(rest);
    }
};

// The probability, in the row of `x`, of what is not left.
double removed(const float *x, const int64_t *ids, int64_t columns, const double *facts, const Left &left) {
    if (!std::isfinite(facts[HIGHEST])) return NOT_ONE;
    double gone = 0.0;
    for (int64_t first = 0; first < columns; first += WIDTH) {
        const int64_t end = least_of(first + WIDTH, columns);
        vec part = {};
        for (int64_t i = first; i < end; i += LANES) {
            const vec own = some(x + i, end - i, -INFINITY),
                      rest = ids ? left.without(own, ids + i, least_of(LANES, end - i)) : left.without(own, i);
            part += weight(rest, float(facts[HIGHEST]));
        }
        gone += whole_of(part);
    }
    return gone / facts[WHOLE];
}

}  // namespace

extern "C" {

// facts [rows, FACTS + 3 count]. `ranked`: the columns are in order already. maxima [rows, columns / WIDTH] and ends
// [rows, 2], the least and the largest, where they are known.
void account_measure(const float *logits, const int64_t *ids, int64_t rows, int64_t columns, int64_t ranked,
                     const float *maxima, const float *ends, int64_t count, double *facts, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        const float *own = logits + row * columns;
        double *mine = facts + row * (FACTS + 3 * count), *best = mine + FACTS, *at = best + count, *p = at + count;
        measure(own, columns, ends ? ends[2 * row + 1] : highest_of(own, columns), mine);
        list(own, ranked ? least_of(count, columns) : columns, maxima ? maxima + row * (columns / WIDTH) : nullptr,
             count, best, at);
        for (int64_t i = 0; i < count; i++) {
            if (ids) at[i] = double(ids[row * columns + int64_t(at[i])]);
            p[i] = probability(best[i], mine);
        }
    });
}

// told [rows, 2]: the probability of a token, 0 for one that there is not, and how many are better. tokens [rows].
void account_token(const float *logits, const int64_t *ids, int64_t rows, int64_t columns, const int64_t *tokens,
                   const double *facts, int64_t count, double *told, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        const float *own = logits + row * columns;
        const int64_t column = column_of(ids ? ids + row * columns : nullptr, columns, tokens[row]);
        const bool there = column < columns;
        told[2 * row] = there ? probability(own[column], facts + row * (FACTS + 3 * count)) : 0.0;
        told[2 * row + 1] = double(there ? better(own, columns, column) : columns);
    });
}

// gone [rows]: the probability of what others do not hold. `vocabulary`: no id of either is as large.
void account_removed(const float *logits, const int64_t *ids, int64_t rows, int64_t columns, const double *facts,
                     int64_t count, const float *others, const int64_t *other_ids, int64_t other_columns,
                     int64_t vocabulary, double *gone, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        const Left left(others + row * other_columns, other_ids ? other_ids + row * other_columns : nullptr,
                        other_columns, vocabulary);
        gone[row] = removed(logits + row * columns, ids ? ids + row * columns : nullptr, columns,
                            facts + row * (FACTS + 3 * count), left);
    });
}
}
