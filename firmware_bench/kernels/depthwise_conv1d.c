/* Depthwise convolution: one filter a channel.
 *
 * Four channels of two positions at a time, block of channels after block. Positions whose window crosses an end of the signal, channels
 * beyond a multiple of four, and kernels of more than 9 taps: one position at a time, with in_zero_point for absent samples.
 *
 * Scratch: none.
 * Packed weights: ceil(channels / 4) blocks of 32 + 8 * kernel bytes:
 *     int32 bias[4]; for each tap int16 weight of channel 0, 2, 1, 3; int32 multiplier[4]
 * Absent channels are zero.
 */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* `count` (at most 4) channels of the position whose window starts at sample `start`; `in` and `out` are the block's first channel. */
static void block(const hwnas_conv_params *p, const uint32_t *w, const int8_t *in, int32_t start, int8_t *out, int32_t count)
{
    int32_t acc[4] = {(int32_t)w[0], (int32_t)w[1], (int32_t)w[2], (int32_t)w[3]};
    uint32_t padding = hwnas_spread(p->in_zero_point);
    w += 4;
    for (int32_t t = start; t < start + p->kernel; t++, w += 2) {
        uint32_t v = t < 0 || t >= p->in_length ? padding : hwnas_load_bytes(in + t * p->in_channels, count);
        acc[0] = hwnas_mac_low(hwnas_even(v), w[0], acc[0]);
        acc[1] = hwnas_mac_low(hwnas_odd(v), w[1], acc[1]);
        acc[2] = hwnas_mac_high(hwnas_even(v), w[0], acc[2]);
        acc[3] = hwnas_mac_high(hwnas_odd(v), w[1], acc[3]);
    }
    for (int i = 0; i < 4; i++)
        acc[i] = hwnas_scale(acc[i], (int32_t)w[i], p->out_zero_point);
    hwnas_store_bytes(out, hwnas_max4(hwnas_pack(acc[0], acc[1], acc[2], acc[3]), hwnas_spread(p->low)), count);
}

#if defined(__ARM_FEATURE_DSP)

#define TAPS_MAX 9

/* What `pairs_of_block` works on: four channels at `pairs` (at least 1) times two positions, all windows inside the signal. */
typedef struct {
    int32_t distance, row; /* bytes between the two windows, between samples */
    const uint32_t *weights;
    const int8_t *in;
    int32_t kernel, advance; /* bytes of input from one pair to the next */
    int32_t zero_point, low;
    int8_t *out;
    int32_t pairs;
} block_work;

/* r0 input, r1 weights, r2-r5 sums of position 0, r6-r9 of position 1; sp as `block_work`. 19 instructions of 4 bytes each. */
#define TAP \
    "ldr.w r12, [r0]\n\t" \
    "ldr.w r10, [sp]\n\t" \
    "ldr.w r11, [r1], #8\n\t" \
    "ldr.w r14, [r0, r10]\n\t" \
    "sxtb16 r10, r12\n\t" \
    "smlabb r2, r10, r11, r2\n\t" \
    "smlatt r4, r10, r11, r4\n\t" \
    "sxtb16 r10, r14\n\t" \
    "smlabb r6, r10, r11, r6\n\t" \
    "smlatt r8, r10, r11, r8\n\t" \
    "ldr r11, [r1, #-4]\n\t" \
    "ldr.w r10, [sp, #4]\n\t" \
    "sxtb16 r12, r12, ror #8\n\t" \
    "sxtb16 r14, r14, ror #8\n\t" \
    "add.w r0, r0, r10\n\t" \
    "smlabb r3, r12, r11, r3\n\t" \
    "smlatt r5, r12, r11, r5\n\t" \
    "smlabb r7, r14, r11, r7\n\t" \
    "smlatt r9, r14, r11, r9\n\t"

/* In assembly because it takes all 14 registers: compilers spill so much of it that it takes twice as long. */
static __attribute__((naked, noinline)) void pairs_of_block(const block_work *work __attribute__((unused)))
{
    __asm__("push {r4-r11, lr}\n\t"
            "ldm r0, {r1-r10}\n\t"
            "rsb r5, r5, #9\n\t" /* taps left out at the front of the nine below */
            "movs r11, #76\n\t"
            "mul r5, r5, r11\n\t"
            "adr.w r11, 2f\n\t"
            "add r5, r11\n\t"
            "orr r5, r5, #1\n\t" /* Thumb */
            "push {r1-r10}\n" /* distance 0, row 4, weights 8, in 12, entry 16, advance 20, zero_point 24, low 28, out 32, pairs 36 */
            "1:\n\t"
            "ldr r1, [sp, #8]\n\t"
            "ldr r0, [sp, #12]\n\t"
            "ldr r10, [sp, #16]\n\t"
            "ldm r1!, {r2-r5}\n\t"
            "mov r6, r2\n\t"
            "mov r7, r3\n\t"
            "mov r8, r4\n\t"
            "mov r9, r5\n\t"
            "bx r10\n\t"
            ".p2align 2\n"
            "2:\n\t" TAP TAP TAP TAP TAP TAP TAP TAP TAP
            "ldr r0, [sp, #24]\n\t"
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
            "ldr r0, [sp, #12]\n\t"
            "ldr r10, [sp, #20]\n\t"
            "ldr r5, [sp, #28]\n\t"
            "ldr r3, [sp, #32]\n\t"
            "ldr r4, [sp, #4]\n\t"
            "ldr r7, [sp, #36]\n\t"
            "ssub8 r8, r2, r5\n\t" /* sel takes the larger byte of each pair */
            "sel r2, r2, r5\n\t"
            "ssub8 r8, r6, r5\n\t"
            "sel r6, r6, r5\n\t"
            "str r2, [r3]\n\t"
            "str r6, [r3, r4]\n\t"
            "add r3, r3, r4, lsl #1\n\t"
            "add r0, r10\n\t"
            "str r3, [sp, #32]\n\t"
            "str r0, [sp, #12]\n\t"
            "subs r7, #1\n\t"
            "str r7, [sp, #36]\n\t"
            "bne.w 1b\n\t"
            "add sp, #40\n\t"
            "pop {r4-r11, pc}");
}

#endif

void hwnas_depthwise_conv1d(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_conv_params *p = params;
    const uint32_t *w = p->packed;
    int32_t channels = p->in_channels, stride = p->stride;
#if defined(__ARM_FEATURE_DSP)
    int32_t first = (p->pad_left + stride - 1) / stride; /* position whose window is inside the signal */
    int32_t room = p->in_length - p->kernel - (first * stride - p->pad_left);
    int32_t pairs = room < 0 || p->kernel > TAPS_MAX ? 0 : (room / stride + 1) >> 1;
#endif
    (void)aux;
    for (int32_t left = channels; left > 0; left -= 4, in += 4, out += 4, w += 8 + 2 * p->kernel) {
        for (int32_t i = 0; i < p->out_length; i++) {
#if defined(__ARM_FEATURE_DSP)
            if (i == first && pairs && left >= 4) {
                block_work work = {stride * channels, channels, w, in + (first * stride - p->pad_left) * channels, p->kernel,
                                   2 * stride * channels, p->out_zero_point, (int32_t)hwnas_spread(p->low), out + first * channels, pairs};
                pairs_of_block(&work);
                i += 2 * pairs;
                if (i >= p->out_length)
                    break;
            }
#endif
            block(p, w, in, i * stride - p->pad_left, out + i * channels, left);
        }
    }
}
