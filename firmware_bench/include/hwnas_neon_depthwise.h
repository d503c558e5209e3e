/* Depthwise convolutions with filters of at most nine taps for NEON, eight channels at a time, their taps in registers. */
#ifndef HWNAS_NEON_DEPTHWISE_H
#define HWNAS_NEON_DEPTHWISE_H

#include "hwnas_neon.h"

#if defined(HWNAS_NEON)

#define HWNAS_NEON_TAPS 9

/* Where the samples of up to eight channels are read. Eight bytes are read at once, so the last samples are read from a copy where those
 * would pass the end of the signal (from sample `copied` on). `spare`: eight bytes of padding, then those copies. */
typedef struct {
    const int8_t *in, *spare;
    ptrdiff_t channels, length, copied;
} hwnas_neon_signal;

HWNAS_COLD void hwnas_neon_copy(int8_t spare[72], const hwnas_conv_params *p, const int8_t *in, ptrdiff_t copied, int32_t count)
{
    for (int32_t i = 0; i < 8; i++)
        *spare++ = (int8_t)p->in_zero_point;
    for (in += copied * p->in_channels; copied < p->in_length; copied++, in += p->in_channels)
        for (int32_t i = 0; i < 8; i++)
            *spare++ = i < count ? in[i] : (int8_t)0;
}

/* Biases, multipliers and taps of `count` channels, side by side; `w` is the first one's block. Zero for absent channels. */
typedef struct {
    int32_t bias[8], multiplier[8];
    int16_t taps[8 * (HWNAS_NEON_TAPS + 1)];
} hwnas_neon_filters;

HWNAS_COLD void hwnas_neon_gather(hwnas_neon_filters *f, const uint32_t *w, int32_t words, int32_t count)
{
    for (int32_t i = 0; i < 8 * (HWNAS_NEON_TAPS + 1); i++)
        f->taps[i] = 0;
    for (int32_t c = 0; c < 8; c++) {
        f->bias[c] = c < count ? (int32_t)w[0] : 0;
        f->multiplier[c] = c < count ? (int32_t)w[1] : 0;
        for (int32_t i = 0; c < count && i < words; i++) {
            f->taps[16 * i + c] = (int16_t)(w[2 + i] & 0xFFFFu);
            f->taps[16 * i + 8 + c] = (int16_t)(w[2 + i] >> 16);
        }
        w += c + 1 < count ? 2 + words : 0;
    }
}

/* Sample `t`; where it stands is chosen without a branch. */
HWNAS_INLINE int16x8_t hwnas_neon_sample(const hwnas_neon_signal s, ptrdiff_t t)
{
    const int8_t *x = s.copied < s.length && t >= s.copied ? s.spare + 8 * (t - s.copied + 1) : s.in + t * s.channels;
    return vmovl_s8(vld1_s8((size_t)t < (size_t)s.length ? x : s.spare));
}

/* The first `count` (at most 8) values of y. */
HWNAS_INLINE void hwnas_neon_write(int8_t *out, int8x8_t y, int32_t count)
{
    if (count == 8) {
        vst1_s8(out, y);
        return;
    }
    if (count & 4) {
        hwnas_store(out, vget_lane_u32(vreinterpret_u32_s8(y), 0));
        y = vext_s8(y, y, 4);
        out += 4;
    }
    if (count & 2) {
        vst1_lane_s8(out, y, 0);
        vst1_lane_s8(out + 1, y, 1);
        y = vext_s8(y, y, 2);
        out += 2;
    }
    if (count & 1)
        vst1_lane_s8(out, y, 0);
}

/* What stays the same over the positions of up to eight channels. */
typedef struct {
    hwnas_neon_signal signal;
    int16x8_t taps[HWNAS_NEON_TAPS];
    int32x4_t bias[2], multiplier[2];
    int16x8_t zero_point;
    ptrdiff_t stride, dilation;
} hwnas_neon_filter;

/* Adds up the window x, which begins at sample `at`, and turns it into the next one; see `hwnas_neon_channels`. */
HWNAS_INLINE int32x4x2_t hwnas_neon_window(const hwnas_neon_filter *f, int16x8_t x[HWNAS_NEON_TAPS], ptrdiff_t at, const int32_t taps,
                                           const int32_t step)
{
    int32x4x2_t sums;
    sums.val[0] = f->bias[0];
    sums.val[1] = f->bias[1];
    for (int32_t i = 0; i < taps; i++) {
        if (!step)
            x[i] = hwnas_neon_sample(f->signal, at + i * f->dilation);
        sums.val[0] = vmlal_s16(sums.val[0], vget_low_s16(f->taps[i]), vget_low_s16(x[i]));
        sums.val[1] = vmlal_high_s16(sums.val[1], f->taps[i], x[i]);
    }
    if (step == 1 || step == 2) {
        for (int32_t i = 0; i < taps - step; i++)
            x[i] = x[i + step];
        for (int32_t i = taps > step ? taps - step : 0; i < taps; i++)
            x[i] = hwnas_neon_sample(f->signal, at + step + i);
    } else if (step) {
        for (ptrdiff_t s = 1; s <= f->stride; s++) {
            for (int32_t i = 0; i < taps - 1; i++)
                x[i] = x[i + 1];
            x[taps - 1] = hwnas_neon_sample(f->signal, at + s + taps - 1);
        }
    }
    return sums;
}

HWNAS_INLINE int8x8_t hwnas_neon_filtered(const hwnas_neon_filter *f, int32x4x2_t sums)
{
    int32x4_t low = hwnas_neon_scale(sums.val[0], f->multiplier[0]), high = hwnas_neon_scale(sums.val[1], f->multiplier[1]);
    return hwnas_neon_outputs(low, high, f->zero_point);
}

/* `count` (at most 8) channels from `channel` on, with filters of at most `taps` taps; `w` is the first one's block. With `step` 1 or 2,
 * the stride, eight channels' window stays in registers, and so it does with 3, sample by sample; with 0 every window is read again
 * (dilation). As a sample is read once, and before any output is written over it, `out` may be `in` where `step` is not 0. */
HWNAS_INLINE void hwnas_neon_channels(const hwnas_conv_params *p, const uint32_t *w, const int8_t *in, int8_t *out, int32_t channel,
                                      int32_t count, const int32_t taps, const int32_t step)
{
    const int32_t whole = step == 1 || step == 2;
    const int32_t past = 8 - (p->in_channels - channel), rows = past > 0 ? (past + p->in_channels - 1) / p->in_channels : 0;
    const int32_t copied = whole ? p->in_length : rows < p->in_length ? p->in_length - rows : 0;
    hwnas_neon_filters filters;
    hwnas_neon_filter f;
    int8_t spare[72];
    int16x8_t x[HWNAS_NEON_TAPS];
    hwnas_neon_gather(&filters, w, (p->kernel + 1) >> 1, count);
    hwnas_neon_copy(spare, p, in + channel, copied, count);
    f.signal.in = in + channel;
    f.signal.spare = spare;
    f.signal.channels = p->in_channels;
    f.signal.length = p->in_length;
    f.signal.copied = copied;
    f.stride = p->stride;
    f.dilation = p->dilation;
    f.zero_point = vdupq_n_s16((int16_t)p->out_zero_point);
    for (int32_t i = 0; i < 2; i++) {
        f.bias[i] = vld1q_s32(filters.bias + 4 * i);
        f.multiplier[i] = vld1q_s32(filters.multiplier + 4 * i);
    }
    ptrdiff_t at = -p->pad_left;
    for (int32_t i = 0; i < taps; i++) {
        f.taps[i] = vld1q_s16(filters.taps + 8 * i);
        x[i] = step ? hwnas_neon_sample(f.signal, at + i) : vdupq_n_s16(0);
    }
    out += channel;
    /* The sums of one position are scaled while those of the next are added up. */
    int32x4x2_t sums = hwnas_neon_window(&f, x, at, taps, step);
    for (int32_t left = p->out_length - 1; left > 0; left--, out += f.signal.channels) {
        at += f.stride;
        int32x4x2_t next = hwnas_neon_window(&f, x, at, taps, step);
        hwnas_neon_write(out, hwnas_neon_filtered(&f, sums), whole ? 8 : count);
        sums = next;
    }
    hwnas_neon_write(out, hwnas_neon_filtered(&f, sums), whole ? 8 : count);
}

/* A function for each length of filter; shorter filters take taps of weight zero. */
#define HWNAS_NEON_DEPTHWISE(taps) \
    static __attribute__((noinline, unused)) void hwnas_neon_depthwise_##taps( \
        const hwnas_conv_params *p, const uint32_t *w, const int8_t *in, int8_t *out, int32_t channel, int32_t count) \
    { \
        if (p->dilation > 1) \
            hwnas_neon_channels(p, w, in, out, channel, count, taps, 0); \
        else if (p->stride == 1 && count == 8) \
            hwnas_neon_channels(p, w, in, out, channel, count, taps, 1); \
        else if (p->stride == 2 && count == 8) \
            hwnas_neon_channels(p, w, in, out, channel, count, taps, 2); \
        else \
            hwnas_neon_channels(p, w, in, out, channel, count, taps, 3); \
    }

HWNAS_NEON_DEPTHWISE(3)
HWNAS_NEON_DEPTHWISE(5)
HWNAS_NEON_DEPTHWISE(7)
HWNAS_NEON_DEPTHWISE(9)

/* The kernel, for filters of at most HWNAS_NEON_TAPS taps. */
HWNAS_INLINE void hwnas_neon_depthwise_conv1d(const hwnas_conv_params *p, const int8_t *in, int8_t *out)
{
    const uint32_t *w = (const uint32_t *)p->packed;
    int32_t size = 2 + ((p->kernel + 1) >> 1);
    for (int32_t channel = 0; channel < p->in_channels; channel += 8, w += 8 * size) {
        int32_t left = p->in_channels - channel, count = left < 8 ? left : 8;
        if (p->kernel <= 3)
            hwnas_neon_depthwise_3(p, w, in, out, channel, count);
        else if (p->kernel <= 5)
            hwnas_neon_depthwise_5(p, w, in, out, channel, count);
        else if (p->kernel <= 7)
            hwnas_neon_depthwise_7(p, w, in, out, channel, count);
        else
            hwnas_neon_depthwise_9(p, w, in, out, channel, count);
    }
}

#endif
#endif
