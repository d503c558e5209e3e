/* Convolutions for NEON, eight outputs of two windows at a time. */
#ifndef HWNAS_NEON_CONV_H
#define HWNAS_NEON_CONV_H

#include "hwnas_conv.h"
#include "hwnas_neon.h"

#if defined(HWNAS_NEON)

/* `groups` groups of values of both windows, from x and y. */
HWNAS_INLINE void hwnas_neon_widen(const int8_t *x, const int8_t *y, int32_t groups, uint32_t *window)
{
    int16_t *at = (int16_t *)window;
    for (; groups > 1; groups -= 2, x += 8, y += 8, at += 16) {
        uint32x4_t a = vreinterpretq_u32_s8(vcombine_s8(vld1_s8(x), vdup_n_s8(0)));
        uint32x4_t b = vreinterpretq_u32_s8(vcombine_s8(vld1_s8(y), vdup_n_s8(0)));
        int8x16_t both = vreinterpretq_s8_u32(vzip1q_u32(a, b));
        uint32x4_t even = vreinterpretq_u32_s8(vuzp1q_s8(both, both)), odd = vreinterpretq_u32_s8(vuzp2q_s8(both, both));
        int8x16_t groups_of_both = vreinterpretq_s8_u32(vzip1q_u32(even, odd));
        vst1q_s16(at, vmovl_s8(vget_low_s8(groups_of_both)));
        vst1q_s16(at + 8, vmovl_high_s8(groups_of_both));
    }
    if (groups) {
        uint32x2_t words = vset_lane_u32(hwnas_load(y), vdup_n_u32(hwnas_load(x)), 1);
        int8x8_t both = vreinterpret_s8_u32(words);
        uint32x2_t even = vreinterpret_u32_s8(vuzp1_s8(both, both)), odd = vreinterpret_u32_s8(vuzp2_s8(both, both));
        vst1q_s16(at, vmovl_s8(vreinterpret_s8_u32(vzip1_u32(even, odd))));
    }
}

/* All outputs of the two windows in the scratch, the weights of a group `words` long. */
HWNAS_INLINE void hwnas_neon_pair(const hwnas_conv_params *p, const uint32_t *window, int32_t groups, int8_t *out0, int8_t *out1,
                                  const int32_t words)
{
    const uint32_t *w = (const uint32_t *)p->packed;
    const int16_t *end = (const int16_t *)(window + 4 * groups);
    const int32_t size = 8 + words * groups;
    const int16x8_t zero_point = vdupq_n_s16((int16_t)p->out_zero_point);
    int32_t left = p->out_channels;
    for (; left > 4; left -= 8, w += 2 * size, out0 += 8, out1 += 8) {
        const uint32_t *v = w + 4, *u = v + size;
        int32x4_t a0 = hwnas_neon_load4(w), b0 = hwnas_neon_load4(w + size), a1 = a0, b1 = b0;
        for (const int16_t *at = (const int16_t *)window; at != end; at += 8, v += words, u += words) {
            int16x8_t x = vld1q_s16(at);
            int16x8x2_t a = hwnas_neon_group(v, words), b = hwnas_neon_group(u, words);
            HWNAS_NEON_ADD(a0, a, x, 0, 4, 1, 5);
            HWNAS_NEON_ADD(a1, a, x, 2, 6, 3, 7);
            HWNAS_NEON_ADD(b0, b, x, 0, 4, 1, 5);
            HWNAS_NEON_ADD(b1, b, x, 2, 6, 3, 7);
        }
        int32x4_t ma = hwnas_neon_load4(v), mb = hwnas_neon_load4(u);
        int8x8_t y0 = hwnas_neon_outputs(hwnas_neon_scale(a0, ma), hwnas_neon_scale(b0, mb), zero_point);
        int8x8_t y1 = hwnas_neon_outputs(hwnas_neon_scale(a1, ma), hwnas_neon_scale(b1, mb), zero_point);
        if (left >= 8) {
            vst1_s8(out0, y0);
            vst1_s8(out1, y1);
        } else {
            uint32x2_t z0 = vreinterpret_u32_s8(y0), z1 = vreinterpret_u32_s8(y1);
            hwnas_store(out0, vget_lane_u32(z0, 0));
            hwnas_store(out1, vget_lane_u32(z1, 0));
            hwnas_store_few(out0 + 4, vget_lane_u32(z0, 1), left - 4);
            hwnas_store_few(out1 + 4, vget_lane_u32(z1, 1), left - 4);
        }
    }
    if (left > 0) {
        const uint32_t *v = w + 4;
        int32x4_t a0 = hwnas_neon_load4(w), a1 = a0;
        for (const int16_t *at = (const int16_t *)window; at != end; at += 8, v += words) {
            int16x8_t x = vld1q_s16(at);
            int16x8x2_t a = hwnas_neon_group(v, words);
            HWNAS_NEON_ADD(a0, a, x, 0, 4, 1, 5);
            HWNAS_NEON_ADD(a1, a, x, 2, 6, 3, 7);
        }
        int32x4_t ma = hwnas_neon_load4(v);
        uint32x2_t y = vreinterpret_u32_s8(hwnas_neon_outputs(hwnas_neon_scale(a0, ma), hwnas_neon_scale(a1, ma), zero_point));
        hwnas_store_bytes(out0, vget_lane_u32(y, 0), left);
        hwnas_store_bytes(out1, vget_lane_u32(y, 1), left);
    }
}

/* What `hwnas_conv_pairs` is. */
HWNAS_INLINE void hwnas_neon_pairs(const hwnas_conv_params *p, const hwnas_conv_windows *from, uint32_t *window, int8_t *out, int32_t pitch,
                                   const int32_t words)
{
    const ptrdiff_t step = from->step, run_bytes = 4 * from->groups + from->skip;
    const int8_t *x = from->x;
    for (int32_t i = 0; i < from->count; i++, out += 2 * p->out_channels) {
        if (x) {
            for (int32_t run = 0; run < from->runs; run++)
                hwnas_neon_widen(x + run * run_bytes, x + step + run * run_bytes, from->groups, window + 4 * from->groups * run);
            x += 2 * step;
        }
        hwnas_neon_pair(p, window, hwnas_conv_groups(p), out, out + pitch, words);
    }
}

#endif
#endif
