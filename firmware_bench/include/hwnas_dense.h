/* What the dense layers of both weight layouts share: the assembly around a group of four inputs for Cortex-M4, and the portable form. */
#ifndef HWNAS_DENSE_H
#define HWNAS_DENSE_H

#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* In portable C, for weights that take `words` words (2 or 4) a pair of inputs and four outputs. */
HWNAS_INLINE void hwnas_dense_portable(const hwnas_dense_params *p, const int8_t *in, int8_t *out, int32_t words)
{
    const uint32_t *w = (const uint32_t *)p->packed;
    for (int32_t o = 0; o < p->units; o += 4, w += 4) {
        int32_t acc[4] = {(int32_t)w[0], (int32_t)w[1], (int32_t)w[2], (int32_t)w[3]};
        w += 4;
        for (int32_t i = 0; i < p->in_channels; i += 4) {
            uint32_t v = hwnas_load_bytes(in + i, p->in_channels - i);
            w = hwnas_four_macs(hwnas_even(v), w, acc, words);
            w = hwnas_four_macs(hwnas_odd(v), w, acc, words);
        }
        for (int32_t i = 0; i < 4 && i < p->units - o; i++)
            out[o + i] = (int8_t)hwnas_scale(acc[i], (int32_t)w[i], p->out_zero_point);
    }
}

#if defined(__ARM_FEATURE_DSP)

/* All blocks of four outputs; `group` takes the four inputs at r0 + 4 and advances r0 and r1. In assembly because a load directly after a
 * load is half the price, and compilers schedule them apart. r0 inputs, r1 weights (both at the last word read), r2 plan, r6-r9 sums;
 * `group` may use r3-r5, r10-r12, r14.
 * The plan is 16 * (passes - 1) + 8 * has a tail + groups % 8: a pass takes eight groups, the first one what is left over. The tail is a
 * word that holds the last one to three inputs where they are no multiple of four.
 * Stack: inputs 0, out 8, its end 12, saved registers 16-51, zero point 52, plan 56, tail 60. */
#define HWNAS_DENSE_BLOCKS(group)                                                                                                      \
    HWNAS_ASSEMBLY void blocks(                                                                                                        \
        const int8_t *in __attribute__((unused)), const uint32_t *weights __attribute__((unused)),                                     \
        int8_t *out __attribute__((unused)), int8_t *out_end __attribute__((unused)), int32_t zero_point __attribute__((unused)),      \
        int32_t plan __attribute__((unused)), uint32_t tail __attribute__((unused)))                                                   \
    {                                                                                                                                  \
        __asm__("subs r0, #4\n\t"                                                                                                      \
                "subs r1, #20\n\t"                                                                                                     \
                "push {r0-r11, lr}\n\t"                                                                                                \
                "1:\n\t"                                                                                                               \
                "ldr r0, [sp]\n\t"                                                                                                     \
                "ldr r2, [sp, #56]\n\t"                                                                                                \
                "ldr r6, [r1, #20]\n\t"                                                                                                \
                "ldr r7, [r1, #24]\n\t"                                                                                                \
                "ldr r8, [r1, #28]\n\t"                                                                                                \
                "ldr r9, [r1, #32]!\n\t"                                                                                               \
                "lsls r3, r2, #29\n\t"                                                                                                 \
                "bne 20f\n\t"                                                                                                          \
                "10:\n\t" group                                                                                                        \
                "11:\n\t" group                                                                                                        \
                "12:\n\t" group                                                                                                        \
                "13:\n\t" group                                                                                                        \
                "14:\n\t" group                                                                                                        \
                "15:\n\t" group                                                                                                        \
                "16:\n\t" group                                                                                                        \
                "17:\n\t" group                                                                                                        \
                "subs r2, #16\n\t"                                                                                                     \
                "bpl 10b\n\t"                                                                                                          \
                "lsls r3, r2, #28\n\t"                                                                                                 \
                "bmi 2f\n\t"                                                                                                           \
                "ldr r12, [sp, #52]\n\t"                                                                                               \
                "ldr r3, [r1, #4]\n\t"                                                                                                 \
                "ldr r4, [r1, #8]\n\t"                                                                                                 \
                "ldr r5, [r1, #12]\n\t"                                                                                                \
                "ldr r10, [r1, #16]\n\t"                                                                                               \
                "ldr r11, [sp, #8]\n\t"                                                                                                \
                "ldr r14, [sp, #12]\n\t"                                                                                               \
                "smmlar r6, r6, r3, r12\n\t"                                                                                           \
                "smmlar r7, r7, r4, r12\n\t"                                                                                           \
                "smmlar r8, r8, r5, r12\n\t"                                                                                           \
                "smmlar r9, r9, r10, r12\n\t"                                                                                          \
                "ssat r6, #8, r6\n\t"                                                                                                  \
                "ssat r7, #8, r7\n\t"                                                                                                  \
                "ssat r8, #8, r8\n\t"                                                                                                  \
                "ssat r9, #8, r9\n\t"                                                                                                  \
                "strb r6, [r11], #4\n\t"                                                                                               \
                "cmp r11, r14\n\t"                                                                                                     \
                "bhi 3f\n\t"                                                                                                           \
                "strb r7, [r11, #-3]\n\t"                                                                                              \
                "strb r8, [r11, #-2]\n\t"                                                                                              \
                "strb r9, [r11, #-1]\n\t"                                                                                              \
                "str r11, [sp, #8]\n\t"                                                                                                \
                "bne 1b\n\t"                                                                                                           \
                "b 4f\n\t"                                                                                                             \
                "2:\n\t" /* the tail */                                                                                                \
                "add r0, sp, #56\n\t"                                                                                                  \
                "bic r2, #8\n\t"                                                                                                       \
                "b 17b\n\t"                                                                                                            \
                "3:\n\t" /* one to three outputs are left */                                                                           \
                "subs r3, r11, r14\n\t"                                                                                                \
                "cmp r3, #2\n\t"                                                                                                       \
                "it le\n\t"                                                                                                            \
                "strble r7, [r11, #-3]\n\t"                                                                                            \
                "it lt\n\t"                                                                                                            \
                "strblt r8, [r11, #-2]\n\t"                                                                                            \
                "4:\n\t"                                                                                                               \
                "add sp, #16\n\t"                                                                                                      \
                "pop {r4-r11, pc}\n\t"                                                                                                 \
                "20:\n\t" /* an incomplete first pass */                                                                               \
                "lsls r3, r2, #30\n\t"                                                                                                 \
                "bcs 22f\n\t"                                                                                                          \
                "bmi 21f\n\t"                                                                                                          \
                "b 17b\n\t"                                                                                                            \
                "21:\n\t"                                                                                                              \
                "lsls r3, r2, #31\n\t"                                                                                                 \
                "bmi 15b\n\t"                                                                                                          \
                "b 16b\n\t"                                                                                                            \
                "22:\n\t"                                                                                                              \
                "beq 14b\n\t"                                                                                                          \
                "bmi 23f\n\t"                                                                                                          \
                "b 13b\n\t"                                                                                                            \
                "23:\n\t"                                                                                                              \
                "lsls r3, r2, #31\n\t"                                                                                                 \
                "bmi 11b\n\t"                                                                                                          \
                "b 12b\n\t");                                                                                                          \
    }

typedef void hwnas_dense_blocks(
    const int8_t *in, const uint32_t *weights, int8_t *out, int8_t *out_end, int32_t zero_point, int32_t plan, uint32_t tail);

HWNAS_INLINE void hwnas_dense_run(const hwnas_dense_params *p, const int8_t *in, int8_t *out, hwnas_dense_blocks *blocks)
{
    int32_t groups = p->in_channels >> 2, few = p->in_channels & 3;
    uint32_t tail = few ? hwnas_load_few(in + 4 * groups, few) : 0;
    if (!groups) { /* then the tail is all there is */
        in = (const int8_t *)&tail;
        groups = 1;
        few = 0;
    }
    int32_t plan = (((groups + 7) >> 3) - 1) * 16 + (few ? 8 : 0) + (groups & 7);
    blocks(in, (const uint32_t *)p->packed, out, out + p->units, p->out_zero_point, plan, tail);
}

#endif

#endif
