/* Convolutions of windows of at most eight values for NEON, eight windows at a time: value by value, they lie in registers. */
#ifndef HWNAS_NEON_SHORT_H
#define HWNAS_NEON_SHORT_H

#include "hwnas_neon.h"

#if defined(HWNAS_NEON)

/* Rows and columns of eight bytes exchanged. */
HWNAS_INLINE void hwnas_neon_transpose(int8x8_t v[8])
{
    for (int i = 0; i < 8; i += 2) {
        int8x8x2_t t = vtrn_s8(v[i], v[i + 1]);
        v[i] = t.val[0];
        v[i + 1] = t.val[1];
    }
    for (int i = 0; i < 8; i += (i & 1) ? 3 : 1) {
        int16x4x2_t t = vtrn_s16(vreinterpret_s16_s8(v[i]), vreinterpret_s16_s8(v[i + 2]));
        v[i] = vreinterpret_s8_s16(t.val[0]);
        v[i + 2] = vreinterpret_s8_s16(t.val[1]);
    }
    for (int i = 0; i < 4; i++) {
        int32x2x2_t t = vtrn_s32(vreinterpret_s32_s8(v[i]), vreinterpret_s32_s8(v[i + 4]));
        v[i] = vreinterpret_s8_s32(t.val[0]);
        v[i + 4] = vreinterpret_s8_s32(t.val[1]);
    }
}

/* One output channel of eight windows, value by value in `x`; `w` is its block of packed weights, with `words` words of weights. */
HWNAS_INLINE int8x8_t hwnas_neon_short(const int16x8_t x[8], const uint32_t *w, int16x8_t zero_point, const int32_t words)
{
    int32x4_t low = vdupq_n_s32((int32_t)w[0]), high = low, multiplier = vdupq_n_s32((int32_t)w[1]);
    uint32x4_t taps = vdupq_n_u32(w[2]);
    if (words > 1)
        taps = vsetq_lane_u32(w[3], taps, 1);
    if (words > 2)
        taps = vsetq_lane_u32(w[4], taps, 2);
    if (words > 3)
        taps = vld1q_u32(w + 2);
    int16x8_t t = vreinterpretq_s16_u32(taps);
#define HWNAS_NEON_TAP(i) \
    do { \
        low = vmlal_laneq_s16(low, vget_low_s16(x[i]), t, i); \
        high = vmlal_high_laneq_s16(high, x[i], t, i); \
    } while (0)
    HWNAS_NEON_TAP(0);
    HWNAS_NEON_TAP(1);
    if (words > 1) {
        HWNAS_NEON_TAP(2);
        HWNAS_NEON_TAP(3);
    }
    if (words > 2) {
        HWNAS_NEON_TAP(4);
        HWNAS_NEON_TAP(5);
    }
    if (words > 3) {
        HWNAS_NEON_TAP(6);
        HWNAS_NEON_TAP(7);
    }
#undef HWNAS_NEON_TAP
    return hwnas_neon_outputs(hwnas_neon_scale(low, multiplier), hwnas_neon_scale(high, multiplier), zero_point);
}

HWNAS_COLD void hwnas_neon_short_rows(int8_t *out, ptrdiff_t channels, const uint32_t *words, int32_t count)
{
    for (; count; count--, out += channels)
        hwnas_store(out, *words++);
}

/* All outputs of `count` (at most 8) neighbouring positions. */
HWNAS_INLINE void hwnas_neon_short_outputs(const hwnas_conv_params *p, const int16x8_t x[8], int8_t *out, int32_t count,
                                           const int32_t words)
{
    const uint32_t *w = (const uint32_t *)p->packed;
    const int16x8_t zero_point = vdupq_n_s16((int16_t)p->out_zero_point);
    const ptrdiff_t channels = p->out_channels;
    int32_t left = p->out_channels;
    for (; left >= 4; left -= 4, out += 4, w += 4 * (2 + words)) {
        int8x8_t a = hwnas_neon_short(x, w, zero_point, words);
        int8x8_t b = hwnas_neon_short(x, w + 2 + words, zero_point, words);
        int8x8_t c = hwnas_neon_short(x, w + 2 * (2 + words), zero_point, words);
        int8x8_t d = hwnas_neon_short(x, w + 3 * (2 + words), zero_point, words);
        int8x16_t ac = vcombine_s8(vzip1_s8(a, b), vzip1_s8(c, d)), bd = vcombine_s8(vzip2_s8(a, b), vzip2_s8(c, d));
        int16x4_t ab0 = vreinterpret_s16_s8(vget_low_s8(ac)), cd0 = vreinterpret_s16_s8(vget_high_s8(ac));
        int16x4_t ab1 = vreinterpret_s16_s8(vget_low_s8(bd)), cd1 = vreinterpret_s16_s8(vget_high_s8(bd));
        uint32x2_t y[4] = {vreinterpret_u32_s16(vzip1_s16(ab0, cd0)), vreinterpret_u32_s16(vzip2_s16(ab0, cd0)),
                           vreinterpret_u32_s16(vzip1_s16(ab1, cd1)), vreinterpret_u32_s16(vzip2_s16(ab1, cd1))};
        if (count == 8) {
            int8_t *row = out;
            for (int i = 0; i < 4; i++, row += 2 * channels) {
                hwnas_store(row, vget_lane_u32(y[i], 0));
                hwnas_store(row + channels, vget_lane_u32(y[i], 1));
            }
        } else {
            uint32_t rows[8];
            for (int i = 0; i < 4; i++)
                vst1_u32(rows + 2 * i, y[i]);
            hwnas_neon_short_rows(out, channels, rows, count);
        }
    }
    for (; left > 0; left--, out++, w += 2 + words) {
        int8_t value[8];
        vst1_s8(value, hwnas_neon_short(x, w, zero_point, words));
        for (int32_t i = 0; i < count; i++)
            out[i * channels] = value[i];
    }
}

/* Eight windows of at most eight values, the first one's at `start`; values outside the signal are padding. */
HWNAS_COLD void hwnas_neon_short_edge(const hwnas_conv_params *p, const int8_t *in, int32_t start, int8_t window[64])
{
    int32_t values = p->kernel * p->in_channels, end = p->in_length * p->in_channels;
    for (int32_t i = 0; i < 8; i++, start += p->stride * p->in_channels)
        for (int32_t j = 0; j < 8; j++)
            *window++ = (int8_t)(j < values && start + j >= 0 && start + j < end ? in[start + j] : p->in_zero_point);
}

HWNAS_INLINE void hwnas_neon_short_positions(const hwnas_conv_params *p, const int8_t *in, int8_t *out, const int32_t words)
{
    int32_t step = p->stride * p->in_channels, start = -p->pad_left * p->in_channels;
    int32_t last = p->in_length * p->in_channels - 7 * step - 8; /* latest start of eight windows that may be read in eight bytes each */
    for (int32_t left = p->out_length; left > 0; left -= 8, start += 8 * step, out += 8 * p->out_channels) {
        int8_t window[64];
        const int8_t *from = window;
        int32_t row = 8;
        int8x8_t rows[8];
        int16x8_t x[8];
        if (start >= 0 && start <= last) {
            from = in + start;
            row = step;
        } else {
            hwnas_neon_short_edge(p, in, start, window);
        }
        for (int i = 0; i < 8; i++)
            rows[i] = vld1_s8(from + i * row);
        hwnas_neon_transpose(rows);
        for (int i = 0; i < 8; i++)
            x[i] = vmovl_s8(rows[i]);
        hwnas_neon_short_outputs(p, x, out, left < 8 ? left : 8, words);
    }
}

/* The kernel. */
HWNAS_INLINE void hwnas_neon_conv1d_short(const hwnas_conv_params *p, const int8_t *in, int8_t *out)
{
    int32_t words = (p->kernel * p->in_channels + 1) >> 1;
    if (words == 1)
        hwnas_neon_short_positions(p, in, out, 1);
    else if (words == 2)
        hwnas_neon_short_positions(p, in, out, 2);
    else if (words == 3)
        hwnas_neon_short_positions(p, in, out, 3);
    else
        hwnas_neon_short_positions(p, in, out, 4);
}

#endif
#endif
