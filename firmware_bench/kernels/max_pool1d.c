/* Largest value of windows inside the signal. Scratch: none. No packed weights. `out` may be `in`: a window is read before its row is
 * written, and later windows begin behind that row. */
#include "hwnas_pool.h"

#if defined(__ARM_FEATURE_DSP)

/* SEL takes the larger byte of each pair. */
static __attribute__((naked, noinline)) void windows(const hwnas_pool_work *work __attribute__((unused)))
{
    __asm__(HWNAS_POOL_WINDOWS("mov r11, lr\n\t",
                               "ssub8 r12, r11, lr\n\t"
                               "sel r11, r11, lr\n\t",
                               "mov r9, r11\n\t"));
}

#endif

void hwnas_max_pool1d(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_window_params *p = (const hwnas_window_params *)params;
    int32_t channels = p->channels, advance = p->stride * channels;
    (void)aux;
#if defined(__ARM_FEATURE_DSP)
    if (!(channels & 3)) {
        hwnas_pool_work work = {in, out, channels, p->kernel - 1, 0, 0, p->out_length, advance - channels};
        windows(&work);
        return;
    }
#endif
    for (int32_t left = p->out_length; left; left--, in += advance, out += channels)
        for (int32_t channel = 0; channel < channels; channel++) {
            const int8_t *x = in + channel;
            uint32_t largest = (uint8_t)*x;
            for (int32_t more = p->kernel - 1; more; more--)
                largest = hwnas_max4(largest, (uint8_t)*(x += channels));
            out[channel] = (int8_t)largest;
        }
}
