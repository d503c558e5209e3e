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

#endif

void hwnas_dense_int8(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_dense_params *p = (const hwnas_dense_params *)params;
    (void)aux;
#if defined(__ARM_FEATURE_DSP)
    hwnas_dense_run(p, in, out, blocks);
#elif defined(HWNAS_NEON)
    hwnas_neon_dense(p, in, out, 4);
#else
    hwnas_dense_portable(p, in, out, 2);
#endif
}
