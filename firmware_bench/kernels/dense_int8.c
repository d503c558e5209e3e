/* Dense layer with weights of one byte, in blocks of four outputs; inputs are widened in registers. No scratch.
 *
 * Packed weights: those of conv1d_int8.c, with K4 = in_channels rounded up to 4.
 */
#include "hwnas_dense.h"
#include "hwnas_neon_dense.h"

#if defined(__ARM_FEATURE_DSP)

#define GROUP                                                                                                                          \
    "ldr r3, [r0, #4]!\n\t"                                                                                                            \
    "ldr r4, [r1, #4]\n\t"                                                                                                             \
    "ldr r5, [r1, #8]\n\t"                                                                                                             \
    "ldr r10, [r1, #12]\n\t"                                                                                                           \
    "ldr r11, [r1, #16]!\n\t"                                                                                                          \
    "sxtb16 r14, r3\n\t"                                                                                                               \
    "sxtb16 r3, r3, ror #8\n\t"                                                                                                        \
    "sxtb16 r12, r4\n\t"                                                                                                               \
    "sxtb16 r4, r4, ror #8\n\t"                                                                                                        \
    "smlad r6, r14, r12, r6\n\t"                                                                                                       \
    "smlad r7, r14, r4, r7\n\t"                                                                                                        \
    "sxtb16 r12, r5\n\t"                                                                                                               \
    "sxtb16 r5, r5, ror #8\n\t"                                                                                                        \
    "smlad r8, r14, r12, r8\n\t"                                                                                                       \
    "smlad r9, r14, r5, r9\n\t"                                                                                                        \
    "sxtb16 r12, r10\n\t"                                                                                                              \
    "sxtb16 r10, r10, ror #8\n\t"                                                                                                      \
    "smlad r6, r3, r12, r6\n\t"                                                                                                        \
    "smlad r7, r3, r10, r7\n\t"                                                                                                        \
    "sxtb16 r12, r11\n\t"                                                                                                              \
    "sxtb16 r11, r11, ror #8\n\t"                                                                                                      \
    "smlad r8, r3, r12, r8\n\t"                                                                                                        \
    "smlad r9, r3, r11, r9\n\t"

HWNAS_DENSE_BLOCKS(GROUP)

void hwnas_dense_int8(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    hwnas_dense_run((const hwnas_dense_params *)params, in, out, blocks);
    (void)aux;
}

#elif defined(HWNAS_NEON)

void hwnas_dense_int8(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    (void)aux;
    hwnas_neon_dense((const hwnas_dense_params *)params, in, out, 4);
}

#else

void hwnas_dense_int8(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_dense_params *p = (const hwnas_dense_params *)params;
    const uint32_t *w = (const uint32_t *)p->packed;
    (void)aux;
    for (int32_t o = 0; o < p->units; o += 4) {
        int32_t acc[4] = {(int32_t)w[0], (int32_t)w[1], (int32_t)w[2], (int32_t)w[3]};
        w += 4;
        for (int32_t i = 0; i < p->in_channels; i += 4, w += 4) {
            uint32_t v = hwnas_load_bytes(in + i, p->in_channels - i), x[2] = {hwnas_even(v), hwnas_odd(v)};
            for (int half = 0; half < 2; half++) {
                acc[0] = hwnas_dual_mac(x[half], hwnas_even(w[2 * half]), acc[0]);
                acc[1] = hwnas_dual_mac(x[half], hwnas_odd(w[2 * half]), acc[1]);
                acc[2] = hwnas_dual_mac(x[half], hwnas_even(w[2 * half + 1]), acc[2]);
                acc[3] = hwnas_dual_mac(x[half], hwnas_odd(w[2 * half + 1]), acc[3]);
            }
        }
        for (int32_t i = 0; i < 4 && i < p->units - o; i++)
            out[o + i] = (int8_t)hwnas_scale(acc[i], (int32_t)w[i], p->out_zero_point);
        w += 4;
    }
}

#endif
