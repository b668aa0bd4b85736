// Products of a few rows with weights that are narrower than the arithmetic: what is read of a weight is widened in
// registers, once for up to eight rows.
//
// Activations are bfloat16, sums float32. A row's numbers do not depend on the others or on the threads: each output is
// summed in the same order however many there are.

#include <type_traits>
#include <vector>

#include "vectors.h"

namespace {

constexpr int TILE = 8, SUMS = 16;  // rows that one reading of a weight serves; vectors that are summed at a time
constexpr int GROUP = 32;           // inputs that share a scale
constexpr int BLOCK = 64;           // outputs that torch's layout of 4 bits keeps together
constexpr int HALF = BLOCK / 2;

// -- weights of 4 bits ------------------------------------------------------------------------------------------------

constexpr int DISTANCE =
    2048;  // bytes that are asked for ahead: a processor left alone reads at two thirds of the speed
constexpr int GROUPS_AHEAD = 2;

// Activations of some rows: x [rows, size] in float32, and the sums of each group of a row, [rows, groups].
struct Inputs {
    std::vector<vec> x;  // aligned: a load that crosses a line counts twice
    std::vector<float> sums;
    int64_t groups;

    Inputs(const bfloat16 *from, int64_t rows, int64_t size)
        : x(rows * size / LANES), sums(rows * size / GROUP), groups(size / GROUP) {
        for (size_t i = 0; i < x.size(); i++) x[i] = load(from + i * LANES);
        for (size_t i = 0; i < sums.size(); i++) sums[i] = sum(x[2 * i] + x[2 * i + 1]);
    }
};

// The outputs of one block, or of its half number `half`, for ROWS rows.
//
// A weight is (q - 8) * scale + zero. Of a group, the sum of q * x is scaled, and the sum of x takes what is the same
// for all of it.
template <int ROWS, int HALVES>
void outputs(const Inputs &in, int64_t first, const uint8_t *packed, const uint32_t *scales, int64_t size, int half,
             bfloat16 *out) {
    constexpr int WIDE = 2 * HALVES;
    vec made[ROWS][WIDE] = {};
    const int64_t groups = in.groups, inputs = groups * GROUP;
    const float *x = reinterpret_cast<const float *>(in.x.data()) + first * inputs;
    const float *of_group = in.sums.data() + first * groups;
    for (int64_t group = 0; group < groups; group++, scales += size, of_group++) {
        vec sums[ROWS][WIDE] = {};
        for (int j = 0; j < WIDE; j++) __builtin_prefetch(scales + GROUPS_AHEAD * size + j * LANES);
        for (int k = 0; k < GROUP; k++, packed += HALF, x++) {
            __builtin_prefetch(packed + DISTANCE);
            vec q[WIDE];
            for (int part = 0; part < 2; part++) {
                bytes pairs;
                std::memcpy(&pairs, packed + part * LANES, sizeof pairs);
                const words wide = widened(pairs);
                q[part] = four_bits(HALVES == 1 && half ? wide >> 4 : wide);
                if (HALVES == 2) q[2 + part] = four_bits(wide >> 4);
            }
            for (int row = 0; row < ROWS; row++)
                for (int j = 0; j < WIDE; j++) sums[row][j] += q[j] * x[row * inputs];
        }
        for (int j = 0; j < WIDE; j++) {
            words both;
            std::memcpy(&both, scales + j * LANES, sizeof both);
            const vec scale = (vec)(both << 16), zero = (vec)(both & 0xffff0000u);
            for (int row = 0; row < ROWS; row++) made[row][j] += sums[row][j] * scale + zero * of_group[row * groups];
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int j = 0; j < WIDE; j++) store(out + row * size + j * LANES, made[row][j]);
}

// The half blocks begin .. end - 1, for the rows first .. first + ROWS - 1.
template <int ROWS>
void int4_tile(const Inputs &in, int64_t first, const uint8_t *packed, const uint32_t *scales, int64_t size,
               int64_t begin, int64_t end, bfloat16 *out) {
    for (int64_t at = begin; at < end;) {
        const uint8_t *block = packed + at / 2 * in.groups * GROUP * HALF;
        if (ROWS <= TILE / 2 && at % 2 == 0 && at + 1 < end) {
            outputs<ROWS, 2>(in, first, block, scales + at * HALF, size, 0, out + at * HALF);
            at += 2;
        } else {
            outputs<ROWS, 1>(in, first, block, scales + at * HALF, size, int(at % 2), out + at * HALF);
            at += 1;
        }
    }
}

// -- weights of 16 bits -----------------------------------------------------------------------------------------------

constexpr int AHEAD = 8;  // outputs whose weights are asked for before they are read

// SIDE outputs, whose weights lie a row behind the other, for ROWS rows of x, float32 [ROWS, inputs].
template <int ROWS, int SIDE>
void dots(const vec *x, const bfloat16 *weight, const bfloat16 *bias, int64_t inputs, int64_t size, bfloat16 *out) {
    vec made[LANES] = {};
    for (int64_t i = 0; i < inputs; i += LANES) {
        vec w[SIDE];
        for (int j = 0; j < SIDE; j++) {
            w[j] = load(weight + j * inputs + i);
            __builtin_prefetch(weight + (AHEAD + j) * inputs + i);
        }
        for (int row = 0; row < ROWS; row++) {
            const vec values = x[(row * inputs + i) / LANES];
            for (int j = 0; j < SIDE; j++) made[row * SIDE + j] += values * w[j];
        }
    }
    vec found = sums(made);
    if (bias)
        for (int at = 0; at < ROWS * SIDE; at++) found[at] += widened(bias[at % SIDE]);
    const words bits = bits_of_bfloat16(found);
    for (int row = 0; row < ROWS; row++)
        for (int j = 0; j < SIDE; j++) out[row * size + j].bits = uint16_t(bits[row * SIDE + j]);
}

template <int ROWS>
void bfloat16_tile(const vec *x, const bfloat16 *weight, const bfloat16 *bias, int64_t inputs, int64_t size,
                   int64_t first, int64_t last, bfloat16 *out) {
    constexpr int SIDE = SUMS / ROWS < 8 ? SUMS / ROWS : 8;
    const auto from = [&](int64_t at) { return bias ? bias + at : nullptr; };
    int64_t at = first;
    for (; at + SIDE <= last; at += SIDE) dots<ROWS, SIDE>(x, weight + at * inputs, from(at), inputs, size, out + at);
    for (; at < last; at++) dots<ROWS, 1>(x, weight + at * inputs, from(at), inputs, size, out + at);
}

// -- any number of rows -----------------------------------------------------------------------------------------------

// Calls task(their number as a type, the first of them) for each tile of rows.
template <class Task, int ROWS = TILE>
void tiles(int64_t rows, const Task &task, int64_t first = 0) {
    for (; first + ROWS <= rows; first += ROWS) task(std::integral_constant<int, ROWS>(), first);
    if constexpr (ROWS > 1)
        if (first < rows) tiles<Task, ROWS - 1>(rows, task, first);
}

}  // namespace

extern "C" {

// x [rows, inputs] bfloat16; packed [size / BLOCK, inputs, HALF], two weights a byte; scales [inputs / GROUP, size, 2]
// bfloat16, scale and zero; out [rows, size] bfloat16.
void product_int4(const bfloat16 *x, const uint8_t *packed, const uint32_t *scales, int64_t rows, int64_t inputs,
                  int64_t size, int64_t threads, bfloat16 *out) {
    const Inputs in(x, rows, inputs);
    const int64_t halves = size / HALF;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t share = 0; share < threads; share++) {
        const int64_t begin = halves * share / threads, end = halves * (share + 1) / threads;
        for (int64_t at = begin, next; at < end; at = next) {  // what fits a cache, for all rows
            next = at + 2 - at % 2 < end ? at + 2 - at % 2 : end;
            tiles(rows, [&](auto tile, int64_t first) {
                int4_tile<decltype(tile)::value>(in, first, packed, scales, size, at, next, out + first * size);
            });
        }
    }
}

// x [rows, inputs], weight [size, inputs], bias [size] or null, out [rows, size], all bfloat16.
void product_bfloat16(const bfloat16 *x, const bfloat16 *weight, const bfloat16 *bias, int64_t rows, int64_t inputs,
                      int64_t size, int64_t threads, bfloat16 *out) {
    std::vector<vec> wide(rows * inputs / LANES);  // aligned: a load that crosses a line counts twice
    for (size_t i = 0; i < wide.size(); i++) wide[i] = load(x + i * LANES);
    constexpr int64_t PIECE = 16;  // outputs whose weights stay in the cache for all tiles of rows
    const int64_t pieces = (size + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t piece = 0; piece < pieces; piece++) {
        const int64_t begin = piece * PIECE, end = begin + PIECE < size ? begin + PIECE : size;
        tiles(rows, [&](auto tile, int64_t first) {
            bfloat16_tile<decltype(tile)::value>(wide.data() + first * inputs / LANES, weight, bias, inputs, size,
                                                 begin, end, out + first * size);
        });
    }
}
}
