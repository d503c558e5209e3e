/* Depthwise convolution: one filter a channel, any kernel, stride and dilation. Common shapes have functions of their own on Cortex-M4,
 * written by `hwnas/export/depthwise`; elsewhere those call this one.
 *
 * Channel by channel. Outputs are written `DELAY` positions late: a window of at most 9 neighbouring samples begins at most 4 before its
 * position, so `out` may be `in` where kernel <= 9 and dilation = 1.
 *
 * Scratch: none.
 * Packed weights: per channel int32 bias, int32 multiplier, int16 weights in natural order, padded with 0 to whole words.
 */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"
#include "hwnas_neon_depthwise.h"

enum { DELAY = 4 };

/* The last `DELAY` outputs of a channel, the oldest in the low byte, and where that one goes. */
typedef struct {
    uint32_t pending;
    int8_t *out;
} late_outputs;

static inline void keep(late_outputs *late, int32_t value)
{
    late->pending = late->pending >> 8 | (uint32_t)value << 24;
}

static inline void put(late_outputs *late, int32_t value, int32_t channels)
{
    *late->out = (int8_t)((int32_t)((late->pending & 0xFFu) ^ 0x80u) - 0x80);
    late->out += channels;
    keep(late, value);
}

/* `count` windows inside the signal, an odd one with the sample behind it; `in` is the first sample of the first one. */
static __attribute__((noinline)) void inner(const uint32_t *w, const hwnas_conv_params *p, const int8_t *in, int32_t count,
                                            late_outputs *outputs)
{
    late_outputs late = *outputs;
    int32_t channels = p->in_channels, row = p->dilation * channels, step = p->stride * channels;
    int32_t pairs = (p->kernel + 1) >> 1, multiplier = (int32_t)w[1], zero_point = p->out_zero_point;
    HWNAS_ROLLED
    for (; count > 0; count--, in += step) {
        const uint32_t *taps = w + 2;
        const int8_t *sample = in;
        int32_t acc = (int32_t)w[0], left = pairs;
        HWNAS_ROLLED
        do {
            int32_t first = sample[0], second = sample[row];
            acc = hwnas_dual_mac(hwnas_halves(first, second), *taps++, acc);
            sample += 2 * row;
        } while (--left);
        put(&late, hwnas_scale(acc, multiplier, zero_point), channels);
    }
    *outputs = late;
}

/* Any window; its first sample is `start`. */
static __attribute__((noinline)) int32_t edge(const uint32_t *w, const hwnas_conv_params *p, const int8_t *in, int32_t start)
{
    int32_t acc = (int32_t)w[0];
    HWNAS_ROLLED
    for (int32_t i = 0, t = start; i < p->kernel; i++, t += p->dilation) {
        int32_t sample = t >= 0 && t < p->in_length ? in[t * p->in_channels] : p->in_zero_point;
        acc = hwnas_mac_low((uint32_t)sample, w[2 + (i >> 1)] >> ((i & 1) << 4), acc);
    }
    return hwnas_scale(acc, (int32_t)w[1], p->out_zero_point);
}

void hwnas_depthwise_conv1d(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_conv_params *p = (const hwnas_conv_params *)params;
    const uint32_t *w = (const uint32_t *)p->packed;
    int32_t words = (p->kernel + 1) >> 1, channels = p->in_channels;
    int32_t first = (p->pad_left + p->stride - 1) / p->stride; /* position whose window is the first for `inner` */
    if (first < DELAY)
        first = DELAY;
    int32_t start = first * p->stride - p->pad_left, room = p->in_length - 1 - (2 * words - 1) * p->dilation - start;
    int32_t count = room < 0 ? 0 : room / p->stride + 1;
    (void)aux;
#if defined(HWNAS_NEON)
    if (p->kernel <= HWNAS_NEON_TAPS) {
        hwnas_neon_depthwise_conv1d(p, in, out);
        return;
    }
#endif
    for (int32_t c = 0; c < channels; c++, in++, out++, w += 2 + words) {
        late_outputs late = {0, out};
        for (int32_t t = 0; t < p->out_length + DELAY; t++) {
            if (t == first && count > 0) {
                inner(w, p, in + start * channels, count, &late);
                t += count;
            }
            int32_t value = t < p->out_length ? edge(w, p, in, t * p->stride - p->pad_left) : 0;
            if (t < DELAY)
                keep(&late, value);
            else
                put(&late, value, channels);
        }
    }
}
