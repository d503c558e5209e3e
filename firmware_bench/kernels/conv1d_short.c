/* Convolution whose windows have at most 8 values, such as a stem on one channel: four windows stay in registers over all outputs.
 *
 * Packed weights, for each output channel: int32 bias; int32 multiplier; int16 weights in natural order, padded to whole words with 0.
 * No scratch. The four windows of a quad of positions are read before its outputs are written.
 */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"
#include "hwnas_neon_short.h"

#if defined(HWNAS_NEON)

void hwnas_conv1d_short(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    (void)aux;
    hwnas_neon_conv1d_short((const hwnas_conv_params *)params, in, out);
}

#else

#define QUAD_BYTES 14
#define CHUNK 16 /* channels at a time where rows are collected apart */

/* `count` quads of positions: window j of a quad begins at x[2 * j] and has `words` pairs of values, the next quad at x[advance]; position
 * j of `channels` outputs begins at out[j * pitch], the next quad at out[4 * pitch]. May read QUAD_BYTES of each quad. */
#if defined(__ARM_FEATURE_DSP)

/* In assembly for its 14 registers. r0 weights, r1 out, r2 r3 weights or constants, r4-r7 bias and sums, r8-r12 r14 words 1 to 6 of the
 * quad; only window 0 begins with word 0, which is loaded into that window's sum.
 * Stack: word 0 0, end of the channels 4, x 8, weights 12, out 16, count 20, saved registers 24-59, words 60, advance 64, pitch 68,
 * channels 72, zero point 76. */
#define WORD0                                                                                                                          \
    "smlad r5, r8, r2, r7\n\t"                                                                                                         \
    "smlad r6, r9, r2, r7\n\t"                                                                                                         \
    "smlad r4, r4, r2, r7\n\t"                                                                                                         \
    "smlad r7, r10, r2, r7\n\t"
#define WORD1                                                                                                                          \
    "smlad r4, r8, r3, r4\n\t"                                                                                                         \
    "smlad r5, r9, r3, r5\n\t"                                                                                                         \
    "smlad r6, r10, r3, r6\n\t"                                                                                                        \
    "smlad r7, r11, r3, r7\n\t"
#define WORD2                                                                                                                          \
    "smlad r4, r9, r2, r4\n\t"                                                                                                         \
    "smlad r5, r10, r2, r5\n\t"                                                                                                        \
    "smlad r6, r11, r2, r6\n\t"                                                                                                        \
    "smlad r7, r12, r2, r7\n\t"
#define WORD3                                                                                                                          \
    "smlad r4, r10, r3, r4\n\t"                                                                                                        \
    "smlad r5, r11, r3, r5\n\t"                                                                                                        \
    "smlad r6, r12, r3, r6\n\t"                                                                                                        \
    "smlad r7, r14, r3, r7\n\t"

/* After the multiplier in r2: four outputs, and whether the last channel is done. */
#define OUTPUTS                                                                                                                        \
    "ldr r3, [sp, #76]\n\t"                                                                                                            \
    "smmlar r4, r4, r2, r3\n\t"                                                                                                        \
    "smmlar r5, r5, r2, r3\n\t"                                                                                                        \
    "smmlar r6, r6, r2, r3\n\t"                                                                                                        \
    "smmlar r7, r7, r2, r3\n\t"                                                                                                        \
    "ldr r2, [sp, #68]\n\t"                                                                                                            \
    "ldr r3, [sp, #4]\n\t"                                                                                                             \
    "ssat r4, #8, r4\n\t"                                                                                                              \
    "strb r4, [r1], #1\n\t"                                                                                                            \
    "ssat r5, #8, r5\n\t"                                                                                                              \
    "add r4, r1, r2\n\t"                                                                                                               \
    "ssat r6, #8, r6\n\t"                                                                                                              \
    "strb r5, [r4, #-1]\n\t"                                                                                                           \
    "add r4, r2\n\t"                                                                                                                   \
    "ssat r7, #8, r7\n\t"                                                                                                              \
    "strb r6, [r4, #-1]\n\t"                                                                                                           \
    "add r4, r2\n\t"                                                                                                                   \
    "cmp r1, r3\n\t"                                                                                                                   \
    "strb r7, [r4, #-1]\n\t"

/* All channels of a quad with windows of so many words. */
#define CHANNELS1                                                                                                                      \
    "11:\n\t"                                                                                                                          \
    "ldr r7, [r0], #12\n\t"                                                                                                            \
    "ldr r4, [sp]\n\t"                                                                                                                 \
    "ldr r2, [r0, #-4]\n\t"                                                                                                            \
    WORD0                                                                                                                              \
    "ldr r2, [r0, #-8]\n\t"                                                                                                            \
    OUTPUTS                                                                                                                            \
    "bne 11b\n\t"
#define CHANNELS2                                                                                                                      \
    "12:\n\t"                                                                                                                          \
    "ldr r7, [r0], #16\n\t"                                                                                                            \
    "ldr r4, [sp]\n\t"                                                                                                                 \
    "ldr r2, [r0, #-8]\n\t"                                                                                                            \
    "ldr r3, [r0, #-4]\n\t"                                                                                                            \
    WORD0                                                                                                                              \
    WORD1                                                                                                                              \
    "ldr r2, [r0, #-12]\n\t"                                                                                                           \
    OUTPUTS                                                                                                                            \
    "bne 12b\n\t"
#define CHANNELS3                                                                                                                      \
    "13:\n\t"                                                                                                                          \
    "ldr r7, [r0], #20\n\t"                                                                                                            \
    "ldr r4, [sp]\n\t"                                                                                                                 \
    "ldr r2, [r0, #-12]\n\t"                                                                                                           \
    "ldr r3, [r0, #-8]\n\t"                                                                                                            \
    WORD0                                                                                                                              \
    WORD1                                                                                                                              \
    "ldr r2, [r0, #-4]\n\t"                                                                                                            \
    WORD2                                                                                                                              \
    "ldr r2, [r0, #-16]\n\t"                                                                                                           \
    OUTPUTS                                                                                                                            \
    "bne 13b\n\t"
#define CHANNELS4                                                                                                                      \
    "14:\n\t"                                                                                                                          \
    "ldr r7, [r0], #24\n\t"                                                                                                            \
    "ldr r4, [sp]\n\t"                                                                                                                 \
    "ldr r2, [r0, #-16]\n\t"                                                                                                           \
    "ldr r3, [r0, #-12]\n\t"                                                                                                           \
    WORD0                                                                                                                              \
    WORD1                                                                                                                              \
    "ldr r2, [r0, #-8]\n\t"                                                                                                            \
    "ldr r3, [r0, #-4]\n\t"                                                                                                            \
    WORD2                                                                                                                              \
    WORD3                                                                                                                              \
    "ldr r2, [r0, #-20]\n\t"                                                                                                           \
    OUTPUTS                                                                                                                            \
    "bne 14b\n\t"

HWNAS_ASSEMBLY void quads(
    const int8_t *x __attribute__((unused)), const uint32_t *weights __attribute__((unused)), int8_t *out __attribute__((unused)),
    int32_t count __attribute__((unused)), int32_t words __attribute__((unused)), int32_t advance __attribute__((unused)),
    int32_t pitch __attribute__((unused)), int32_t channels __attribute__((unused)), int32_t zero_point __attribute__((unused)))
{
    __asm__("push {r0-r11, lr}\n\t"
            "sub sp, #8\n\t"
            "1:\n\t"
            "ldr r0, [sp, #8]\n\t"
            "ldrsb r2, [r0, #0]\n\t"
            "ldrsb r8, [r0, #2]\n\t"
            "ldrsb r9, [r0, #4]\n\t"
            "ldrsb r10, [r0, #6]\n\t"
            "ldrsb r11, [r0, #8]\n\t"
            "ldrsb r12, [r0, #10]\n\t"
            "ldrsb r14, [r0, #12]\n\t"
            "ldrsb r3, [r0, #1]\n\t"
            "ldrsb r4, [r0, #3]\n\t"
            "ldrsb r5, [r0, #5]\n\t"
            "ldrsb r6, [r0, #7]\n\t"
            "ldrsb r7, [r0, #9]\n\t"
            "pkhbt r2, r2, r3, lsl #16\n\t"
            "pkhbt r8, r8, r4, lsl #16\n\t"
            "pkhbt r9, r9, r5, lsl #16\n\t"
            "pkhbt r10, r10, r6, lsl #16\n\t"
            "pkhbt r11, r11, r7, lsl #16\n\t"
            "ldrsb r3, [r0, #11]\n\t"
            "ldrsb r4, [r0, #13]\n\t"
            "pkhbt r12, r12, r3, lsl #16\n\t"
            "pkhbt r14, r14, r4, lsl #16\n\t"
            "ldr r3, [sp, #64]\n\t"
            "ldr r1, [sp, #16]\n\t"
            "ldr r4, [sp, #72]\n\t"
            "str r2, [sp]\n\t"
            "ldr r2, [sp, #60]\n\t"
            "add r3, r0\n\t"
            "add r4, r1\n\t"
            "str r3, [sp, #8]\n\t"
            "ldr r0, [sp, #12]\n\t"
            "str r4, [sp, #4]\n\t"
            "subs r2, #2\n\t"
            "bmi 11f\n\t"
            "beq 12f\n\t"
            "cmp r2, #1\n\t"
            "beq 13f\n\t"
            CHANNELS4
            "b 2f\n\t"
            CHANNELS3
            "b 2f\n\t"
            CHANNELS2
            "b 2f\n\t"
            CHANNELS1
            "2:\n\t"
            "ldr r1, [sp, #16]\n\t"
            "ldr r3, [sp, #20]\n\t"
            "add r1, r1, r2, lsl #2\n\t"
            "str r1, [sp, #16]\n\t"
            "subs r3, #1\n\t"
            "str r3, [sp, #20]\n\t"
            "bne 1b\n\t"
            "add sp, #24\n\t"
            "pop {r4-r11, pc}");
}

#else

static void quads(const int8_t *x, const uint32_t *weights, int8_t *out, int32_t count, int32_t words, int32_t advance, int32_t pitch,
                  int32_t channels, int32_t zero_point)
{
    for (int32_t quad = 0; quad < count; quad++) {
        int8_t *rows = out + 4 * pitch * quad;
        uint32_t v[QUAD_BYTES / 2];
        for (int32_t i = 0; i < words + 3; i++)
            v[i] = hwnas_halves(x[quad * advance + 2 * i], x[quad * advance + 2 * i + 1]);
        const uint32_t *w = weights;
        for (int32_t o = 0; o < channels; o++, w += 2 + words)
            for (int32_t j = 0; j < 4; j++) {
                int32_t acc = (int32_t)w[0];
                for (int32_t i = 0; i < words; i++)
                    acc = hwnas_dual_mac(v[i + j], w[2 + i], acc);
                rows[j * pitch + o] = (int8_t)hwnas_scale(acc, (int32_t)w[1], zero_point);
            }
    }
}

#endif

/* One to four positions at the ends of the signal, from a copy of their windows with padding. */
HWNAS_COLD void edge(const hwnas_conv_params *p, const int8_t *in, int32_t start, int32_t words, int8_t *out, int32_t positions)
{
    int32_t step = p->stride * p->in_channels, end = p->in_length * p->in_channels, channels = p->out_channels;
    const uint32_t *w = (const uint32_t *)p->packed;
    int8_t x[QUAD_BYTES], rows[4 * CHUNK], zero_point = (int8_t)p->in_zero_point;
    for (int32_t i = 0; i < 2 * (words + 3); i++) {
        int32_t at = start + (i >> 1) * step + (i & 1);
        x[i] = at >= 0 && at < end ? in[at] : zero_point;
    }
    if (positions == 4) {
        quads(x, w, out, 1, words, 0, channels, channels, p->out_zero_point);
        return;
    }
    for (int32_t first = 0; first < channels; first += CHUNK, w += CHUNK * (2 + words)) {
        int32_t count = channels - first < CHUNK ? channels - first : CHUNK;
        quads(x, w, rows, 1, words, 0, CHUNK, count, p->out_zero_point);
        for (int32_t j = 0; j < positions; j++)
            for (int32_t o = 0; o < count; o++)
                out[j * channels + first + o] = rows[j * CHUNK + o];
    }
}

void hwnas_conv1d_short(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_conv_params *p = (const hwnas_conv_params *)params;
    int32_t channels = p->out_channels, words = (p->kernel * p->in_channels + 1) >> 1, step = p->stride * p->in_channels;
    int32_t last = p->in_length * p->in_channels - QUAD_BYTES;
    (void)aux;
    for (int32_t position = 0, count; position < p->out_length; position += 4 * count) {
        int32_t left = p->out_length - position, start = position * step - p->pad_left * p->in_channels;
        int32_t fit = step == 2 && start >= 0 && start <= last ? (last - start) / 8 + 1 : 0;
        int8_t *row = out + position * channels;
        count = fit < left >> 2 ? fit : left >> 2;
        if (count) {
            quads(in + start, (const uint32_t *)p->packed, row, count, words, 8, channels, channels, p->out_zero_point);
        } else {
            edge(p, in, start, words, row, left < 4 ? left : 4);
            count = 1;
        }
    }
}

#endif
