/* Mean over windows inside the signal. Scratch: none. No packed weights. `out` may be `in`: a window is read before its row is written, and
 * later windows begin behind that row. */
#include "hwnas_pool.h"

#if defined(__ARM_FEATURE_DSP)

/* Longest window whose sums fit 16 bits: 256 * -128 is the least of them. */
#define KERNEL_MAX 256
/* The multiplier (at most 2^20) and the half are scaled so that SMLAW, which drops 16 bits of the product, leaves 14 to drop. */
#define MULTIPLIER_BITS 10

/* Pairs of sums: r11 even channels, r12 odd ones. */
static __attribute__((naked, noinline)) void windows(const hwnas_pool_work *work __attribute__((unused)))
{
    __asm__(HWNAS_POOL_WINDOWS("sxtb16 r11, lr\n\t"
                               "sxtb16 r12, lr, ror #8\n\t",
                               "sxtab16 r11, r11, lr\n\t"
                               "sxtab16 r12, r12, lr, ror #8\n\t",
                               "smlawb r9, r4, r11, r5\n\t"
                               "smlawb r10, r4, r12, r5\n\t"
                               "smlawt r11, r4, r11, r5\n\t"
                               "smlawt r12, r4, r12, r5\n\t"
                               "ssat r9, #8, r9, asr #14\n\t"
                               "ssat r10, #8, r10, asr #14\n\t"
                               "ssat r11, #8, r11, asr #14\n\t"
                               "ssat r12, #8, r12, asr #14\n\t"
                               "bfi r9, r10, #8, #8\n\t"
                               "bfi r11, r12, #8, #8\n\t"
                               "pkhbt r9, r9, r11, lsl #16\n\t"));
}

#endif

void hwnas_avg_pool1d(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_window_params *p = (const hwnas_window_params *)params;
    int32_t channels = p->channels, advance = p->stride * channels;
    (void)aux;
#if defined(__ARM_FEATURE_DSP)
    if (!(channels & 3) && p->kernel <= KERNEL_MAX) {
        hwnas_pool_work work = {in, out, channels, p->kernel - 1, p->multiplier << MULTIPLIER_BITS, 1 << 13, p->out_length,
                                advance - channels};
        windows(&work);
        return;
    }
#endif
    for (int32_t left = p->out_length; left; left--, in += advance, out += channels)
        for (int32_t channel = 0; channel < channels; channel++)
            out[channel] = (int8_t)hwnas_shift20(hwnas_pool_sum(in + channel, channels, p->kernel) * p->multiplier + (1 << 19));
}
