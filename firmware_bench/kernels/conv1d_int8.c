/* Convolution of any kernel, stride and dilation, also pointwise, with weights of one byte. How it walks: hwnas_conv.h.
 *
 * Packed weights: ceil(out_channels / 4) blocks of 32 + 4 * K4 bytes:
 *     int32 bias[4]; K4 / 4 groups of 16 bytes; int32 multiplier[4]
 * A group holds taps k..k+3 of outputs o..o+3 as four words, each giving two outputs by SXTB16 without and with rotation:
 *     (o,k) (o+1,k) (o,k+2) (o+1,k+2) | (o+2,k) (o+3,k) (o+2,k+2) (o+3,k+2) | the same for k+1, k+3
 * Absent outputs and taps are zero.
 */
#include "hwnas_conv.h"
#include "hwnas_neon_conv.h"

#if defined(__ARM_FEATURE_DSP)

/* A word in r5 to the taps of two outputs in r4, r5. */
#define WIDEN                                                                                                                          \
    "sxtb16 r4, r5\n\t"                                                                                                                \
    "sxtb16 r5, r5, ror #8\n\t"
#define LOW_OUTPUTS                                                                                                                    \
    WIDEN                                                                                                                              \
    "smlad r6, r2, r4, r6\n\t"                                                                                                         \
    "smlad r10, r3, r4, r10\n\t"                                                                                                       \
    "smlad r7, r2, r5, r7\n\t"                                                                                                         \
    "smlad r11, r3, r5, r11\n\t"
#define HIGH_OUTPUTS                                                                                                                   \
    WIDEN                                                                                                                              \
    "smlad r8, r2, r4, r8\n\t"                                                                                                         \
    "smlad r12, r3, r4, r12\n\t"                                                                                                       \
    "smlad r9, r2, r5, r9\n\t"                                                                                                         \
    "smlad r14, r3, r5, r14\n\t"

#define EVEN_TAPS                                                                                                                      \
    "ldr r2, [r0, #4]\n\t"                                                                                                             \
    "ldr r3, [r0, #8]\n\t"                                                                                                             \
    "ldr r5, [r1, #4]\n\t"
#define ODD_TAPS                                                                                                                       \
    "ldr r2, [r0, #12]\n\t"                                                                                                            \
    "ldr r3, [r0, #16]!\n\t"                                                                                                           \
    "ldr r5, [r1, #12]\n\t"

/* Biases are the third operand, so they need not be copied. */
#define FIRST                                                                                                                          \
    EVEN_TAPS                                                                                                                          \
    "lsrs r10, r10, #1\n\t" WIDEN                                                                                                      \
    "smlad r10, r3, r4, r6\n\t"                                                                                                        \
    "smlad r6, r2, r4, r6\n\t"                                                                                                         \
    "smlad r11, r3, r5, r7\n\t"                                                                                                        \
    "smlad r7, r2, r5, r7\n\t"                                                                                                         \
    "ldr r5, [r1, #8]\n\t" WIDEN                                                                                                       \
    "smlad r12, r3, r4, r8\n\t"                                                                                                        \
    "smlad r8, r2, r4, r8\n\t"                                                                                                         \
    "smlad r14, r3, r5, r9\n\t"                                                                                                        \
    "smlad r9, r2, r5, r9\n\t" ODD_TAPS LOW_OUTPUTS                                                                                    \
    "ldr r5, [r1, #16]!\n\t" HIGH_OUTPUTS
#define NEXT                                                                                                                           \
    EVEN_TAPS LOW_OUTPUTS                                                                                                              \
    "ldr r5, [r1, #8]\n\t" HIGH_OUTPUTS ODD_TAPS LOW_OUTPUTS                                                                           \
    "ldr r5, [r1, #16]!\n\t" HIGH_OUTPUTS
#define LAST                                                                                                                           \
    EVEN_TAPS LOW_OUTPUTS                                                                                                              \
    "ldr r5, [r1, #8]\n\t" HIGH_OUTPUTS ODD_TAPS                                                                                       \
    "ldr r4, [sp, #12]\n\t"                                                                                                            \
    "cmp r0, r4\n\t" LOW_OUTPUTS                                                                                                       \
    "ldr r5, [r1, #16]!\n\t" HIGH_OUTPUTS

HWNAS_CONV_BLOCKS(FIRST, NEXT, LAST)

#else

static void pairs(const hwnas_conv_params *p, const hwnas_conv_windows *from, uint32_t *window, int8_t *out, int32_t pitch)
{
#if defined(HWNAS_NEON)
    hwnas_neon_pairs(p, from, window, out, pitch, 4);
#else
    hwnas_conv_portable(p, from, window, out, pitch, 2);
#endif
}

#endif

void hwnas_conv1d_int8(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    hwnas_conv_positions((const hwnas_conv_params *)params, in, out, (uint32_t *)aux, pairs);
}
