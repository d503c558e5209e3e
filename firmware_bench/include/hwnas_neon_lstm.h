/* LSTM for NEON: the gates of two units at a time. */
#ifndef HWNAS_NEON_LSTM_H
#define HWNAS_NEON_LSTM_H

#include "hwnas_lstm.h"
#include "hwnas_neon.h"

#if defined(HWNAS_NEON)

/* Sums of the gates of two units from widened values, a pair of even and a pair of odd ones a group. `w` is the first unit's block, `size`
 * words before that of the second. */
HWNAS_INLINE void hwnas_neon_gates(const uint32_t *w, int32_t size, const uint32_t *window, const uint32_t *end, int32_t acc[8],
                                   const int32_t words)
{
    const uint32_t *v = w + 4, *u = v + size;
    const int16_t *at = (const int16_t *)window;
    int32x4_t a0 = hwnas_neon_load4(w), b0 = hwnas_neon_load4(w + size);
    for (; window + 4 <= end; window += 4, at += 8, v += 2 * words, u += 2 * words) {
        int16x8_t x = vld1q_s16(at);
        int16x8x2_t a = hwnas_neon_group(v, words), b = hwnas_neon_group(u, words);
        HWNAS_NEON_ADD(a0, a, x, 0, 2, 1, 3);
        HWNAS_NEON_ADD(b0, b, x, 0, 2, 1, 3);
        a = hwnas_neon_group(v + words, words);
        b = hwnas_neon_group(u + words, words);
        HWNAS_NEON_ADD(a0, a, x, 4, 6, 5, 7);
        HWNAS_NEON_ADD(b0, b, x, 4, 6, 5, 7);
    }
    if (window != end) {
        int16x4_t few = vld1_s16(at);
        int16x8_t x = vcombine_s16(few, few);
        int16x8x2_t a = hwnas_neon_group(v, words), b = hwnas_neon_group(u, words);
        HWNAS_NEON_ADD(a0, a, x, 0, 2, 1, 3);
        HWNAS_NEON_ADD(b0, b, x, 0, 2, 1, 3);
    }
    vst1q_s32(acc, a0);
    vst1q_s32(acc + 4, b0);
}

/* One step of all units, the weights of a group `words` long. */
HWNAS_INLINE void hwnas_neon_units(const hwnas_lstm_step *s, const int32_t words)
{
    const uint32_t *w = s->weights;
    int32_t units = (int32_t)(s->cell_end - s->cell), size = 8 + words * (int32_t)((s->end - s->window) >> 1);
    for (int32_t i = 0; i < units; i += 2, w += 2 * size) {
        int32_t acc[8], more = i + 1 < units; /* a last unit alone is computed twice */
        hwnas_neon_gates(w, more ? size : 0, s->window, s->end, acc, words);
        hwnas_lstm_unit(s, acc, w + size - 4, s->cell + i, s->out + i);
        if (more)
            hwnas_lstm_unit(s, acc + 4, w + 2 * size - 4, s->cell + i + 1, s->out + i + 1);
    }
}

#endif
#endif
