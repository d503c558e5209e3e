/* Dense layers for NEON, eight outputs at a time. */
#ifndef HWNAS_NEON_DENSE_H
#define HWNAS_NEON_DENSE_H

#include "hwnas_neon.h"

#if defined(HWNAS_NEON)

/* Up to eight (`two`: more than four) outputs of a dense layer, the weights of a group `words` long; `size`: words of a block. */
HWNAS_INLINE int8x8_t hwnas_neon_dense_outputs(const hwnas_dense_params *p, const int8_t *in, const uint32_t *w, int32_t size,
                                               const int32_t two, const int32_t words)
{
    const uint32_t *v = w + 4, *u = v + size;
    int32x4_t a0 = hwnas_neon_load4(w), b0 = two ? hwnas_neon_load4(w + size) : a0;
    int16x8x2_t a, b;
    int32_t left = p->in_channels;
    for (; left >= 8; left -= 8, in += 8, v += 2 * words, u += 2 * words) {
        int16x8_t x = vmovl_s8(vld1_s8(in));
        a = hwnas_neon_group(v, words);
        HWNAS_NEON_ADD(a0, a, x, 0, 1, 2, 3);
        if (two) {
            b = hwnas_neon_group(u, words);
            HWNAS_NEON_ADD(b0, b, x, 0, 1, 2, 3);
        }
        a = hwnas_neon_group(v + words, words);
        HWNAS_NEON_ADD(a0, a, x, 4, 5, 6, 7);
        if (two) {
            b = hwnas_neon_group(u + words, words);
            HWNAS_NEON_ADD(b0, b, x, 4, 5, 6, 7);
        }
    }
    for (; left > 0; left -= 4, in += 4, v += words, u += words) {
        int16x8_t x = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(hwnas_load_bytes(in, left))));
        a = hwnas_neon_group(v, words);
        HWNAS_NEON_ADD(a0, a, x, 0, 1, 2, 3);
        if (two) {
            b = hwnas_neon_group(u, words);
            HWNAS_NEON_ADD(b0, b, x, 0, 1, 2, 3);
        }
    }
    int32x4_t low = hwnas_neon_scale(a0, hwnas_neon_load4(v)), high = two ? hwnas_neon_scale(b0, hwnas_neon_load4(u)) : low;
    return hwnas_neon_outputs(low, high, vdupq_n_s16((int16_t)p->out_zero_point));
}

/* The dense kernels. */
HWNAS_INLINE void hwnas_neon_dense(const hwnas_dense_params *p, const int8_t *in, int8_t *out, const int32_t words)
{
    const uint32_t *w = (const uint32_t *)p->packed;
    const int32_t size = 8 + words * ((p->in_channels + 3) >> 2);
    int32_t left = p->units;
    for (; left >= 8; left -= 8, w += 2 * size, out += 8)
        vst1_s8(out, hwnas_neon_dense_outputs(p, in, w, size, 1, words));
    for (; left > 0; left -= 4, w += size, out += 4)
        hwnas_store_bytes(out, vget_lane_u32(vreinterpret_u32_s8(hwnas_neon_dense_outputs(p, in, w, size, 0, words)), 0), left);
}

#endif
#endif
