/* Sum of two tensors of one shape, each with a scale of its own. Scratch: none; `aux` is the second input. No packed weights. */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

void hwnas_add(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_add_params *p = params;
    const int8_t *other = aux;
    int32_t m = p->multiplier_a, n = p->multiplier_b, offset = p->offset, left = p->count;
    for (; left >= 4; left -= 4, in += 4, other += 4, out += 4) {
        uint32_t v = hwnas_load(in), w = hwnas_load(other);
        int32_t a = offset + (int8_t)v * m + (int8_t)w * n;
        int32_t b = offset + (int8_t)(v >> 8) * m + (int8_t)(w >> 8) * n;
        int32_t c = offset + (int8_t)(v >> 16) * m + (int8_t)(w >> 16) * n;
        int32_t d = offset + (int8_t)(v >> 24) * m + (int8_t)(w >> 24) * n;
        hwnas_store(out, hwnas_pack(hwnas_shift20(a), hwnas_shift20(b), hwnas_shift20(c), hwnas_shift20(d)));
    }
    for (; left; left--)
        *out++ = (int8_t)hwnas_shift20(offset + *in++ * m + *other++ * n);
}
