/* Dense layer with weights expanded to 16 bits, in blocks of four outputs; inputs are widened in registers. No scratch.
 *
 * Packed weights: those of conv1d_int16.c, with K4 = in_channels rounded up to 4.
 */
#include "hwnas_dense.h"
#include "hwnas_neon_dense.h"

#if defined(__ARM_FEATURE_DSP)

#define GROUP                                                                                                                          \
    "ldr r3, [r0, #4]!\n\t"                                                                                                            \
    "ldr r4, [r1, #4]\n\t"                                                                                                             \
    "ldr r5, [r1, #8]\n\t"                                                                                                             \
    "ldr r10, [r1, #12]\n\t"                                                                                                           \
    "ldr r11, [r1, #16]\n\t"                                                                                                           \
    "ldr r12, [r1, #20]\n\t"                                                                                                           \
    "sxtb16 r14, r3\n\t"                                                                                                               \
    "sxtb16 r3, r3, ror #8\n\t"                                                                                                        \
    "smlad r6, r14, r4, r6\n\t"                                                                                                        \
    "smlad r7, r14, r5, r7\n\t"                                                                                                        \
    "smlad r8, r14, r10, r8\n\t"                                                                                                       \
    "smlad r9, r14, r11, r9\n\t"                                                                                                       \
    "smlad r6, r3, r12, r6\n\t"                                                                                                        \
    "ldr r4, [r1, #24]\n\t"                                                                                                            \
    "ldr r5, [r1, #28]\n\t"                                                                                                            \
    "ldr r10, [r1, #32]!\n\t"                                                                                                          \
    "smlad r7, r3, r4, r7\n\t"                                                                                                         \
    "smlad r8, r3, r5, r8\n\t"                                                                                                         \
    "smlad r9, r3, r10, r9\n\t"

HWNAS_DENSE_BLOCKS(GROUP)

#endif

void hwnas_dense_int16(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_dense_params *p = (const hwnas_dense_params *)params;
    (void)aux;
#if defined(__ARM_FEATURE_DSP)
    hwnas_dense_run(p, in, out, blocks);
#elif defined(HWNAS_NEON)
    hwnas_neon_dense(p, in, out, 8);
#else
    hwnas_dense_portable(p, in, out, 4);
#endif
}
