// Philox4x32-10, the counter-based noise of core/rng.py, for a few counters.

#include <cstdint>

extern "C" {

// words [6, count]: four words of a counter and two of a key; out [4, count].
void noise_philox(const uint32_t *words, int64_t count, uint32_t *out) {
    for (int64_t i = 0; i < count; i++) {
        const auto word = [&](int which) { return words[which * count + i]; };
        uint32_t c0 = word(0), c1 = word(1), c2 = word(2), c3 = word(3), k0 = word(4), k1 = word(5);
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = uint64_t(c0) * 0xD2511F53u, p1 = uint64_t(c2) * 0xCD9E8D57u;
            c0 = uint32_t(p1 >> 32) ^ c1 ^ k0, c1 = uint32_t(p1);
            c2 = uint32_t(p0 >> 32) ^ c3 ^ k1, c3 = uint32_t(p0);
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        out[i] = c0, out[count + i] = c1, out[2 * count + i] = c2, out[3 * count + i] = c3;
    }
}
}
