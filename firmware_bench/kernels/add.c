/* Sum of two tensors of one shape, each with a scale of its own. Scratch: none; `aux` is the second input. No packed weights. */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

HWNAS_INLINE int32_t sum(int32_t a, int32_t b, const hwnas_add_params *p)
{
    return hwnas_shift20(p->offset + a * p->multiplier_a + b * p->multiplier_b);
}

void hwnas_add(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_add_params *p = params;
    const int8_t *other = aux;
    int32_t i = 0;
    for (; i + 4 <= p->count; i += 4, in += 4, other += 4, out += 4) {
        uint32_t v = hwnas_load(in), w = hwnas_load(other);
        int32_t a = sum((int8_t)v, (int8_t)w, p), b = sum((int8_t)(v >> 8), (int8_t)(w >> 8), p);
        int32_t c = sum((int8_t)(v >> 16), (int8_t)(w >> 16), p), d = sum((int8_t)(v >> 24), (int8_t)(w >> 24), p);
        hwnas_store(out, hwnas_pack(a, b, c, d));
    }
    for (; i < p->count; i++)
        *out++ = (int8_t)sum(*in++, *other++, p);
}
