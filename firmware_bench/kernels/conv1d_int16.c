/* Convolution of any kernel, stride and dilation, also pointwise, with weights expanded to 16 bits. How it walks: hwnas_conv.h.
 *
 * Packed weights: ceil(out_channels / 4) blocks of 32 + 8 * K4 bytes:
 *     int32 bias[4]; K4 / 4 groups of 32 bytes; int32 multiplier[4]
 * A group holds taps k..k+3 of outputs o..o+3 as eight pairs of int16:
 *     taps k, k+2 of o, o+1, o+2, o+3 | taps k+1, k+3 of the same
 * Absent outputs and taps are zero.
 */
#include "hwnas_conv.h"
#include "hwnas_neon_conv.h"

#if defined(__ARM_FEATURE_DSP)

/* Taps k, k+2 (or k+1, k+3) in r2, r3 by those of two outputs in r4, r5. */
#define LOW_OUTPUTS                                                                                                                    \
    "smlad r6, r2, r4, r6\n\t"                                                                                                         \
    "smlad r10, r3, r4, r10\n\t"                                                                                                       \
    "smlad r7, r2, r5, r7\n\t"                                                                                                         \
    "smlad r11, r3, r5, r11\n\t"
#define HIGH_OUTPUTS                                                                                                                   \
    "smlad r8, r2, r4, r8\n\t"                                                                                                         \
    "smlad r12, r3, r4, r12\n\t"                                                                                                       \
    "smlad r9, r2, r5, r9\n\t"                                                                                                         \
    "smlad r14, r3, r5, r14\n\t"

#define EVEN_TAPS                                                                                                                      \
    "ldr r2, [r0, #4]\n\t"                                                                                                             \
    "ldr r3, [r0, #8]\n\t"                                                                                                             \
    "ldr r4, [r1, #4]\n\t"                                                                                                             \
    "ldr r5, [r1, #8]\n\t"
#define MORE_EVEN_TAPS                                                                                                                 \
    "ldr r4, [r1, #12]\n\t"                                                                                                            \
    "ldr r5, [r1, #16]\n\t"
#define ODD_TAPS                                                                                                                       \
    "ldr r2, [r0, #12]\n\t"                                                                                                            \
    "ldr r3, [r0, #16]!\n\t"                                                                                                           \
    "ldr r4, [r1, #20]\n\t"                                                                                                            \
    "ldr r5, [r1, #24]\n\t" LOW_OUTPUTS                                                                                                \
    "ldr r4, [r1, #28]\n\t"                                                                                                            \
    "ldr r5, [r1, #32]!\n\t" HIGH_OUTPUTS

/* Biases are the third operand, so they need not be copied. */
#define FIRST                                                                                                                          \
    EVEN_TAPS                                                                                                                          \
    "lsrs r10, r10, #1\n\t"                                                                                                            \
    "smlad r10, r3, r4, r6\n\t"                                                                                                        \
    "smlad r6, r2, r4, r6\n\t"                                                                                                         \
    "smlad r11, r3, r5, r7\n\t"                                                                                                        \
    "smlad r7, r2, r5, r7\n\t" MORE_EVEN_TAPS                                                                                          \
    "smlad r12, r3, r4, r8\n\t"                                                                                                        \
    "smlad r8, r2, r4, r8\n\t"                                                                                                         \
    "smlad r14, r3, r5, r9\n\t"                                                                                                        \
    "smlad r9, r2, r5, r9\n\t" ODD_TAPS
#define NEXT EVEN_TAPS LOW_OUTPUTS MORE_EVEN_TAPS HIGH_OUTPUTS ODD_TAPS
#define LAST                                                                                                                           \
    EVEN_TAPS LOW_OUTPUTS MORE_EVEN_TAPS HIGH_OUTPUTS                                                                                  \
    "ldr r2, [r0, #12]\n\t"                                                                                                            \
    "ldr r3, [r0, #16]!\n\t"                                                                                                           \
    "ldr r5, [sp, #12]\n\t"                                                                                                            \
    "ldr r4, [r1, #20]\n\t"                                                                                                            \
    "cmp r0, r5\n\t"                                                                                                                   \
    "smlad r6, r2, r4, r6\n\t"                                                                                                         \
    "smlad r10, r3, r4, r10\n\t"                                                                                                       \
    "ldr r5, [r1, #24]\n\t"                                                                                                            \
    "ldr r4, [r1, #28]\n\t"                                                                                                            \
    "smlad r7, r2, r5, r7\n\t"                                                                                                         \
    "smlad r11, r3, r5, r11\n\t"                                                                                                       \
    "ldr r5, [r1, #32]!\n\t" HIGH_OUTPUTS

HWNAS_CONV_BLOCKS(FIRST, NEXT, LAST)

#else

static void pairs(const hwnas_conv_params *p, const hwnas_conv_windows *from, uint32_t *window, int8_t *out, int32_t pitch)
{
#if defined(HWNAS_NEON)
    hwnas_neon_pairs(p, from, window, out, pitch, 8);
#else
    hwnas_conv_portable(p, from, window, out, pitch, 4);
#endif
}

#endif

void hwnas_conv1d_int16(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    hwnas_conv_positions((const hwnas_conv_params *)params, in, out, (uint32_t *)aux, pairs);
}
