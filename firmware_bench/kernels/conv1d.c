/* Convolution of any kernel and stride, pointwise convolution, dense layer.
 *
 * In NWC a window is one run of K = kernel * in_channels bytes. Two windows at a time are widened to 16 bits in the scratch (samples
 * before and after the signal are in_zero_point there), then every block of four outputs takes both with SMLAD.
 *
 * K4 = K rounded up to 4. Scratch: 4 * K4 bytes.
 * Packed weights: ceil(out_channels / 4) blocks of 32 + 4 * K4 bytes:
 *     int32 bias[4]; K4 / 4 groups of 16 bytes; int32 multiplier[4]
 * A group holds taps k..k+3 of outputs o..o+3 as four words, each giving two outputs by SXTB16 without and with rotation:
 *     (o,k) (o+1,k) (o,k+2) (o+1,k+2) | (o+2,k) (o+3,k) (o+2,k+2) (o+3,k+2) | the same for k+1, k+3
 * Absent outputs and taps are zero.
 */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* Scratch: for each group of 4 taps (0,2) of window 0, (0,2) of window 1, (1,3) of window 0, (1,3) of window 1. */
HWNAS_COLD void widen_edge(const hwnas_conv_params *p, const int8_t *in, int32_t start, uint32_t *window)
{
    int32_t taps = p->kernel * p->in_channels, end = p->in_length * p->in_channels;
    for (int32_t i = 0; i < taps; i += 4, window += 4) {
        int32_t v[4];
        for (int32_t j = 0; j < 4; j++) {
            int32_t at = start + i + j;
            v[j] = at >= 0 && at < end ? in[at] : p->in_zero_point;
        }
        window[0] = ((uint32_t)v[0] & 0xFFFFu) | ((uint32_t)v[2] << 16);
        window[2] = ((uint32_t)v[1] & 0xFFFFu) | ((uint32_t)v[3] << 16);
    }
}

HWNAS_INLINE void widen(const int8_t *x, const int8_t *y, int32_t groups, uint32_t *window)
{
    do {
        uint32_t a = hwnas_load(x), b = hwnas_load(y);
        x += 4;
        y += 4;
        window[0] = hwnas_even(a);
        window[1] = hwnas_even(b);
        window[2] = hwnas_odd(a);
        window[3] = hwnas_odd(b);
        window += 4;
    } while (--groups);
}

/* One block: `count` (at most 4) outputs of one window; `x` is the window's first word in the scratch. */
HWNAS_INLINE void block(const hwnas_conv_params *p, const uint32_t *x, const uint32_t *w, int32_t groups, int8_t *out, int32_t count)
{
    int32_t acc[4] = {(int32_t)w[0], (int32_t)w[1], (int32_t)w[2], (int32_t)w[3]};
    w += 4;
    for (int32_t half = 2 * groups; half; half--, x += 2, w += 2) {
        acc[0] = hwnas_dual_mac(x[0], hwnas_even(w[0]), acc[0]);
        acc[1] = hwnas_dual_mac(x[0], hwnas_odd(w[0]), acc[1]);
        acc[2] = hwnas_dual_mac(x[0], hwnas_even(w[1]), acc[2]);
        acc[3] = hwnas_dual_mac(x[0], hwnas_odd(w[1]), acc[3]);
    }
    for (int i = 0; i < 4; i++)
        acc[i] = hwnas_scale(acc[i], (int32_t)w[i], p->out_zero_point);
    hwnas_store_bytes(out, hwnas_max4(hwnas_pack(acc[0], acc[1], acc[2], acc[3]), hwnas_spread(p->low)), count);
}

#if defined(__ARM_FEATURE_DSP)

/* What `full_blocks` works on: both windows, and the weights of `blocks` (at least 1) times four outputs. */
typedef struct {
    const uint32_t *end, *window, *weights;
    int32_t zero_point;
    int8_t *out0, *out1;
    uint32_t low;
    int32_t blocks;
} pair;

/* In assembly because the sums, operands and addresses take all 14 registers: compilers spill several, which costs a third of the speed.
 * r0 window, r1 weights, r2-r5 sums of window 0, r6-r9 of window 1, r10 r11 taps of the windows, r12 r14 taps of two outputs. */
static __attribute__((naked, noinline)) void full_blocks(const pair *work __attribute__((unused)))
{
    __asm__("push {r4-r11, lr}\n\t"
            "ldm r0, {r1-r8}\n\t"
            "push {r1-r8}\n\t" /* sp: end 0, window 4, weights 8, zero_point 12, out0 16, out1 20, low 24, blocks 28 */
            "mov r1, r3\n"
            "1:\n\t"
            "ldr r0, [sp, #4]\n\t"
            "ldm r1!, {r2-r5}\n\t"
            "mov r6, r2\n\t"
            "mov r7, r3\n\t"
            "mov r8, r4\n\t"
            "mov r9, r5\n"
            "2:\n\t"
            "ldr r10, [r0], #16\n\t"
            "ldr r14, [r1], #16\n\t"
            "ldr r11, [r0, #-12]\n\t"
            "sxtb16 r12, r14\n\t"
            "sxtb16 r14, r14, ror #8\n\t"
            "smlad r2, r10, r12, r2\n\t"
            "smlad r6, r11, r12, r6\n\t"
            "smlad r3, r10, r14, r3\n\t"
            "smlad r7, r11, r14, r7\n\t"
            "ldr r14, [r1, #-12]\n\t"
            "sxtb16 r12, r14\n\t"
            "sxtb16 r14, r14, ror #8\n\t"
            "smlad r4, r10, r12, r4\n\t"
            "smlad r8, r11, r12, r8\n\t"
            "smlad r5, r10, r14, r5\n\t"
            "smlad r9, r11, r14, r9\n\t"
            "ldr r10, [r0, #-8]\n\t"
            "ldr r11, [r0, #-4]\n\t"
            "ldr r12, [sp]\n\t"
            "ldr r14, [r1, #-8]\n\t"
            "cmp r0, r12\n\t" /* nothing up to the branch writes these flags */
            "sxtb16 r12, r14\n\t"
            "sxtb16 r14, r14, ror #8\n\t"
            "smlad r2, r10, r12, r2\n\t"
            "smlad r6, r11, r12, r6\n\t"
            "smlad r3, r10, r14, r3\n\t"
            "smlad r7, r11, r14, r7\n\t"
            "ldr r14, [r1, #-4]\n\t"
            "sxtb16 r12, r14\n\t"
            "sxtb16 r14, r14, ror #8\n\t"
            "smlad r4, r10, r12, r4\n\t"
            "smlad r8, r11, r12, r8\n\t"
            "smlad r5, r10, r14, r5\n\t"
            "smlad r9, r11, r14, r9\n\t"
            "bne 2b\n\t"
            "ldr r0, [sp, #12]\n\t"
            "ldm r1!, {r10, r11, r12, lr}\n\t"
            "smmlar r2, r2, r10, r0\n\t"
            "smmlar r3, r3, r11, r0\n\t"
            "smmlar r4, r4, r12, r0\n\t"
            "smmlar r5, r5, r14, r0\n\t"
            "smmlar r6, r6, r10, r0\n\t"
            "smmlar r7, r7, r11, r0\n\t"
            "smmlar r8, r8, r12, r0\n\t"
            "smmlar r9, r9, r14, r0\n\t"
            "ssat r2, #8, r2\n\t"
            "ssat r3, #8, r3\n\t"
            "ssat r4, #8, r4\n\t"
            "ssat r5, #8, r5\n\t"
            "ssat r6, #8, r6\n\t"
            "ssat r7, #8, r7\n\t"
            "ssat r8, #8, r8\n\t"
            "ssat r9, #8, r9\n\t"
            "bfi r2, r3, #8, #8\n\t"
            "bfi r4, r5, #8, #8\n\t"
            "bfi r6, r7, #8, #8\n\t"
            "bfi r8, r9, #8, #8\n\t"
            "pkhbt r2, r2, r4, lsl #16\n\t"
            "pkhbt r6, r6, r8, lsl #16\n\t"
            "ldr r3, [sp, #16]\n\t"
            "ldr r4, [sp, #20]\n\t"
            "ldr r5, [sp, #24]\n\t"
            "ldr r7, [sp, #28]\n\t"
            "ssub8 r8, r2, r5\n\t" /* sel takes the larger byte of each pair */
            "sel r2, r2, r5\n\t"
            "ssub8 r8, r6, r5\n\t"
            "sel r6, r6, r5\n\t"
            "str r2, [r3], #4\n\t"
            "str r6, [r4], #4\n\t"
            "str r3, [sp, #16]\n\t"
            "str r4, [sp, #20]\n\t"
            "subs r7, #1\n\t"
            "str r7, [sp, #28]\n\t"
            "bne 1b\n\t"
            "add sp, #32\n\t"
            "pop {r4-r11, pc}");
}

#endif

/* All outputs of both windows in the scratch. */
static void outputs2(const hwnas_conv_params *p, const uint32_t *window, int32_t groups, int8_t *out)
{
    int32_t left = p->out_channels;
    const uint32_t *w = p->packed;
#if defined(__ARM_FEATURE_DSP)
    if (left >= 4) {
        pair work = {window + 4 * groups, window, w, p->out_zero_point, out, out + left, hwnas_spread(p->low), left >> 2};
        full_blocks(&work);
        w += (left >> 2) * (8 + 4 * groups);
        out += left & ~3;
        left &= 3;
    }
#endif
    for (; left > 0; left -= 4, out += 4, w += 8 + 4 * groups) {
        block(p, window, w, groups, out, left);
        block(p, window + 1, w, groups, out + p->out_channels, left);
    }
}

void hwnas_conv1d(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_conv_params *p = params;
    uint32_t *window = aux;
    int32_t groups = (p->kernel * p->in_channels + 3) >> 2;
    int32_t step = p->stride * p->in_channels, start = -p->pad_left * p->in_channels;
    int32_t last = p->in_length * p->in_channels - 4 * groups; /* latest start of a window that may be read in whole words */
    int32_t left = p->out_length;
    for (; left > 1; left -= 2, start += 2 * step, out += 2 * p->out_channels) {
        if (start >= 0 && start + step <= last) {
            widen(in + start, in + start + step, groups, window);
        } else {
            widen_edge(p, in, start, window);
            widen_edge(p, in, start + step, window + 1);
        }
        outputs2(p, window, groups, out);
    }
    if (left) {
        const uint32_t *w = p->packed;
        widen_edge(p, in, start, window);
        for (left = p->out_channels; left > 0; left -= 4, out += 4, w += 8 + 4 * groups)
            block(p, window, w, groups, out, left);
    }
}
