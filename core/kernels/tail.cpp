// The end of a pipeline on few candidates, best first: scaled, cut and drawn from, row by row.

#include "best.h"

namespace {

enum { DIVIDE = 1, FIRST, SHARE, ABOVE };  // as cuts.py has them

// One step for all rows: by how much, for each of them, and how many of the best stay in any case.
struct Step {
    int64_t kind;
    const double *values;
    int64_t least;
};

// One row: logits, weights e^(l - max l), 0 for what was removed, and which are left.
struct Head {
    std::vector<float> logits;
    std::vector<double> weights;
    std::vector<uint8_t> left;
    int64_t count;
    bool weighed = false;

    explicit Head(const float *from, int64_t count)
        : logits(from, from + count), weights(count), left(count, 1), count(count) {}

    bool sound() const { return std::isfinite(logits[0]); }

    void weigh() {
        for (int64_t i = 0; i < count && !weighed; i++)
            weights[i] = left[i] ? std::exp(double(logits[i]) - double(logits[0])) : 0.0;
        weighed = true;
    }
    double whole() const {
        double sum = 0.0;
        for (int64_t i = 0; i < count; i++) sum += weights[i];
        return sum;
    }
    void keep(int64_t i, bool stays) {
        left[i] &= stays;
        if (!left[i]) weights[i] = 0.0;
    }
    void take(const Step &step, int64_t row) {
        const float value = float(step.values[row]);
        if (step.kind == DIVIDE) {
            for (int64_t i = 0; i < count; i++) logits[i] /= value;
            weighed = false;
        } else if (step.kind == FIRST) {
            count = least_of(count, int64_t(value));
        } else if (step.kind == ABOVE) {
            const float edge = logits[0] + value;
            for (int64_t i = 0; i < count; i++) keep(i, i < step.least || logits[i] >= edge);
        } else {
            weigh();
            const double all = whole();
            double until = 0.0;
            for (int64_t i = 0; i < count; i++) {
                const double own = weights[i];
                until += own;
                keep(i, i < step.least || float((until - own) / all) < value);
            }
        }
    }
    // In the order of ids, the first whose running sum exceeds u times the whole.
    int64_t drawn(const int64_t *ids, double uniform) const {
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

}  // namespace

extern "C" {

// The best `few` of logits [rows, columns], with `ids` where those are not the columns' numbers. They are in order
// where there are no `maxima` [rows, columns / WIDTH]. `kinds` and `leasts` [steps], `values` [steps, rows]; each row
// comes to have `count` candidates: new_logits, new_ids and weights [rows, count]. Whether every row has something to
// draw from: tokens [rows].
int64_t tail_draw(const float *logits, const int64_t *ids, int64_t rows, int64_t columns, const float *maxima,
                  int64_t few, const int64_t *kinds, const int64_t *leasts, const double *values, int64_t steps,
                  const double *uniform, int64_t count, float *new_logits, int64_t *new_ids, double *weights,
                  int64_t *tokens, int64_t threads) {
    std::vector<uint8_t> sound(rows);
    each_row(rows, columns, threads, [&](int64_t row) {
        std::vector<float> best(few);
        std::vector<int64_t> at(few);
        const float *own = logits + row * columns;
        if (maxima)
            best_of(own, columns, few, maxima + row * (columns / WIDTH), best.data(), at.data());
        else
            for (int64_t i = 0; i < few; i++) best[i] = own[i], at[i] = i;
        for (int64_t i = 0; i < few && ids; i++) at[i] = ids[row * columns + at[i]];
        Head head(best.data(), few);
        for (int64_t i = 0; i < steps; i++) head.take({kinds[i], values + i * rows, leasts[i]}, row);
        head.weigh();
        sound[row] = head.sound();
        tokens[row] = head.drawn(at.data(), uniform[row]);
        for (int64_t i = 0; i < count; i++) {
            new_logits[row * count + i] = head.left[i] ? head.logits[i] : -INFINITY;
            new_ids[row * count + i] = at[i];
            weights[row * count + i] = head.weights[i];
        }
    });
    return std::all_of(sound.begin(), sound.end(), [](uint8_t one) { return one; });
}
}
