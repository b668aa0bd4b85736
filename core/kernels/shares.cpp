// Probabilities of a whole vocabulary with the sums of their blocks, where a nucleus ends, and draws by those sums.

#include "rows.h"

namespace {

// -- probabilities ----------------------------------------------------------------------------------------------------

// Softmax, with its sums by blocks. `facts`: all their sum, the heaviest block's, the best probability. A block's lanes
// are summed in float32, six columns each, and those in float64. So a block is off by less than five roundings of its
// own sum and what its weights are off by, 5e-7 of itself: half of what shares.py allows for the heaviest one. Over
// many blocks the errors, of either sign, leave far less than the 1e-7 of the whole that it allows for those.
void share_out(const float *x, int64_t columns, float highest, float *probs, double *sums, double *facts) {
    const int64_t blocks = (columns + WIDTH - 1) / WIDTH;
    if (!std::isfinite(highest)) {
        std::fill(probs, probs + columns, NOT_ONE);
        std::fill(sums, sums + blocks, double(NOT_ONE));
        std::fill(facts, facts + 3, double(NOT_ONE));
        return;
    }
    double whole = 0.0, heaviest = 0.0;
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * WIDTH, here = least_of(WIDTH, columns - first);
        vec part = {};
        for (int64_t i = 0; i < here; i += LANES) {
            const vec own = weight(some(x + first + i, here - i, -INFINITY), highest);
            put(probs + first + i, own, here - i);
            part += own;
        }
        sums[block] = whole_of(part);
        whole += sums[block];
    }
    const double scale = 1.0 / whole;
    const float narrow = float(scale);
    for (int64_t i = 0; i < columns; i += LANES)
        put(probs + i, some(probs + i, columns - i, 0.0f) * narrow, columns - i);
    for (int64_t block = 0; block < blocks; block++) {
        sums[block] *= narrow;  // by what the probabilities are multiplied by
        heaviest = std::max(heaviest, sums[block]);
    }
    facts[0] = whole * narrow;
    facts[1] = heaviest;
    facts[2] = narrow;
}

// -- a draw -----------------------------------------------------------------------------------------------------------

// The first block whose running sum exceeds the target, or the last one; `before`: the sum of those before it.
inline int64_t block_of(const double *sums, int64_t blocks, double target, double &before) {
    int64_t block = 0;
    for (before = 0.0; block < blocks - 1 && !(before + sums[block] > target);) before += sums[block++];
    return block;
}

// The first of `count` weights at which the running sum exceeds the target, or the last one; `apart`: how far the
// target is from any of those sums.
inline int64_t place_of(const float *weights, int64_t count, double target, double before, double &apart) {
    int64_t place = -1;
    double until = before;
    apart = target - before;
    for (int64_t i = 0; i < count; i++) {
        until += weights[i];
        if (place < 0 && until > target) place = i;
        apart = std::min(apart, std::fabs(until - target));
    }
    return place < 0 ? count - 1 : place;
}

// As by `share_out` and its sums, with no probabilities kept. Whether it is sure: no sum is off by more than the parts
// `rough` of the whole and `coarse` of the heaviest block.
bool draw(const float *x, int64_t columns, float highest, double uniform, double rough, double coarse, int64_t *at) {
    *at = 0;
    if (!std::isfinite(highest)) return false;
    const int64_t blocks = (columns + WIDTH - 1) / WIDTH;
    std::vector<double> sums(blocks);
    double whole = 0.0, heaviest = 0.0, before, apart;
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * WIDTH, here = least_of(WIDTH, columns - first);
        vec part = {};
        for (int64_t i = 0; i < here; i += LANES) part += weight(some(x + first + i, here - i, -INFINITY), highest);
        sums[block] = whole_of(part);
        whole += sums[block];
        heaviest = std::max(heaviest, sums[block]);
    }
    const double target = uniform * whole;
    const int64_t first = block_of(sums.data(), blocks, target, before) * WIDTH,
                  here = least_of(WIDTH, columns - first);
    float weights[WIDTH];
    for (int64_t i = 0; i < here; i += LANES)
        store(weights + i, weight(some(x + first + i, here - i, -INFINITY), highest));
    *at = first + place_of(weights, here, target, before, apart);
    return apart > rough * whole + coarse * heaviest;
}

// -- where a nucleus ends ---------------------------------------------------------------------------------------------

constexpr int64_t EVERY = 512;                          // columns, of which the first LANES are a sample
constexpr int BINS = 512;                               // of a sample
constexpr double SPAN = 32.0, STEP = 2.0, TIED = 2e-3;  // nats: below the best, between guesses, that are one guess
constexpr double MARGIN = 12.0, OVERSHOOT = 0.1;        // how far beyond the cut a guess aims: tokens, and of its error
constexpr double CROWD = 160.0;                         // tokens that are few enough to be put in order
constexpr double LEAST = 1e-30, EDGE = 3e-5;            // as in shares.py

struct Nucleus {
    const float *logits, *probs;
    int64_t columns;
    float highest;
    double whole, share;
    double at = 0.0, slope = 0.0;   // a guess of the logarithm of the probability at the cut, and the mass a nat there
    float low = 0.0f, high = 0.0f;  // what the probabilities near the cut lie between

    // From a sample of what lies below the cut, since that is many tokens of little mass each.
    void guess(float best) {
        double until[BINS] = {};
        const int64_t every = least_of(EVERY, columns), taken = least_of(LANES, every);
        int64_t sampled = 0;
        for (int64_t first = 0; first + every <= columns; first += every, sampled += taken)
            for (int64_t i = first; i < first + taken; i++) {
                const float bin = std::max((highest - logits[i]) * float(BINS / SPAN), 0.0f);
                until[bin < BINS - 1 ? int(bin) : BINS - 1] += probs[i];
            }
        for (int i = 1; i < BINS; i++) until[i] += until[i - 1];
        const double scale = double(columns) / double(sampled) / whole;
        const auto below = [&](int bin) { return (until[BINS - 1] - until[bin]) * scale; };
        int bin = 0;
        while (bin < BINS - 1 && below(bin) > 1.0 - share) bin++;
        const int lower = bin < 4 ? 0 : bin - 4, upper = bin + 4 < BINS ? bin + 4 : BINS - 1;
        slope = std::max((below(lower) - below(upper)) / ((upper - lower) * (SPAN / BINS)), 1e-4);
        at = std::log(best) - (bin + 0.5) * (SPAN / BINS);
    }

    double above(float least) const {
        wide sum = {};
        for (int64_t first = 0; first < columns; first += WIDTH) {
            const int64_t here = least_of(WIDTH, columns - first);
            vec part = {};
            for (int64_t i = 0; i < here; i += LANES) {
                const vec own = some(probs + first + i, here - i, 0.0f);
                part += own > least ? own : vec{};
            }
            sum += halves_of(part);
        }
        return whole_of(sum);
    }

    // Finds low and high.
    bool search(int64_t guesses) {
        const double wanted = share * whole;
        double over = -INFINITY, under = INFINITY, over_off = INFINITY, under_off = -INFINITY;  // too low, too high
        double before = 0.0, before_off = 0.0;
        for (int64_t number = 0; number < guesses; number++) {
            const double least = std::exp(at);
            if (!(LEAST < least && least < 1.0)) return false;
            const double off = above(float(least)) - wanted;
            (off >= 0.0 ? over : under) = at;
            (off >= 0.0 ? over_off : under_off) = off;
            const double gap = over_off - under_off;
            if (gap < CROWD * least || under - over < TIED) {
                low = float(std::exp(over - TIED / 8)), high = float(std::exp(under + TIED / 8));
                return true;
            }
            if (number > 0 && (before_off - off) * (at - before) > 0.0) slope = (before_off - off) / (at - before);
            before = at, before_off = off;
            const double beyond = std::copysign(MARGIN * least, off) + OVERSHOOT * off;
            at += std::min(std::max((off + beyond) / slope, -STEP), STEP);
            if (gap < INFINITY && (number % 8 > 5 || !(over < at && at < under))) at = (over + under) / 2;
        }
        return false;
    }

    // The tokens near the cut as keys, in order; `sums`: of what is more probable than those, by blocks.
    std::vector<uint64_t> near(double *sums) const {
        std::vector<uint64_t> found;
        for (int64_t first = 0; first < columns; first += WIDTH) {
            const int64_t here = least_of(WIDTH, columns - first);
            vec part = {};
            ints held = {};
            for (int64_t i = 0; i < here; i += LANES) {
                const vec own = some(probs + first + i, here - i, 0.0f);
                part += own >= high ? own : vec{};
                held |= (own > low) & (own < high);
            }
            sums[first / WIDTH] = whole_of(part);
            int32_t any = 0;
            for (int i = 0; i < LANES; i++) any |= held[i];
            for (int64_t i = first; any && i < first + here; i++)
                if (probs[i] > low && probs[i] < high) found.push_back(key(logits[i], i));
        }
        std::sort(found.begin(), found.end());
        return found;
    }
};

constexpr int64_t SURE = 0, ROUGH = 1, NOT_FOUND = 2;

// Where the mass above a token reaches the share: `members`, the tokens near, in order; `counts`: how sure that is, how
// many are near, how many of them are in, and how many are in or tie with the last one that is; `edges`: the least
// logit that is in, and what all more probable ones have; `sums`: of what is in, or where that is not sure, of what is
// above the members.
void cut(Nucleus &nucleus, float best, double slack, int64_t guesses, double *sums, int64_t most, int64_t *members,
         int64_t *counts, float *edges) {
    counts[0] = NOT_FOUND, counts[1] = counts[2] = counts[3] = 0;
    nucleus.guess(best);
    if (!nucleus.search(guesses)) return;
    const std::vector<uint64_t> near = nucleus.near(sums);
    const int64_t found = near.size(), blocks = (nucleus.columns + WIDTH - 1) / WIDTH;
    if (found > most) return;
    double until = 0.0, last = 0.0, next = 0.0;
    for (int64_t i = 0; i < blocks; i++) until += sums[i];
    int64_t in = 0;
    for (int64_t i = 0; i < found; i++) {
        members[i] = near[i] & 0xffffffff;
        const double missing = until / nucleus.whole - nucleus.share;
        if (missing < 0.0) {
            in = i + 1, last = missing;
        } else if (i == in) {
            next = missing;
        }
        until += nucleus.probs[members[i]];
    }
    if (in == 0 || in == found) return;
    const int64_t *ends = members + in - 1;
    if (!(nucleus.probs[ends[0]] < nucleus.high * (1 - EDGE) && nucleus.probs[ends[1]] > nucleus.low * (1 + EDGE)))
        return;
    edges[0] = nucleus.logits[ends[0]], edges[1] = nucleus.high;
    const bool rough = std::min(-last, next) < slack / nucleus.whole;
    int64_t tied = in;
    while (tied < found && nucleus.logits[members[tied]] == edges[0]) tied++;
    for (int64_t i = 0; i < in && !rough; i++) sums[members[i] / WIDTH] += nucleus.probs[members[i]];
    counts[0] = rough ? ROUGH : SURE, counts[1] = found, counts[2] = in, counts[3] = tied;
}

}  // namespace

extern "C" {

// probs [rows, columns]; sums [rows, blocks]; facts [rows, 3].
void choose_shares(const float *values, int64_t rows, int64_t columns, float *maxima, float *ends, int64_t known,
                   float *probs, double *sums, double *facts, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        const float *own = values + row * columns;
        if (!known) look(own, columns, maxima + row * (columns / WIDTH), ends + row * 2);
        share_out(own, columns, ends[row * 2 + 1], probs + row * columns, sums + row * ((columns + WIDTH - 1) / WIDTH),
                  facts + row * 3);
    });
}

// at [rows]: the column at which the running sum of the weights exceeds u times the whole; sure [rows]: see `draw`.
void choose_draw(const float *values, int64_t rows, int64_t columns, float *maxima, float *ends, int64_t known,
                 const double *uniform, double rough, double coarse, int64_t *at, uint8_t *sure, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        const float *own = values + row * columns;
        if (!known) look(own, columns, maxima + row * (columns / WIDTH), ends + row * 2);
        sure[row] = draw(own, columns, ends[row * 2 + 1], uniform[row], rough, coarse, at + row);
    });
}

// Of the shares of [rows, columns]: see `cut`. share, whole, slack and best: [rows]; sums [rows, blocks]; members
// [rows, most]; counts [rows, 4]; edges [rows, 2].
void choose_nucleus(const float *logits, const float *probs, int64_t rows, int64_t columns, const float *share,
                    const double *whole, const double *slack, const float *best, const float *ends, int64_t guesses,
                    double *sums, int64_t most, int64_t *members, int64_t *counts, float *edges, int64_t threads) {
    each_row(rows, columns, threads, [=](int64_t row) {
        Nucleus nucleus{
            logits + row * columns, probs + row * columns, columns, ends[row * 2 + 1], whole[row], share[row]};
        cut(nucleus, best[row], slack[row], guesses, sums + row * ((columns + WIDTH - 1) / WIDTH), most,
            members + row * most, counts + row * 4, edges + row * 2);
    });
}

// at [rows]: the column at which the running sum of what is left exceeds u times the whole; apart [rows]: how far that
// is from deciding otherwise. floors: [rows], or null where all is left; without: rows, then columns, of `removed`.
void choose_position(const float *logits, const float *probs, const double *sums, int64_t rows, int64_t columns,
                     const float *floors, const int64_t *without, int64_t removed, const double *uniform, int64_t *at,
                     double *apart) {
    const int64_t blocks = (columns + WIDTH - 1) / WIDTH;
    for (int64_t row = 0; row < rows; row++, logits += columns, probs += columns, sums += blocks) {
        double whole = 0.0, before, nearest;
        for (int64_t i = 0; i < blocks; i++) whole += sums[i];
        const double target = uniform[row] * whole;
        const int64_t block = block_of(sums, blocks, target, before);
        const int64_t first = block * WIDTH, here = least_of(WIDTH, columns - first);
        float weights[WIDTH];
        for (int64_t i = 0; i < here; i++)
            weights[i] = !floors || logits[first + i] >= floors[row] ? probs[first + i] : 0.0f;
        for (int64_t i = 0; i < removed; i++)
            if (without[i] == row && without[removed + i] / WIDTH == block)
                weights[without[removed + i] % WIDTH] = 0.0f;
        at[row] = first + place_of(weights, here, target, before, nearest);
        apart[row] = whole == whole ? nearest : whole;
    }
}
}
