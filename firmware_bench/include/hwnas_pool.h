/* What the kernels that pool over windows of time share. */
#ifndef HWNAS_POOL_H
#define HWNAS_POOL_H

#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

#if defined(__ARM_FEATURE_DSP)

/* `left` (at least 1) windows of 1 + `more` samples; `channels` a multiple of 4, so that all rows begin on words. */
typedef struct {
    const int8_t *in;
    int8_t *out;
    int32_t channels, more, multiplier, half, left;
    int32_t advance; /* bytes from the end of a window's first row to the next window */
} hwnas_pool_work;

/* The body of a naked function `void windows(const hwnas_pool_work *)`: four channels after four. Assembly `FIRST` begins a result with the
 * bytes in lr, `NEXT` takes in those in lr, `LAST` leaves four bytes in r9. They may use r11, r12 and lr, `LAST` also r9 and r10; r4 multiplier,
 * r5 half. (r0 input, r1 output, r2 channels, r3 more, r6 windows left, r7 advance, r8 end of the output's row.) */
#define HWNAS_POOL_WINDOWS(FIRST, NEXT, LAST) \
    "push {r4-r11, lr}\n\t" \
    "ldm r0, {r0-r7}\n" \
    "1:\n\t" \
    "add r8, r1, r2\n" \
    "2:\n\t" \
    "mov r10, r0\n\t" \
    "ldr lr, [r0], #4\n\t" \
    FIRST \
    "movs r9, r3\n\t" \
    "beq 4f\n" \
    "3:\n\t" \
    "ldr lr, [r10, r2]\n\t" \
    "add r10, r2\n\t" \
    NEXT \
    "subs r9, #1\n\t" \
    "bne 3b\n" \
    "4:\n\t" \
    LAST \
    "str r9, [r1], #4\n\t" \
    "cmp r1, r8\n\t" \
    "bne 2b\n\t" \
    "add r0, r7\n\t" \
    "subs r6, #1\n\t" \
    "bne 1b\n\t" \
    "pop {r4-r11, pc}"

#endif

/* Sum of one channel over `rows` rows. */
HWNAS_INLINE int32_t hwnas_pool_sum(const int8_t *x, int32_t row_bytes, int32_t rows)
{
    int32_t sum = 0;
    for (; rows; rows--, x += row_bytes)
        sum += *x;
    return sum;
}

#endif
