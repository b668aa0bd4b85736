// Philox4x32-10, the counter-based noise of core/rng.py, for a few counters.

#include <cstdint>

namespace {

// Four words of a counter and two of a key; four words back, in c.
inline void philox(uint32_t *c, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = uint64_t(c[0]) * 0xD2511F53u, p1 = uint64_t(c[2]) * 0xCD9E8D57u;
        c[0] = uint32_t(p1 >> 32) ^ c[1] ^ k0, c[1] = uint32_t(p1);
        c[2] = uint32_t(p0 >> 32) ^ c[3] ^ k1, c[3] = uint32_t(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
}

}  // namespace

extern "C" {

// words [6, count]: four words of a counter and two of a key; out [4, count].
void noise_philox(const uint32_t *words, int64_t count, uint32_t *out) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t c[4];
        for (int which = 0; which < 4; which++) c[which] = words[which * count + i];
        philox(c, words[4 * count + i], words[5 * count + i]);
        for (int which = 0; which < 4; which++) out[which * count + i] = c[which];
    }
}

// places [count, 3]: seed, position and attempt; out [count, draws]: numbers in [0, 1) of 53 bits.
void noise_uniform(const uint64_t *places, int64_t count, int64_t key, int64_t draws, double *out) {
    for (int64_t i = 0; i < count; i++, places += 3) {
        for (int64_t draw = 0; draw < draws; draw++) {
            uint32_t c[4] = {uint32_t(draw), uint32_t(places[1]), uint32_t(places[2]), uint32_t(key)};
            philox(c, uint32_t(places[0]), uint32_t(places[0] >> 32));
            *out++ = double((uint64_t(c[0]) >> 5) * 67108864 + (c[1] >> 6)) * (1.0 / 9007199254740992.0);
        }
    }
}
}
