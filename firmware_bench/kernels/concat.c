/* Two tensors of one length side by side, each with a scale of its own. Scratch: none; `aux` is the second input. No packed weights. */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* `rows` (at least 1) times `channels` values, dense in `in`; rows of the output lie `skip` further bytes apart. */
typedef struct {
    const int8_t *in;
    int8_t *out;
    int32_t channels, skip, multiplier, offset, rows;
} part;

#if defined(__ARM_FEATURE_DSP)

#define FOUR \
    "ldrsb r7, [r0, #1]\n\t" \
    "ldrsb r8, [r0, #2]\n\t" \
    "ldrsb r9, [r0, #3]\n\t" \
    "ldrsb r10, [r0, #4]!\n\t" \
    "mla r7, r7, r4, r5\n\t" \
    "mla r8, r8, r4, r5\n\t" \
    "mla r9, r9, r4, r5\n\t" \
    "mla r10, r10, r4, r5\n\t" \
    "ssat r7, #8, r7, asr #20\n\t" \
    "ssat r8, #8, r8, asr #20\n\t" \
    "ssat r9, #8, r9, asr #20\n\t" \
    "ssat r10, #8, r10, asr #20\n\t" \
    "strb r7, [r1, #1]\n\t" \
    "strb r8, [r1, #2]\n\t" \
    "strb r9, [r1, #3]\n\t" \
    "strb r10, [r1, #4]!\n\t"

/* r0 and r1 bytes before input and output, r2 channels, r3 skip, r4 multiplier, r5 offset, r6 rows left, r11 end of the row's fours. */
static __attribute__((naked, noinline)) void rescale(const part *work __attribute__((unused)))
{
    __asm__("push {r4-r11, lr}\n\t"
            "ldm r0, {r0-r6}\n\t"
            "subs r0, #1\n\t"
            "subs r1, #1\n"
            "1:\n\t"
            "bics r11, r2, #3\n\t"
            "beq 4f\n\t"
            "add r11, r0\n\t"
            "lsls r7, r2, #29\n\t" /* an odd number of fours */
            "bmi.w 3f\n"
            "2:\n\t" FOUR
            "3:\n\t" FOUR
            "cmp r0, r11\n\t"
            "bne.w 2b\n"
            "4:\n\t"
            "ands r11, r2, #3\n\t"
            "beq 6f\n"
            "5:\n\t"
            "ldrsb r7, [r0, #1]!\n\t"
            "subs r11, #1\n\t"
            "mla r7, r7, r4, r5\n\t"
            "ssat r7, #8, r7, asr #20\n\t"
            "strb r7, [r1, #1]!\n\t"
            "bne 5b\n"
            "6:\n\t"
            "add r1, r3\n\t"
            "subs r6, #1\n\t"
            "bne.w 1b\n\t"
            "pop {r4-r11, pc}");
}

#else

static void rescale(const part *w)
{
    const int8_t *in = w->in;
    int8_t *out = w->out;
    for (int32_t row = 0; row < w->rows; row++, in += w->channels, out += w->channels + w->skip)
        for (int32_t i = 0; i < w->channels; i++)
            out[i] = (int8_t)hwnas_shift20(w->offset + in[i] * w->multiplier);
}

#endif

void hwnas_concat(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_concat_params *p = (const hwnas_concat_params *)params;
    part a = {in, out, p->channels_a, p->channels_b, p->multiplier_a, p->offset_a, p->length};
    part b = {(const int8_t *)aux, out + p->channels_a, p->channels_b, p->channels_a, p->multiplier_b, p->offset_b, p->length};
    rescale(&a);
    rescale(&b);
}
