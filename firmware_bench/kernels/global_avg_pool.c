/* Mean over time of every channel. Scratch: none. No packed weights. `out` may be `in`. */
#include "hwnas_pool.h"

#if defined(__ARM_FEATURE_DSP)

/* Rows whose sums fit 16 bits: 256 * -128 is the least of them. */
#define ROWS_MAX 256

/* sums + the first and third signed byte of v, as pairs. */
HWNAS_INLINE uint32_t add_even(uint32_t sums, uint32_t v)
{
    __asm__("sxtab16 %0, %0, %1" : "+r"(sums) : "r"(v));
    return sums;
}

/* sums + the second and fourth. */
HWNAS_INLINE uint32_t add_odd(uint32_t sums, uint32_t v)
{
    __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(sums) : "r"(v));
    return sums;
}

/* Means of four channels; all rows are words. */
static void mean4(const hwnas_pool_params *p, const int8_t *x, int8_t *out)
{
    int32_t sum[4] = {p->bias, p->bias, p->bias, p->bias}, row = p->channels;
    for (int32_t left = p->length, now; left; left -= now) {
        uint32_t even = 0, odd = 0;
        now = left < ROWS_MAX ? left : ROWS_MAX;
        int32_t rows = now;
        for (; rows > 1; rows -= 2, x += 2 * row) {
            uint32_t v = hwnas_load(x), w = hwnas_load(x + row);
            even = add_even(add_even(even, v), w);
            odd = add_odd(add_odd(odd, v), w);
        }
        if (rows) {
            uint32_t v = hwnas_load(x);
            even = add_even(even, v);
            odd = add_odd(odd, v);
            x += row;
        }
        sum[0] += (int16_t)(even & 0xFFFFu);
        sum[1] += (int16_t)(odd & 0xFFFFu);
        sum[2] += (int32_t)even >> 16;
        sum[3] += (int32_t)odd >> 16;
    }
    for (int i = 0; i < 4; i++)
        sum[i] = hwnas_scale(sum[i], p->multiplier, p->out_zero_point);
    hwnas_store(out, hwnas_pack(sum[0], sum[1], sum[2], sum[3]));
}

#endif

void hwnas_global_avg_pool(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_pool_params *p = (const hwnas_pool_params *)params;
    int32_t channels = p->channels, channel = 0;
    (void)aux;
#if defined(__ARM_FEATURE_DSP)
    if (!(channels & 3)) /* else rows do not begin on words */
        for (; channel < channels; channel += 4)
            mean4(p, in + channel, out + channel);
#endif
    for (; channel < channels; channel++)
        out[channel] = (int8_t)hwnas_scale(p->bias + hwnas_pool_sum(in + channel, channels, p->length), p->multiplier, p->out_zero_point);
}
