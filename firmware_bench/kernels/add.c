/* Sum of two tensors of one shape, each with a scale of its own. Scratch: none; `aux` is the second input. No packed weights.
 * `out` may be either input. */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

#if defined(__ARM_FEATURE_DSP)

/* `out` up to `end`: a multiple of 8 values, at least 8. */
typedef struct {
    const int8_t *in, *other;
    int8_t *out, *end;
    int32_t multiplier_a, multiplier_b, offset;
} eights_work;

/* r0 first input, r1 second, r2 byte before the output, r3 last byte of it, r4 r5 multipliers, r6 offset. Bytes are loaded sign-extended in
 * a row, which takes less than to load words and to take them apart. */
static __attribute__((naked, noinline)) void eights(const eights_work *work __attribute__((unused)))
{
    __asm__("push {r4-r11, lr}\n\t"
            "ldm r0, {r0-r6}\n\t"
            "subs r2, #1\n\t"
            "subs r3, #1\n"
            "1:\n\t"
            "ldrsb r7, [r0], #8\n\t"
            "ldrsb r8, [r1], #8\n\t"
            "ldrsb r9, [r0, #-7]\n\t"
            "ldrsb r10, [r1, #-7]\n\t"
            "ldrsb r11, [r0, #-6]\n\t"
            "ldrsb r12, [r1, #-6]\n\t"
            "mla r7, r7, r4, r6\n\t"
            "mla r9, r9, r4, r6\n\t"
            "mla r11, r11, r4, r6\n\t"
            "mla r7, r8, r5, r7\n\t"
            "mla r9, r10, r5, r9\n\t"
            "mla r11, r12, r5, r11\n\t"
            "ssat r7, #8, r7, asr #20\n\t"
            "ssat r9, #8, r9, asr #20\n\t"
            "ssat r11, #8, r11, asr #20\n\t"
            "strb r7, [r2, #1]\n\t"
            "strb r9, [r2, #2]\n\t"
            "strb r11, [r2, #3]\n\t"
            "ldrsb r7, [r0, #-5]\n\t"
            "ldrsb r8, [r1, #-5]\n\t"
            "ldrsb r9, [r0, #-4]\n\t"
            "ldrsb r10, [r1, #-4]\n\t"
            "ldrsb r11, [r0, #-3]\n\t"
            "ldrsb r12, [r1, #-3]\n\t"
            "mla r7, r7, r4, r6\n\t"
            "mla r9, r9, r4, r6\n\t"
            "mla r11, r11, r4, r6\n\t"
            "mla r7, r8, r5, r7\n\t"
            "mla r9, r10, r5, r9\n\t"
            "mla r11, r12, r5, r11\n\t"
            "ssat r7, #8, r7, asr #20\n\t"
            "ssat r9, #8, r9, asr #20\n\t"
            "ssat r11, #8, r11, asr #20\n\t"
            "strb r7, [r2, #4]\n\t"
            "strb r9, [r2, #5]\n\t"
            "strb r11, [r2, #6]\n\t"
            "ldrsb r7, [r0, #-2]\n\t"
            "ldrsb r8, [r1, #-2]\n\t"
            "ldrsb r9, [r0, #-1]\n\t"
            "ldrsb r10, [r1, #-1]\n\t"
            "mla r7, r7, r4, r6\n\t"
            "mla r9, r9, r4, r6\n\t"
            "mla r7, r8, r5, r7\n\t"
            "mla r9, r10, r5, r9\n\t"
            "ssat r7, #8, r7, asr #20\n\t"
            "ssat r9, #8, r9, asr #20\n\t"
            "strb r7, [r2, #7]\n\t"
            "strb r9, [r2, #8]!\n\t"
            "cmp r2, r3\n\t"
            "bne.w 1b\n\t"
            "pop {r4-r11, pc}");
}

#endif

void hwnas_add(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_add_params *p = (const hwnas_add_params *)params;
    const int8_t *other = (const int8_t *)aux;
    int32_t done = 0;
#if defined(__ARM_FEATURE_DSP)
    done = p->count & ~7;
    if (done) {
        eights_work work = {in, other, out, out + done, p->multiplier_a, p->multiplier_b, p->offset};
        eights(&work);
    }
#endif
    for (; done < p->count; done++)
        out[done] = (int8_t)hwnas_shift20(p->offset + in[done] * p->multiplier_a + other[done] * p->multiplier_b);
}
