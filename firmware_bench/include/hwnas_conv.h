/* What the convolutions of both weight layouts share: widening of windows, the walk over positions, and how a block ends.
 *
 * In NWC a window is one run of K = kernel * in_channels bytes (with dilation, `kernel` runs of in_channels bytes). Two windows at a time
 * are widened to 16 bits in the scratch (samples before and after the signal are in_zero_point there), then every block of four outputs
 * takes both with SMLAD. An odd last position is computed twice, to one place.
 *
 * K4 = K rounded up to 4. Scratch: 4 * K4 bytes, for each group of 4 values
 *     (0,2) of window 0, (0,2) of window 1, (1,3) of window 0, (1,3) of window 1
 */
#ifndef HWNAS_CONV_H
#define HWNAS_CONV_H

#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* Where windows lie in the input: `runs` runs of `groups` groups of 4 values, the next one `skip` bytes after the end of one. */
typedef struct {
    const int8_t *x; /* window 0 of the first pair; null: the pair is in the scratch already */
    int32_t step;    /* bytes from a window to the next */
    int32_t count;   /* pairs */
    int32_t groups, runs, skip;
} hwnas_conv_windows;

/* All outputs of pairs of windows. Those of a pair begin at out and out + pitch, the next pair follows two rows later. */
typedef void hwnas_conv_pairs(const hwnas_conv_params *p, const hwnas_conv_windows *from, uint32_t *window, int8_t *out, int32_t pitch);

HWNAS_INLINE int32_t hwnas_conv_groups(const hwnas_conv_params *p)
{
    return (p->kernel * p->in_channels + 3) >> 2;
}

/* Both windows of pair `index`. */
HWNAS_INLINE void hwnas_widen_pair(const hwnas_conv_windows *from, int32_t index, uint32_t *window)
{
    const int8_t *x = from->x + 2 * from->step * index;
    for (int32_t run = 0; run < from->runs; run++)
        for (int32_t i = 0; i < from->groups; i++, window += 4) {
            const int8_t *at = x + run * (4 * from->groups + from->skip) + 4 * i;
            uint32_t a = hwnas_load(at), b = hwnas_load(at + from->step);
            window[0] = hwnas_even(a);
            window[1] = hwnas_even(b);
            window[2] = hwnas_odd(a);
            window[3] = hwnas_odd(b);
        }
}

/* One window from byte `start` of the signal on, tap by tap; taps outside the signal are padding. */
HWNAS_COLD void hwnas_widen_taps(const hwnas_conv_params *p, const int8_t *in, int32_t start, uint32_t *window)
{
    int32_t channels = p->in_channels, end = p->in_length * channels, zero_point = p->in_zero_point, place = 0;
    uint32_t padding = hwnas_halves(zero_point, zero_point);
    for (int32_t tap = 0; tap < p->kernel; tap++, start += p->dilation * channels) {
        int inside = start >= 0 && start < end;
        if (channels & 3) {
            for (int32_t i = 0; i < channels; i++, place++) {
                int16_t v = (int16_t)(inside ? in[start + i] : zero_point);
                __builtin_memcpy((int8_t *)window + ((place >> 2) * 16 + (place & 1) * 8 + (place & 2)), &v, 2);
            }
        } else if (inside) {
            for (int32_t i = 0; i < channels; i += 4, window += 4) {
                uint32_t v = hwnas_load(in + start + i);
                window[0] = hwnas_even(v);
                window[2] = hwnas_odd(v);
            }
        } else {
            for (int32_t i = 0; i < channels; i += 4, window += 4)
                window[0] = window[2] = padding;
        }
    }
}

HWNAS_INLINE void hwnas_conv_positions(const hwnas_conv_params *p, const int8_t *in, int8_t *out, uint32_t *window, hwnas_conv_pairs *pairs)
{
    int32_t channels = p->in_channels, one_run = p->dilation == 1 || p->kernel == 1;
    int32_t groups = one_run ? hwnas_conv_groups(p) : channels >> 2;
    hwnas_conv_windows from = {0, 0, 0, groups, one_run ? 1 : p->kernel, (p->dilation - 1) * channels};
    int32_t extent = from.runs * 4 * from.groups + (from.runs - 1) * from.skip;
    /* The last start of a window that may be read whole; taps of a number of channels that is no multiple of 4 are not runs of groups. */
    int32_t last = one_run || !(channels & 3) ? p->in_length * channels - extent : -1;
    for (int32_t position = 0; position < p->out_length; position += 2 * from.count) {
        int32_t left = p->out_length - position, start = (position * p->stride - p->pad_left) * channels;
        from.x = 0;
        from.step = left > 1 ? p->stride * channels : 0;
        from.count = 1;
        if (start < 0 || start + from.step > last) {
            hwnas_widen_taps(p, in, start, window);
            hwnas_widen_taps(p, in, start + from.step, window + 1);
        } else {
            from.x = in + start;
            if (left > 1) {
                int32_t fit = (last - start - from.step) / (2 * from.step) + 1;
                from.count = fit < left >> 1 ? fit : left >> 1;
            }
        }
        pairs(p, &from, window, out + position * p->out_channels, left > 1 ? p->out_channels : 0);
    }
}

/* In portable C, for weights that take `words` words (2 or 4) a pair of taps and four outputs. */
HWNAS_INLINE void hwnas_conv_portable(
    const hwnas_conv_params *p, const hwnas_conv_windows *from, uint32_t *window, int8_t *out, int32_t pitch, int32_t words)
{
    int32_t halves = 2 * hwnas_conv_groups(p), channels = p->out_channels;
    for (int32_t i = 0; i < from->count; i++, out += 2 * channels) {
        const uint32_t *w = (const uint32_t *)p->packed;
        if (from->x)
            hwnas_widen_pair(from, i, window);
        for (int32_t o = 0; o < channels; o += 4, w += 8 + words * halves)
            for (int32_t one = 0; one < 2; one++) {
                int32_t acc[4] = {(int32_t)w[0], (int32_t)w[1], (int32_t)w[2], (int32_t)w[3]};
                const uint32_t *at = w + 4;
                for (int32_t half = 0; half < halves; half++)
                    at = hwnas_four_macs(window[2 * half + one], at, acc, words);
                for (int32_t j = 0; j < 4 && j < channels - o; j++)
                    out[one * pitch + o + j] = (int8_t)hwnas_scale(acc[j], (int32_t)at[j], p->out_zero_point);
            }
    }
}

#if defined(__ARM_FEATURE_DSP)

/* In assembly because sums, operands and addresses take all 14 registers: compilers spill several, which costs a third of the speed.
 * r0 window, r1 weights (both at the last word read), r2 r3 values of the windows, r4 r5 weights, r6-r9 sums of window 0, r10-r12 r14 of
 * window 1. `first` takes the first group of taps, from the biases in r6-r9, and halves r10 into the flags; `next` takes any other group;
 * `last` also compares r0 with the word at sp + 12. Nothing else writes the flags.
 * Stack: out0 0, out1 4, end of out0 8, last word of the window 12, window 16, weights 20, row of out0 24, x 28, saved registers 32-67,
 * pitch 68, step 72, count 76, channels 80, zero point 84, groups - 1 88; of a window: groups - 1 of a run 92, further runs or, where
 * it is read by bytes, -1 96, bytes between runs 100. */
#define HWNAS_CONV_BLOCKS(first, next, last)                                                                                           \
    HWNAS_ASSEMBLY void blocks(                                                                                                        \
        uint32_t *window __attribute__((unused)), const uint32_t *weights __attribute__((unused)), int8_t *out __attribute__((unused)), \
        const int8_t *x __attribute__((unused)), int32_t pitch __attribute__((unused)), int32_t step __attribute__((unused)),          \
        int32_t count __attribute__((unused)), int32_t channels __attribute__((unused)), int32_t zero_point __attribute__((unused)),   \
        int32_t groups __attribute__((unused)), int32_t run __attribute__((unused)), int32_t more __attribute__((unused)),             \
        int32_t skip __attribute__((unused)))                                                                                          \
    {                                                                                                                                  \
        __asm__("subs r0, #4\n\t"                                                                                                      \
                "subs r1, #4\n\t"                                                                                                      \
                "push {r0-r11, lr}\n\t"                                                                                                \
                "sub sp, #16\n\t"                                                                                                      \
                "ldr r4, [sp, #88]\n\t"                                                                                                \
                "add r5, r0, r4, lsl #4\n\t"                                                                                           \
                "subs r4, #1\n\t"                                                                                                      \
                "str r5, [sp, #12]\n\t"                                                                                                \
                "str r4, [sp, #88]\n\t"                                                                                                \
                "7:\n\t" /* a pair */                                                                                                  \
                "ldr r2, [sp, #24]\n\t"                                                                                                \
                "ldr r4, [sp, #68]\n\t"                                                                                                \
                "ldr r3, [sp, #80]\n\t"                                                                                                \
                "ldr r0, [sp, #28]\n\t"                                                                                                \
                "str r2, [sp]\n\t"                                                                                                     \
                "add r4, r2\n\t"                                                                                                       \
                "add r5, r2, r3\n\t"                                                                                                   \
                "add r2, r2, r3, lsl #1\n\t"                                                                                           \
                "str r4, [sp, #4]\n\t"                                                                                                 \
                "str r5, [sp, #8]\n\t"                                                                                                 \
                "str r2, [sp, #24]\n\t"                                                                                                \
                "cbz r0, 9f\n\t"                                                                                                       \
                "ldr r1, [sp, #72]\n\t"                                                                                                \
                "ldr r2, [sp, #16]\n\t"                                                                                                \
                "ldr r3, [sp, #92]\n\t"                                                                                                \
                "ldr r8, [sp, #96]\n\t"                                                                                                \
                "add r4, r0, r1, lsl #1\n\t"                                                                                           \
                "str r4, [sp, #28]\n\t"                                                                                                \
                "add r1, r0\n\t"                                                                                                       \
                "cmp r8, #0\n\t"                                                                                                       \
                "blt 11f\n\t"                                                                                                          \
                "8:\n\t"                                                                                                               \
                "ldr r4, [r0], #4\n\t"                                                                                                 \
                "ldr r5, [r1], #4\n\t"                                                                                                 \
                "sxtb16 r6, r4\n\t"                                                                                                    \
                "sxtb16 r7, r5\n\t"                                                                                                    \
                "sxtb16 r4, r4, ror #8\n\t"                                                                                            \
                "sxtb16 r5, r5, ror #8\n\t"                                                                                            \
                "str r6, [r2, #4]\n\t"                                                                                                 \
                "str r7, [r2, #8]\n\t"                                                                                                 \
                "str r4, [r2, #12]\n\t"                                                                                                \
                "str r5, [r2, #16]!\n\t"                                                                                               \
                "subs r3, #1\n\t"                                                                                                      \
                "bpl 8b\n\t"                                                                                                           \
                "subs r8, #1\n\t"                                                                                                      \
                "bpl 10f\n\t"                                                                                                          \
                "9:\n\t"                                                                                                               \
                "ldr r1, [sp, #20]\n\t"                                                                                                \
                "1:\n\t" /* a block of four outputs */                                                                                 \
                "ldr r0, [sp, #16]\n\t"                                                                                                \
                "ldr r10, [sp, #88]\n\t"                                                                                               \
                "ldr r6, [r1, #4]\n\t"                                                                                                 \
                "ldr r7, [r1, #8]\n\t"                                                                                                 \
                "ldr r8, [r1, #12]\n\t"                                                                                                \
                "ldr r9, [r1, #16]!\n\t" first                                                                                         \
                "bcs 3f\n\t" /* an odd number of groups is left */                                                                     \
                "beq 4f\n\t" /* none is */                                                                                             \
                "2:\n\t" next                                                                                                          \
                "3:\n\t" last                                                                                                          \
                "bne 2b\n\t"                                                                                                           \
                "4:\n\t"                                                                                                               \
                "ldr r0, [sp, #84]\n\t"                                                                                                \
                "ldr r2, [r1, #4]\n\t"                                                                                                 \
                "ldr r3, [r1, #8]\n\t"                                                                                                 \
                "ldr r4, [r1, #12]\n\t"                                                                                                \
                "ldr r5, [r1, #16]!\n\t"                                                                                               \
                "smmlar r6, r6, r2, r0\n\t"                                                                                            \
                "smmlar r10, r10, r2, r0\n\t"                                                                                          \
                "smmlar r7, r7, r3, r0\n\t"                                                                                            \
                "smmlar r11, r11, r3, r0\n\t"                                                                                          \
                "smmlar r8, r8, r4, r0\n\t"                                                                                            \
                "smmlar r12, r12, r4, r0\n\t"                                                                                          \
                "smmlar r9, r9, r5, r0\n\t"                                                                                            \
                "smmlar r14, r14, r5, r0\n\t"                                                                                          \
                "ldr r2, [sp]\n\t"                                                                                                     \
                "ldr r3, [sp, #4]\n\t"                                                                                                 \
                "ldr r4, [sp, #8]\n\t"                                                                                                 \
                "ssat r6, #8, r6\n\t"                                                                                                  \
                "ssat r10, #8, r10\n\t"                                                                                                \
                "ssat r7, #8, r7\n\t"                                                                                                  \
                "ssat r11, #8, r11\n\t"                                                                                                \
                "ssat r8, #8, r8\n\t"                                                                                                  \
                "ssat r12, #8, r12\n\t"                                                                                                \
                "ssat r9, #8, r9\n\t"                                                                                                  \
                "ssat r14, #8, r14\n\t"                                                                                                \
                "strb r6, [r2], #4\n\t" /* single bytes: rows may lie anywhere, and to pack words takes as long */                     \
                "strb r10, [r3], #4\n\t"                                                                                               \
                "cmp r2, r4\n\t"                                                                                                       \
                "bhi 5f\n\t"                                                                                                           \
                "strb r7, [r2, #-3]\n\t"                                                                                               \
                "strb r11, [r3, #-3]\n\t"                                                                                              \
                "strb r8, [r2, #-2]\n\t"                                                                                               \
                "strb r12, [r3, #-2]\n\t"                                                                                              \
                "strb r9, [r2, #-1]\n\t"                                                                                               \
                "strb r14, [r3, #-1]\n\t"                                                                                              \
                "str r2, [sp]\n\t"                                                                                                     \
                "str r3, [sp, #4]\n\t"                                                                                                 \
                "bne 1b\n\t"                                                                                                           \
                "6:\n\t"                                                                                                               \
                "ldr r2, [sp, #76]\n\t"                                                                                                \
                "subs r2, #1\n\t"                                                                                                      \
                "str r2, [sp, #76]\n\t"                                                                                                \
                "bne 7b\n\t"                                                                                                           \
                "add sp, #32\n\t"                                                                                                      \
                "pop {r4-r11, pc}\n\t"                                                                                                 \
                "5:\n\t" /* one to three outputs are left */                                                                           \
                "subs r4, r2, r4\n\t"                                                                                                  \
                "cmp r4, #2\n\t"                                                                                                       \
                "itt le\n\t"                                                                                                           \
                "strble r7, [r2, #-3]\n\t"                                                                                             \
                "strble r11, [r3, #-3]\n\t"                                                                                            \
                "itt lt\n\t"                                                                                                           \
                "strblt r8, [r2, #-2]\n\t"                                                                                             \
                "strblt r12, [r3, #-2]\n\t"                                                                                            \
                "b 6b\n\t"                                                                                                             \
                "10:\n\t" /* the next run */                                                                                           \
                "ldr r3, [sp, #92]\n\t"                                                                                                \
                "ldr r4, [sp, #100]\n\t"                                                                                               \
                "add r0, r4\n\t"                                                                                                       \
                "add r1, r4\n\t"                                                                                                       \
                "b 8b\n\t"                                                                                                             \
                "11:\n\t"                                                                                                              \
                "ldrsb r4, [r0]\n\t"                                                                                                   \
                "ldrsb r5, [r0, #1]\n\t"                                                                                               \
                "ldrsb r6, [r0, #2]\n\t"                                                                                               \
                "ldrsb r7, [r0, #3]\n\t"                                                                                               \
                "ldrsb r8, [r1]\n\t"                                                                                                   \
                "ldrsb r9, [r1, #1]\n\t"                                                                                               \
                "ldrsb r10, [r1, #2]\n\t"                                                                                              \
                "ldrsb r11, [r1, #3]\n\t"                                                                                              \
                "pkhbt r4, r4, r6, lsl #16\n\t"                                                                                        \
                "pkhbt r8, r8, r10, lsl #16\n\t"                                                                                       \
                "pkhbt r5, r5, r7, lsl #16\n\t"                                                                                        \
                "pkhbt r9, r9, r11, lsl #16\n\t"                                                                                       \
                "str r4, [r2, #4]\n\t"                                                                                                 \
                "str r8, [r2, #8]\n\t"                                                                                                 \
                "str r5, [r2, #12]\n\t"                                                                                                \
                "str r9, [r2, #16]!\n\t"                                                                                               \
                "adds r0, #4\n\t"                                                                                                      \
                "adds r1, #4\n\t"                                                                                                      \
                "subs r3, #1\n\t"                                                                                                      \
                "bpl 11b\n\t"                                                                                                          \
                "b 9b");                                                                                                               \
    }                                                                                                                                  \
    static void pairs(const hwnas_conv_params *p, const hwnas_conv_windows *from, uint32_t *window, int8_t *out, int32_t pitch)        \
    {                                                                                                                                  \
        int32_t bytes = ((uint32_t)(uintptr_t)from->x | (uint32_t)from->step) & 3;                                                     \
        blocks(window, (const uint32_t *)p->packed, out, from->x, pitch, from->step, from->count, p->out_channels,                     \
               p->out_zero_point, hwnas_conv_groups(p), from->groups - 1, bytes ? -1 : from->runs - 1, from->skip);                    \
    }

#endif

#endif
