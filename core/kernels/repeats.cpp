// What rows hold already: how often each token, what that costs it, and where the end of a row stood before.
//
// tokens [rows, longest] with `stride` from one row to the next; -1 behind a row's length, where what is told is told
// of token 0.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

// A product is rounded before it is taken from anything, as it is where it has a tensor of its own.
#ifdef __clang__
#pragma clang fp contract(off)
#else
#pragma GCC optimize("fp-contract=off")
#endif

namespace {

constexpr int64_t CHUNK = 32;  // tokens of a run are followed so many at a time
constexpr float LARGEST = std::numeric_limits<float>::max();

}  // namespace

extern "C" {

// counts [2, rows, longest]: how often the token at a place stands in its row's prompt, and how often behind that, up
// to `lengths`. Returns how many tokens are none of the vocabulary of `size`, whose counts are 0.
int64_t repeats_count(const int64_t *tokens, int64_t rows, int64_t longest, int64_t stride, const int64_t *prompts,
                      const int64_t *lengths, int64_t size, int32_t *counts, int64_t threads) {
    int64_t odd = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : odd) if (threads > 1 && rows > 1)
    for (int64_t row = 0; row < rows; row++) {
        static thread_local std::vector<int32_t>
            table;  // in the prompt and behind it, by token: zeros between two uses
        if (int64_t(table.size()) < 2 * size) table.resize(2 * size);
        const int64_t *own = tokens + row * stride;
        int32_t *given = counts + row * longest, *made = given + rows * longest;
        const auto place = [&](int64_t i) { return 2 * std::max<int64_t>(own[i], 0); };
        for (int64_t i = 0; i < lengths[row]; i++)
            if (place(i) < 2 * size)
                table[place(i) + (i >= prompts[row])]++;
            else
                odd++;
        for (int64_t i = 0; i < longest; i++) {
            const bool known = place(i) < 2 * size;
            given[i] = known ? table[place(i)] : 0, made[i] = known ? table[place(i) + 1] : 0;
        }
        for (int64_t i = 0; i < lengths[row]; i++)
            if (place(i) < 2 * size) table[place(i)] = table[place(i) + 1] = 0;
    }
    return odd;
}

// Of `count` logits, each of a token that occurs as often as the counts say, whose second may be null: what occurs is
// multiplied by the penalty where it is below 0, and divided by it elsewhere.
void repeats_repetition(const float *logits, int64_t count, const int32_t *first, const int32_t *second, float penalty,
                        float *lowered) {
    for (int64_t i = 0; i < count; i++) {
        const float own = logits[i], over = own / penalty;
        const float changed = own < 0.0f ? own * penalty : over > LARGEST ? LARGEST : over;
        lowered[i] = first[i] + (second ? second[i] : 0) > 0 ? changed : own;
    }
}

// The same with `value` taken from what occurs, for each time or once.
void repeats_less(const float *logits, int64_t count, const int32_t *first, const int32_t *second, float value,
                  int64_t once, float *lowered) {
    for (int64_t i = 0; i < count; i++) {
        const int32_t held = first[i] + (second ? second[i] : 0);
        const float amount = value * (once ? float(held > 0) : float(held)), less = logits[i] - amount;
        lowered[i] = less > LARGEST ? LARGEST : less;
    }
}

// Where a row's last token stood before, and how many tokens up to there equal those up to the end: none before the
// place `low`, and `farthest` at least are looked at. found [3, room]: rows, places and runs. Returns how many there
// are.
int64_t repeats_runs(const int64_t *tokens, int64_t rows, int64_t stride, const int64_t *lengths, const int64_t *lows,
                     int64_t farthest, int64_t room, int64_t *found) {
    const int64_t reach = (farthest + CHUNK - 1) / CHUNK * CHUNK;
    int64_t count = 0;
    for (int64_t row = 0; row < rows; row++, tokens += stride) {
        const int64_t newest = lengths[row] - 1, low = std::max<int64_t>(lows[row], 0);
        for (int64_t place = low; place < newest; place++) {
            if (tokens[place] != tokens[newest]) continue;
            const int64_t most = std::min(reach, place - low + 1);
            int64_t run = 0;
            while (run < most && tokens[place - run] == tokens[newest - run]) run++;
            found[count] = row, found[room + count] = place, found[2 * room + count] = run;
            count++;
        }
    }
    return count;
}

// dearest [count]: the largest of the costs, none below 0, that are at the same spot.
void repeats_dearest(const int64_t *spots, const float *costs, int64_t count, float *dearest) {
    std::vector<std::pair<int64_t, int64_t>> order(count);
    for (int64_t i = 0; i < count; i++) order[i] = {spots[i], i};
    std::sort(order.begin(), order.end());
    for (int64_t first = 0, end; first < count; first = end) {
        float most = 0.0f;
        for (end = first; end < count && order[end].first == order[first].first; end++)
            most = std::max(most, costs[order[end].second]);
        for (int64_t i = first; i < end; i++) dearest[order[i].second] = most;
    }
}
}
