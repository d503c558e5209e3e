/* Depthwise convolution: one filter a channel.
 *
 * One channel after the other, so that its weights stay in registers. Two neighbouring samples make a pair; pairs move through
 * registers from one output to the next, so each sample is loaded once. Odd kernels of 3 to 9 taps with stride 1 or 2 take this way,
 * the others a plain loop.
 *
 * Scratch: none.
 * Packed weights: for each channel 8 + 4 * ceil(kernel / 2) bytes:
 *     int32 bias; int32 multiplier; pairs of int16 weights (tap 0, tap 1), (tap 2, tap 3)...; an absent last tap is zero
 */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

#define PAIRS_MAX 5

HWNAS_INLINE uint32_t pair_of(int32_t first, int32_t second)
{
    return ((uint32_t)first & 0xFFFFu) | ((uint32_t)second << 16);
}

HWNAS_INLINE int8_t finish(const hwnas_conv_params *p, int32_t acc, int32_t multiplier)
{
    int32_t v = hwnas_scale(acc, multiplier, p->out_zero_point);
    return (int8_t)(v < p->low ? p->low : v);
}

/* Sample `row` of the channel that starts at `in`; in_zero_point outside the signal. */
HWNAS_INLINE int32_t sample(const hwnas_conv_params *p, const int8_t *in, int32_t row)
{
    return row >= 0 && row < p->in_length ? in[row * p->in_channels] : p->in_zero_point;
}

/* Any kernel and stride. */
HWNAS_COLD void plain(const hwnas_conv_params *p, const int8_t *in, int8_t *out)
{
    const uint32_t *w = p->packed;
    for (int32_t c = 0; c < p->in_channels; c++, in++, out++, w += 2 + ((p->kernel + 1) >> 1)) {
        int32_t start = -p->pad_left;
        for (int32_t i = 0; i < p->out_length; i++, start += p->stride) {
            int32_t acc = (int32_t)w[0];
            for (int32_t t = 0; t < p->kernel; t += 2)
                acc = hwnas_dual_mac(pair_of(sample(p, in, start + t), sample(p, in, start + t + 1)), w[2 + (t >> 1)], acc);
            out[i * p->in_channels] = finish(p, acc, (int32_t)w[1]);
        }
    }
}

/* One step of a channel: out0 from the pairs as they are, with stride 1 also out1, one sample later. */
HWNAS_INLINE int32_t sum(const uint32_t *pairs, const uint32_t *weights, int count, int32_t acc)
{
#pragma GCC unroll 5
    for (int i = 0; i < count; i++)
        acc = hwnas_dual_mac(pairs[i], weights[i], acc);
    return acc;
}

/* `taps` (odd) and `stride` (1 or 2) are constants where this is inlined. A step takes in one pair and gives 2 / stride outputs. */
HWNAS_INLINE void filter(const hwnas_conv_params *p, const int8_t *in, int8_t *out, const int taps, const int stride)
{
    const int count = (taps + 1) / 2;
    const uint32_t *w = p->packed;
    int32_t channels = p->in_channels, first = taps - 1 - p->pad_left; /* the first row that a step takes in */
    int32_t inside = (p->in_length - first) >> 1, steps = stride == 1 ? p->out_length >> 1 : p->out_length;
    if (steps > inside)
        steps = inside > 0 ? inside : 0;
    for (int32_t c = channels; c; c--, in++, out++, w += 2 + count) {
        uint32_t even[PAIRS_MAX], odd[PAIRS_MAX], pairs[PAIRS_MAX];
        int32_t bias = (int32_t)w[0], multiplier = (int32_t)w[1];
#pragma GCC unroll 5
        for (int i = 0; i < count; i++) {
            even[i] = w[2 + i];
            odd[i] = (w[2 + i] << 16) | (i ? w[1 + i] >> 16 : 0u); /* the same taps, one sample later */
        }
#pragma GCC unroll 5
        for (int i = 0; i < count - 1; i++)
            pairs[i] = pair_of(sample(p, in, 2 * i - p->pad_left), sample(p, in, 2 * i + 1 - p->pad_left));
        int8_t *o = out;
        const int8_t *x = in + (steps ? first * channels : 0);
        for (int32_t n = steps; n; n--, x += 2 * channels) {
            pairs[count - 1] = pair_of(x[0], x[channels]);
            *o = finish(p, sum(pairs, even, count, bias), multiplier);
            o += channels;
            if (stride == 1) {
                *o = finish(p, sum(pairs, odd, count, bias), multiplier);
                o += channels;
            }
#pragma GCC unroll 5
            for (int i = 0; i < count - 1; i++)
                pairs[i] = pairs[i + 1];
        }
        int32_t row = first + 2 * steps;
        for (int32_t left = p->out_length - (stride == 1 ? 2 * steps : steps); left > 0; left -= 2 / stride, row += 2) {
            pairs[count - 1] = pair_of(sample(p, in, row), sample(p, in, row + 1));
            *o = finish(p, sum(pairs, even, count, bias), multiplier);
            o += channels;
            if (stride == 1 && left > 1) {
                *o = finish(p, sum(pairs, odd, count, bias), multiplier);
                o += channels;
            }
#pragma GCC unroll 5
            for (int i = 0; i < count - 1; i++)
                pairs[i] = pairs[i + 1];
        }
    }
}

void hwnas_depthwise_conv1d(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_conv_params *p = params;
    (void)aux;
    switch (p->stride * 16 + p->kernel) {
    case 16 + 3: filter(p, in, out, 3, 1); break;
    case 16 + 5: filter(p, in, out, 5, 1); break;
    case 16 + 7: filter(p, in, out, 7, 1); break;
    case 16 + 9: filter(p, in, out, 9, 1); break;
    case 32 + 3: filter(p, in, out, 3, 2); break;
    case 32 + 5: filter(p, in, out, 5, 2); break;
    case 32 + 7: filter(p, in, out, 7, 2); break;
    case 32 + 9: filter(p, in, out, 9, 2); break;
    default: plain(p, in, out);
    }
}
