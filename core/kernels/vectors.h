// Sixteen float32 at a time, as AVX-512 has them: a compiler that has to take such vectors apart makes something slower
// than torch of them.
#pragma once

#ifndef __AVX512F__
#error "these kernels are for a processor with AVX-512"
#endif

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 16;
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));

struct bfloat16 {
    uint16_t bits;
};

inline vec all(float x) { return x - vec{}; }

// Wider and narrower integers, and the lowest four bits of each as -8 to 7. GCC makes ten instructions of a conversion
// for which there is one; four bits can be looked up in a register.
inline words widened(bytes x) { return (words)_mm512_cvtepu8_epi32((__m128i)x); }
inline words widened(halves x) { return (words)_mm512_cvtepu16_epi32((__m256i)x); }
inline halves narrowed(words x) { return (halves)_mm512_cvtepi32_epi16((__m512i)x); }
inline vec four_bits(words x) {
    const vec table = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    return (vec)_mm512_permutexvar_ps((__m512i)x, (__m512)table);
}

// -- activations, read as float32 and rounded back: to the nearest, ties to even --------------------------------------

inline vec load(const float *at) {
    vec x;
    std::memcpy(&x, at, sizeof x);
    return x;
}

inline vec load(const bfloat16 *at) {
    halves narrow;
    std::memcpy(&narrow, at, sizeof narrow);
    return (vec)(widened(narrow) << 16);
}

inline float widened(bfloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

inline words bits_of_bfloat16(vec x) {
    const words bits = (words)x, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return x == x ? rounded : words{} + 0x7fc0;
}

inline void store(float *at, vec x) { std::memcpy(at, &x, sizeof x); }

inline void store(bfloat16 *at, vec x) {
    const halves narrow = narrowed(bits_of_bfloat16(x));
    std::memcpy(at, &narrow, sizeof narrow);
}

template <class T>
inline vec rounded(vec x);
template <>
inline vec rounded<float>(vec x) {
    return x;
}
template <>
inline vec rounded<bfloat16>(vec x) {
    return (vec)(bits_of_bfloat16(x) << 16);
}

// -- what becomes of them ---------------------------------------------------------------------------------------------

// Lanes of a and, from LANES on, of b. What Clang has, and GCC since 12, GCC has always had by another name.
#ifdef __clang__
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (ints){__VA_ARGS__})
#endif

// Sums of lanes: each half, quarter ... of a's and behind them those of b's.
inline vec halved8(vec a, vec b) {
    return SHUFFLED(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           SHUFFLED(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}
inline vec halved4(vec a, vec b) {
    return SHUFFLED(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           SHUFFLED(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
inline vec halved2(vec a, vec b) {
    return SHUFFLED(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
           SHUFFLED(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
}
inline vec halved1(vec a, vec b) {
    return SHUFFLED(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           SHUFFLED(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

// The sums of sixteen vectors, one a lane: half the additions and shuffles of one sum after another.
inline vec sums(const vec *x) {
    vec eight[8], four[4];
    for (int i = 0; i < 8; i++) eight[i] = halved8(x[2 * i], x[2 * i + 1]);
    for (int i = 0; i < 4; i++) four[i] = halved4(eight[2 * i], eight[2 * i + 1]);
    return halved1(halved2(four[0], four[1]), halved2(four[2], four[3]));
}

inline float sum(vec x) {
    const vec eight = halved8(x, x), four = halved4(eight, eight), two = halved2(four, four);
    return halved1(two, two)[0];
}

inline vec larger(vec a, vec b) { return a > b ? a : b; }
inline vec smaller(vec a, vec b) { return a < b ? a : b; }

inline float largest(vec x) {
    x = larger(x, SHUFFLED(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    x = larger(x, SHUFFLED(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    x = larger(x, SHUFFLED(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
    return x[0] > x[1] ? x[0] : x[1];
}

// e^x to an ulp or two; 0 below the least normal number, infinity above 2.4e38, NaN for NaN. By Cody and Waite's
// reduction, and the polynomial of Cephes' expf.
inline vec exponential(vec x) {
    const vec least = all(-87.33654f), largest = all(88.37626f);
    vec within = x < least ? least : x;
    within = within > largest ? largest : within;
    const vec whole = (within * 1.44269504f + 12582912.0f) - 12582912.0f;  // to the nearest: no fraction fits beside it
    const vec rest = (within - whole * 0.693359375f) + whole * 2.12194440e-4f;
    vec value = all(1.9875691500e-4f);
    value = value * rest + 1.3981999507e-3f;
    value = value * rest + 8.3334519073e-3f;
    value = value * rest + 4.1665795894e-2f;
    value = value * rest + 1.6666665459e-1f;
    value = value * rest + 5.0000001201e-1f;
    value = value * (rest * rest) + rest + 1.0f;
    const vec scaled = (vec)((ints)value + (__builtin_convertvector(whole, ints) << 23));
    const vec bounded = x > largest ? all(INFINITY) : scaled;
    return x < least ? vec{} : bounded;
}

}  // namespace
