// The end of a pipeline: a row's candidates, found in a whole vocabulary where need be, scaled, cut and drawn from.

#include <numeric>
#include <utility>

#include "best.h"

namespace {

enum { DIVIDE = 1, FIRST, SHARE, ABOVE };  // as cuts.py has them

// One step for all rows: by how much, for each of them, and how many of the best stay in any case.
struct Step {
    int64_t kind;
    const double *values;
    int64_t least;
};

// One row's candidates, best first, ties to the lower id: `count` of them are left, with weights e^(l - max l).
struct Head {
    std::vector<float> logits;
    std::vector<int64_t> ids;
    std::vector<double> weights;
    int64_t count;
    bool weighed = false;

    Head(std::vector<float> from, std::vector<int64_t> named)
        : logits(std::move(from)), ids(std::move(named)), weights(logits.size()), count(logits.size()) {}

    bool sound() const { return std::isfinite(logits[0]); }

    void weigh() {
        for (int64_t i = 0; i < count && !weighed; i++) weights[i] = std::exp(double(logits[i]) - double(logits[0]));
        weighed = true;
    }
    double whole() const { return std::accumulate(weights.begin(), weights.begin() + count, 0.0); }

    // Rounding makes ties of logits that were none.
    void divide(float value) {
        for (float &own : logits) own /= value;
        weighed = false;
        for (int64_t first = 0, end; first < count; first = end) {
            for (end = first + 1; end < count && logits[end] == logits[first];) end++;
            std::sort(ids.begin() + first, ids.begin() + end);
        }
    }
    // Those before the first that does not stay.
    template <class Stays>
    void keep(int64_t least, const Stays &stays) {
        for (int64_t i = least; i < count; i++)
            if (!stays(i)) count = i;
    }
    void take(const Step &step, int64_t row) {
        const float value = float(step.values[row]);
        if (step.kind == DIVIDE) {
            divide(value);
        } else if (step.kind == FIRST) {
            count = least_of(count, int64_t(step.values[row]));
        } else if (step.kind == ABOVE) {
            const float edge = logits[0] + value;
            keep(step.least, [&](int64_t i) { return logits[i] >= edge; });
        } else {
            weigh();
            const double all = whole();
            double until = 0.0;
            for (int64_t i = 0; i < least_of(step.least, count); i++) until += weights[i];
            keep(step.least, [&](int64_t i) {
                until += weights[i];  // what is above a token is, as torch sums up, what is up to it less its own
                return float((until - weights[i]) / all) < value;
            });
        }
    }
    // In the order of ids, the first whose running sum exceeds u times the whole.
    int64_t drawn(double uniform) const {
        std::vector<std::pair<int64_t, double>> held;
        for (int64_t i = 0; i < count; i++)
            if (weights[i] != 0.0) held.emplace_back(ids[i], weights[i]);
        std::sort(held.begin(), held.end());
        double all = 0.0, until = 0.0;
        for (const auto &one : held) all += one.second;
        int64_t token = ids[0];
        for (const auto &one : held) {
            until += one.second;
            token = one.first;
            if (until > uniform * all || until >= all) break;
        }
        return token;
    }
};

// The candidates of a row: logits and columns, best first, ties to the lower one.
struct Candidates {
    std::vector<float> logits;
    std::vector<int64_t> at;
    bool fit = true;  // whether there are not too many

    void take(const float *x, int64_t count) {
        logits.assign(x, x + count);
        at.resize(count);
        for (int64_t i = 0; i < count; i++) at[i] = i;
    }
    void take_best(const float *x, int64_t columns, const float *maxima, int64_t count) {
        logits.resize(count);
        at.resize(count);
        best_of(x, columns, count, maxima, logits.data(), at.data());
    }
    // All that reach the largest, plus a difference, when both have been divided: as they are then.
    void take_above(const float *x, int64_t columns, const float *maxima, float highest,
                    const std::vector<float> &divisors, float difference, int64_t least, int64_t most) {
        const auto divided = [&](auto value) {
            for (const float divisor : divisors) value = value / divisor;
            return value;
        };
        const float edge = divided(highest) + difference;
        std::vector<uint64_t> held;
        for (int64_t first = 0; first < columns && int64_t(held.size()) <= most; first += WIDTH) {
            const int64_t end = least_of(first + WIDTH, columns);
            if (end == first + WIDTH && divided(maxima[first / WIDTH]) < edge) continue;
            for (int64_t lanes = first; lanes < end; lanes += LANES) {
                float own[LANES];
                store(own, divided(some(x + lanes, end - lanes, 0.0f)));
                for (uint32_t left = reaching(own, end - lanes, edge); left; left &= left - 1) {
                    const int place = __builtin_ctz(left);
                    held.push_back(key(own[place], lanes + place));
                }
            }
        }
        fit = std::isfinite(edge) && int64_t(held.size()) >= least && int64_t(held.size()) <= most;
        std::sort(held.begin(), held.end());
        for (const uint64_t one : held) {
            at.push_back(int64_t(one & 0xffffffff));
            logits.push_back(divided(x[at.back()]));
        }
    }
    // Up to `count` of them: others behind, that are none.
    void fill(int64_t count) {
        std::vector<int64_t> taken(at);
        std::sort(taken.begin(), taken.end());
        auto next = taken.begin();
        for (int64_t column = 0; int64_t(at.size()) < count; column++) {
            if (next != taken.end() && *next == column) {
                ++next;
                continue;
            }
            at.push_back(column);
            logits.push_back(-INFINITY);
        }
    }
};

}  // namespace

extern "C" {

// The end of a pipeline on logits [rows, columns], with `ids` where those are not the columns' numbers. `kinds` and
// `leasts` [steps], `values` [steps, rows]. Without maxima [rows, columns / WIDTH] and `ends` [rows, 2] the columns are
// candidates in order; with them, those are the best that the first step says, or all that the first ABOVE leaves, with
// nothing but divisions before it: `room` at most. Returns how many there are in a row with the most of them, no more
// than a FIRST has left, or 0 where a row has too many, or nothing to draw from: new_logits, new_ids and weights
// [rows, most] have as many, and tokens [rows] is what was drawn.
int64_t tail_draw(const float *logits, const int64_t *ids, int64_t rows, int64_t columns, const float *maxima,
                  const float *ends, const int64_t *kinds, const int64_t *leasts, const double *values, int64_t steps,
                  const double *uniform, int64_t room, int64_t most, float *new_logits, int64_t *new_ids,
                  double *weights, int64_t *tokens, int64_t threads) {
    std::vector<Candidates> every(rows);
    int64_t done = 0;  // steps that are in the candidates
    while (maxima && kinds[done] == DIVIDE) done++;
    each_row(rows, columns, threads, [&](int64_t row) {
        const float *own = logits + row * columns, *tops = maxima + row * (columns / WIDTH);
        if (!maxima) return every[row].take(own, columns);
        if (kinds[0] == FIRST) return every[row].take_best(own, columns, tops, int64_t(values[row]));
        std::vector<float> divisors;
        for (int64_t i = 0; i < done; i++) divisors.push_back(float(values[i * rows + row]));
        every[row].take_above(own, columns, tops, ends[2 * row + 1], divisors, float(values[done * rows + row]),
                              leasts[done], room);
    });
    int64_t count = 0;
    for (const Candidates &one : every) {
        if (!one.fit) return 0;
        count = std::max(count, int64_t(one.at.size()));
    }
    for (int64_t i = 0; i < steps; i++)
        if (kinds[i] == FIRST) count = least_of(count, int64_t(values[i * rows]));
    std::vector<uint8_t> sound(rows);
    each_row(rows, count * LANES * LANES, threads, [&](int64_t row) {  // a candidate is as much work as many columns
        Candidates &one = every[row];
        one.fill(count);
        for (int64_t &place : one.at) place = ids ? ids[row * columns + place] : place;
        Head head(std::move(one.logits), std::move(one.at));
        for (int64_t i = done; i < steps; i++) head.take({kinds[i], values + i * rows, leasts[i]}, row);
        head.weigh();
        sound[row] = head.sound();
        tokens[row] = head.drawn(uniform[row]);
        for (int64_t i = 0; i < count; i++) {
            const bool there = i < head.count;
            new_logits[row * most + i] = there ? head.logits[i] : -INFINITY;
            new_ids[row * most + i] = head.ids[i];
            weights[row * most + i] = there ? head.weights[i] : 0.0;
        }
    });
    return std::all_of(sound.begin(), sound.end(), [](uint8_t one) { return one; }) ? count : 0;
}
}
