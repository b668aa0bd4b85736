// A look at all of a vocabulary, and its best k.

#include "best.h"

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
}
