// What a decoder layer does between its products, for one new token in each of some rows.
//
// T is the dtype of the activations, which lie densely, a row behind the other. Arithmetic is float32, rounded to T
// where transformers' forward rounds: in float32 the two agree to a few ulps, in bfloat16 but for the order of sums. A
// row's numbers do not depend on the other rows. All sizes are multiples of LANES, those of heads of two of them.

#include <vector>

#include "vectors.h"

namespace {

// Llama's RMSNorm of one row.
template <class T>
void norm(const T *x, const T *weight, float eps, int64_t size, T *out) {
    vec squares = {};
    for (int64_t i = 0; i < size; i += LANES) squares += load(x + i) * load(x + i);
    const float scale = 1.0f / std::sqrt(sum(squares) / size + eps);
    for (int64_t i = 0; i < size; i += LANES) store(out + i, load(weight + i) * rounded<T>(load(x + i) * scale));
}

// One head, turned by its position's angles: cosines, and behind them the signed sines of what the other half adds.
template <class T>
void turn(const T *x, const T *angles, int64_t dim, T *out) {
    for (int64_t i = 0; i < dim; i += LANES) {
        const int64_t other = i < dim / 2 ? i + dim / 2 : i - dim / 2;
        const vec own = rounded<T>(load(x + i) * load(angles + i));
        store(out + i, own + rounded<T>(load(x + other) * load(angles + dim + i)));
    }
}

}  // namespace

// What the layers of a model have in common, and one layer's own.
struct Heads {
    int64_t queries, keys, dim;
    int64_t window;               // keys that a query sees, itself included; 0 for all
    int64_t turned;               // whether it rotates
    const void *q_norm, *k_norm;  // [dim], or null
    float eps, scaling;
};

// Of one pass, for all its layers.
struct Pass {
    int64_t rows;
    const int64_t *positions;  // [rows]: where each row's token lies in its slot
    int64_t slot, position;    // how many elements of the cache one of them takes
    const void *angles;        // [positions, 2, dim]
    int64_t covered;           // positions that it has
    float *scores;             // room for [rows, queries, longest]
    int64_t longest;           // a multiple of LANES, no less than the keys of any row in use
    int64_t threads;
};

namespace {

constexpr int64_t MOST_DIM = 512;  // of a head
constexpr int64_t ALONE = 256;     // keys, of all heads and rows, that are not worth a second thread

// GROUP query heads of one key head over `count` keys, and what they take from the values.
template <class T, int GROUP>
void over(const Heads &heads, const float *q, const T *keys, int64_t stride, int64_t count, float *scores,
          int64_t longest, T *out) {
    const int64_t dim = heads.dim;
    for (int64_t first = 0; first < count; first += LANES) {
        const int64_t here = count - first < LANES ? count - first : LANES;
        vec parts[GROUP][LANES] = {};
        for (int64_t j = 0; j < here; j++) {
            const T *key = keys + (first + j) * stride;
            vec own[GROUP] = {};
            for (int64_t i = 0; i < dim; i += LANES) {
                const vec k = load(key + i);
                for (int g = 0; g < GROUP; g++) own[g] += load(q + g * dim + i) * k;
            }
            for (int g = 0; g < GROUP; g++) parts[g][j] = own[g];
        }
        for (int g = 0; g < GROUP; g++) store(scores + g * longest + first, sums(parts[g]));
    }
    float inverse[GROUP];
    for (int g = 0; g < GROUP; g++) {
        float *own = scores + g * longest;
        for (int64_t j = count; j % LANES; j++) own[j] = -INFINITY;
        vec best = load(own), total = {};
        for (int64_t j = LANES; j < count; j += LANES) best = larger(load(own + j), best);
        const float highest = largest(best);
        for (int64_t j = 0; j < count; j += LANES) {
            const vec weight = exponential(load(own + j) - highest);
            store(own + j, weight);
            total += weight;
        }
        inverse[g] = 1.0f / sum(total);
    }
    const T *values = keys + heads.keys * dim;
    for (int64_t i = 0; i < dim; i += LANES) {
        vec taken[GROUP] = {};
        for (int64_t j = 0; j < count; j++) {
            const vec v = load(values + j * stride + i);
            for (int g = 0; g < GROUP; g++) taken[g] += scores[g * longest + j] * v;
        }
        for (int g = 0; g < GROUP; g++) store(out + g * dim + i, taken[g] * inverse[g]);
    }
}

// One row's attention to one key head: its key and value are written first.
template <class T>
void attend_one(const Heads &heads, const Pass &pass, const T *states, T *slot, int64_t position, int64_t head,
                float *scores, T *out) {
    const int64_t dim = heads.dim, group = heads.queries / heads.keys;
    const int64_t known = position < pass.covered ? position : pass.covered - 1;  // an idle slot may lie beyond
    const T *angles = static_cast<const T *>(pass.angles) + known * 2 * dim;
    T normed[MOST_DIM], turned[MOST_DIM];
    const auto placed = [&](const T *x, const void *weight) {
        if (weight) {
            norm(x, static_cast<const T *>(weight), heads.eps, dim, normed);
            x = normed;
        }
        if (!heads.turned) return x;
        turn(x, angles, dim, turned);
        return static_cast<const T *>(turned);
    };
    T *key = slot + position * pass.position + head * dim;
    std::memcpy(key, placed(states + (heads.queries + head) * dim, heads.k_norm), dim * sizeof(T));
    std::memcpy(key + heads.keys * dim, states + (heads.queries + heads.keys + head) * dim, dim * sizeof(T));

    std::vector<float> q(group * dim);
    for (int64_t g = 0; g < group; g++) {
        const T *query = placed(states + (head * group + g) * dim, heads.q_norm);
        for (int64_t i = 0; i < dim; i += LANES) store(&q[g * dim + i], load(query + i) * heads.scaling);
    }
    const int64_t end = position < pass.longest ? position + 1 : pass.longest;
    const int64_t begin = heads.window && end > heads.window ? end - heads.window : 0;
    const T *keys = slot + begin * pass.position + head * dim;
    for (int64_t g = 0; g < group;) {
        const auto some = [&](auto &part) {
            part(heads, &q[g * dim], keys, pass.position, end - begin, scores + g * pass.longest, pass.longest,
                 out + g * dim);
        };
        switch (group - g) {
            case 1:
                some(over<T, 1>);
                g += 1;
                break;
            case 2:
                some(over<T, 2>);
                g += 2;
                break;
            case 3:
                some(over<T, 3>);
                g += 3;
                break;
            default: some(over<T, 4>); g += 4;
        }
    }
}

template <class T>
void attend(const Heads &heads, const Pass &pass, const T *mixed, T *cache, T *out) {
    const int64_t all_heads = heads.queries + 2 * heads.keys, group = heads.queries / heads.keys;
    const int64_t tasks = pass.rows * heads.keys;
    const int64_t threads = tasks > 1 && tasks * pass.longest > ALONE ? pass.threads : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < tasks; task++) {
        const int64_t row = task / heads.keys, head = task % heads.keys;
        attend_one(heads, pass, mixed + row * all_heads * heads.dim, cache + row * pass.slot, pass.positions[row], head,
                   pass.scores + task * group * pass.longest, out + (row * heads.queries + head * group) * heads.dim);
    }
}

template <class T>
void add_and_norm(T *stream, const T *x, const T *weight, float eps, int64_t rows, int64_t size, T *out) {
    for (int64_t i = 0; x && i < rows * size; i += LANES) store(stream + i, load(stream + i) + load(x + i));
    for (int64_t row = 0; row < rows; row++) norm(stream + row * size, weight, eps, size, out + row * size);
}

template <class T>
void gate(const T *both, int64_t rows, int64_t size, int64_t threads, T *out) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows > 1)
    for (int64_t row = 0; row < rows; row++) {
        const T *gates = both + row * 2 * size, *up = gates + size;
        for (int64_t i = 0; i < size; i += LANES) {
            const vec x = load(gates + i), open = rounded<T>(x / (1.0f + exponential(-x)));
            store(out + row * size + i, open * load(up + i));
        }
    }
}

}  // namespace

#define FOR(T, name)                                                                                                  \
    /* stream += x, where there is one; out: its norm. [rows, size] each. */                                          \
    void add_and_norm_##name(T *stream, const T *x, const T *weight, float eps, int64_t rows, int64_t size, T *out) { \
        add_and_norm(stream, x, weight, eps, rows, size, out);                                                        \
    }                                                                                                                 \
    /* mixed [rows, queries + 2 * keys, dim]; cache [slots, positions, 2 * keys, dim]; out [rows, queries, dim]. */   \
    void attend_##name(const Heads *heads, const Pass *pass, const T *mixed, T *cache, T *out) {                      \
        attend(*heads, *pass, mixed, cache, out);                                                                     \
    }                                                                                                                 \
    /* both [rows, 2 * size], gates and what they let through; out [rows, size]. */                                   \
    void gate_##name(const T *both, int64_t rows, int64_t size, int64_t threads, T *out) {                            \
        gate(both, rows, size, threads, out);                                                                         \
    }

extern "C" {
FOR(float, float32)
FOR(bfloat16, bfloat16)
}
