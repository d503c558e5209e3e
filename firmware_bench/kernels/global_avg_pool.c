/* Mean over time of every channel. Scratch: none. No packed weights. */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

void hwnas_global_avg_pool(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_pool_params *p = params;
    int32_t channel = 0;
    (void)aux;
    for (; channel + 4 <= p->channels; channel += 4) {
        const int8_t *x = in + channel;
        int32_t a = p->bias, b = a, c = a, d = a;
        for (int32_t t = p->length; t; t--, x += p->channels) {
            uint32_t v = hwnas_load(x);
            a += (int8_t)v;
            b += (int8_t)(v >> 8);
            c += (int8_t)(v >> 16);
            d += (int8_t)(v >> 24);
        }
        a = hwnas_scale(a, p->multiplier, p->out_zero_point);
        b = hwnas_scale(b, p->multiplier, p->out_zero_point);
        c = hwnas_scale(c, p->multiplier, p->out_zero_point);
        d = hwnas_scale(d, p->multiplier, p->out_zero_point);
        hwnas_store(out + channel, hwnas_pack(a, b, c, d));
    }
    for (; channel < p->channels; channel++) {
        const int8_t *x = in + channel;
        int32_t a = p->bias;
        for (int32_t t = p->length; t; t--, x += p->channels)
            a += *x;
        out[channel] = (int8_t)hwnas_scale(a, p->multiplier, p->out_zero_point);
    }
}
