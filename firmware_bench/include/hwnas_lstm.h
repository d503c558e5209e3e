/* What both LSTM kernels share: all but the sums of the gates.
 *
 * A step widens the inputs and the hidden values before it to 16 bits in the scratch. Then unit after unit sums its four gates (i, f, g, o)
 * as a block of four outputs, applies the tables, and writes its cell state and hidden value; the arithmetic is that of
 * `hwnas/quantize/qgraph.py`. Hidden values go straight to the output, from where the next step widens them.
 *
 * C4, U4 = in_channels, units rounded up to 4. Scratch: 2 * (C4 + U4) bytes of widened values, then 2 * units of cell states.
 * Packed weights: one block a unit:
 *     int32 bias[4]; (C4 + U4) / 4 groups of weights of four values; int32 multiplier[4]
 * Absent values have weight zero.
 */
#ifndef HWNAS_LSTM_H
#define HWNAS_LSTM_H

#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* Sigmoid, then tanh, as Q0.15 at -8, -8 + 1/16 ... 8 (`hwnas/quantize/activation.py`). */
#define HWNAS_LSTM_ENTRIES 257
static const int16_t hwnas_lstm_curves[2 * HWNAS_LSTM_ENTRIES] = {
    11, 12, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 25, 26, 28, 30, 32, 34, 36, 38, 41, 43, 46, 49, 52, 56, 59, 63, 67, 72, 76, 81,
    86, 92, 98, 104, 111, 118, 125, 133, 142, 151, 161, 171, 182, 194, 206, 219, 233, 248, 264, 281, 299, 318, 338, 360, 383, 407, 433,
    461, 490, 521, 554, 589, 627, 666, 708, 753, 800, 851, 904, 961, 1021, 1084, 1152, 1223, 1299, 1379, 1464, 1554, 1649, 1750, 1856,
    1969, 2088, 2213, 2346, 2486, 2633, 2789, 2952, 3124, 3306, 3496, 3696, 3906, 4126, 4357, 4599, 4851, 5115, 5391, 5678, 5978, 6289,
    6613, 6949, 7297, 7658, 8031, 8416, 8813, 9221, 9641, 10072, 10513, 10964, 11424, 11894, 12371, 12856, 13348, 13845, 14347, 14852,
    15361, 15872, 16384, 16896, 17407, 17916, 18421, 18923, 19420, 19912, 20397, 20874, 21344, 21804, 22255, 22696, 23127, 23547, 23955,
    24352, 24737, 25110, 25471, 25819, 26155, 26479, 26790, 27090, 27377, 27653, 27917, 28169, 28411, 28642, 28862, 29072, 29272, 29462,
    29644, 29816, 29979, 30135, 30282, 30422, 30555, 30680, 30799, 30912, 31018, 31119, 31214, 31304, 31389, 31469, 31545, 31616, 31684,
    31747, 31807, 31864, 31917, 31968, 32015, 32060, 32102, 32141, 32179, 32214, 32247, 32278, 32307, 32335, 32361, 32385, 32408, 32430,
    32450, 32469, 32487, 32504, 32520, 32535, 32549, 32562, 32574, 32586, 32597, 32607, 32617, 32626, 32635, 32643, 32650, 32657, 32664,
    32670, 32676, 32682, 32687, 32692, 32696, 32701, 32705, 32709, 32712, 32716, 32719, 32722, 32725, 32727, 32730, 32732, 32734, 32736,
    32738, 32740, 32742, 32743, 32745, 32746, 32747, 32749, 32750, 32751, 32752, 32753, 32754, 32755, 32756, 32756, 32757,
    -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768,
    -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768, -32768,
    -32768, -32768, -32767, -32767, -32767, -32767, -32767, -32767, -32767, -32767, -32767, -32766, -32766, -32766, -32766, -32765,
    -32765, -32765, -32764, -32764, -32763, -32762, -32762, -32761, -32760, -32759, -32758, -32756, -32755, -32753, -32751, -32749,
    -32746, -32743, -32740, -32736, -32732, -32727, -32721, -32715, -32708, -32700, -32691, -32681, -32670, -32657, -32642, -32625,
    -32606, -32584, -32560, -32532, -32501, -32466, -32426, -32381, -32329, -32271, -32206, -32132, -32048, -31953, -31846, -31726,
    -31589, -31435, -31262, -31067, -30847, -30600, -30322, -30010, -29660, -29268, -28830, -28341, -27797, -27191, -26519, -25776,
    -24956, -24054, -23066, -21986, -20813, -19542, -18173, -16706, -15143, -13486, -11743, -9919, -8025, -6073, -4075, -2045, 0, 2045,
    4075, 6073, 8025, 9919, 11743, 13486, 15143, 16706, 18173, 19542, 20813, 21986, 23066, 24054, 24956, 25776, 26519, 27191, 27797,
    28341, 28830, 29268, 29660, 30010, 30322, 30600, 30847, 31067, 31262, 31435, 31589, 31726, 31846, 31953, 32048, 32132, 32206, 32271,
    32329, 32381, 32426, 32466, 32501, 32532, 32560, 32584, 32606, 32625, 32642, 32657, 32670, 32681, 32691, 32700, 32708, 32715, 32721,
    32727, 32732, 32736, 32740, 32743, 32746, 32749, 32751, 32753, 32755, 32756, 32758, 32759, 32760, 32761, 32762, 32762, 32763, 32764,
    32764, 32765, 32765, 32765, 32766, 32766, 32766, 32766, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767,
    32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767,
    32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767,
};

/* One step of all units. `window`: widened values, a pair of even and a pair of odd ones for each group of four, up to `end`. */
typedef struct {
    const uint32_t *weights, *window, *end;
    const int16_t *sigmoid; /* of zero */
    int16_t *cell;
    const int16_t *cell_end;
    int8_t *out;
    int32_t hidden_multiplier, hidden_zero_point;
} hwnas_lstm_step;

#if defined(__ARM_FEATURE_DSP)

/* The body of a naked function `void units(const hwnas_lstm_step *)`, at least one unit and one group. In assembly so that sums and gates
 * stay in registers. `GROUP`: assembly of `BYTES` bytes that adds four values to the sums: r0 window, r1 weights (both advanced),
 * r2-r5 sums; it may use r6-r12.
 * sp: window 0, end 4, sigmoid 8, cell 12, cell_end 16, out 20, hidden_multiplier 24, hidden_zero_point 28, entry 32. */
#define HWNAS_LSTM_UNITS(GROUP, BYTES) \
    "push {r4-r11, lr}\n\t" \
    "ldm r0, {r1-r9}\n\t" \
    "sub r10, r2, r3\n\t" \
    "ubfx r10, r10, #3, #2\n\t" /* groups left out of the first round of four */ \
    "movs r11, #" #BYTES "\n\t" \
    "mul r10, r10, r11\n\t" \
    "adr.w r11, 2f\n\t" \
    "add r10, r11\n\t" \
    "orr r10, r10, #1\n\t" /* Thumb */ \
    "push {r2-r10}\n" \
    "1:\n\t" \
    "ldr r2, [r1], #16\n\t" \
    "ldr r0, [sp]\n\t" \
    "ldr r3, [r1, #-12]\n\t" \
    "ldr r4, [r1, #-8]\n\t" \
    "ldr r5, [r1, #-4]\n\t" \
    "ldr r6, [sp, #32]\n\t" \
    "ldr lr, [sp, #4]\n\t" \
    "bx r6\n\t" \
    ".p2align 2\n" \
    "2:\n\t" GROUP GROUP GROUP GROUP \
    "cmp r0, lr\n\t" \
    "bne.w 2b\n\t" \
    "ldr r6, [r1], #16\n\t" /* gates: r2 i, r3 f, r4 g, r5 o */ \
    "ldr r10, [sp, #8]\n\t" \
    "ldr r7, [r1, #-12]\n\t" \
    "ldr r8, [r1, #-8]\n\t" \
    "ldr r9, [r1, #-4]\n\t" \
    "lsls r2, r2, #6\n\t" \
    "lsls r3, r3, #6\n\t" \
    "lsls r4, r4, #6\n\t" \
    "lsls r5, r5, #6\n\t" \
    "smmulr r2, r2, r6\n\t" \
    "smmulr r3, r3, r7\n\t" \
    "smmulr r4, r4, r8\n\t" \
    "smmulr r5, r5, r9\n\t" \
    "ssat r2, #16, r2\n\t" \
    "ssat r3, #16, r3\n\t" \
    "ssat r4, #16, r4\n\t" \
    "ssat r5, #16, r5\n\t" \
    "adds r0, r10, #2\n\t" \
    "asrs r6, r2, #8\n\t" \
    "asrs r7, r3, #8\n\t" \
    "asr r8, r5, #8\n\t" \
    "ldrsh r9, [r0, r6, lsl #1]\n\t" \
    "ldrsh r6, [r10, r6, lsl #1]\n\t" \
    "ldrsh r11, [r0, r7, lsl #1]\n\t" \
    "ldrsh r7, [r10, r7, lsl #1]\n\t" \
    "ldrsh r12, [r0, r8, lsl #1]\n\t" \
    "ldrsh r8, [r10, r8, lsl #1]\n\t" \
    "movs r0, #128\n\t" \
    "subs r9, r9, r6\n\t" \
    "subs r11, r11, r7\n\t" \
    "subs r12, r12, r8\n\t" \
    "uxtb r2, r2\n\t" \
    "uxtb r3, r3\n\t" \
    "uxtb r5, r5\n\t" \
    "mla r9, r9, r2, r0\n\t" \
    "mla r11, r11, r3, r0\n\t" \
    "mla r12, r12, r5, r0\n\t" \
    "add r2, r6, r9, asr #8\n\t" \
    "add r3, r7, r11, asr #8\n\t" \
    "add r5, r8, r12, asr #8\n\t" \
    "addw r10, r10, #514\n\t" /* tanh */ \
    "asrs r6, r4, #8\n\t" \
    "add r6, r10, r6, lsl #1\n\t" \
    "uxtb r4, r4\n\t" \
    "ldr r7, [sp, #12]\n\t" \
    "ldrsh r8, [r6]\n\t" \
    "ldrsh r9, [r6, #2]\n\t" \
    "ldrsh r11, [r7], #2\n\t" \
    "mov r12, #0x4000\n\t" \
    "sub r9, r9, r8\n\t" \
    "mla r9, r9, r4, r0\n\t" \
    "mla r11, r11, r3, r12\n\t" \
    "mov r12, #0x40000\n\t" \
    "add r4, r8, r9, asr #8\n\t" \
    "mla r2, r2, r4, r12\n\t" \
    "asrs r2, r2, #19\n\t" \
    "add r2, r2, r11, asr #15\n\t" \
    "ssat r2, #16, r2\n\t" \
    "strh r2, [r7, #-2]\n\t" \
    "str r7, [sp, #12]\n\t" \
    "ssat r2, #16, r2, lsl #1\n\t" \
    "asrs r6, r2, #8\n\t" \
    "add r6, r10, r6, lsl #1\n\t" \
    "uxtb r2, r2\n\t" \
    "ldrsh r8, [r6]\n\t" \
    "ldrsh r9, [r6, #2]\n\t" \
    "ldr r3, [sp, #16]\n\t" \
    "ldr r4, [sp, #20]\n\t" \
    "ldr r10, [sp, #24]\n\t" \
    "ldr r11, [sp, #28]\n\t" \
    "sub r9, r9, r8\n\t" \
    "mla r9, r9, r2, r0\n\t" \
    "add r8, r8, r9, asr #8\n\t" \
    "mul r8, r8, r5\n\t" \
    "asr r8, r8, #15\n\t" \
    "smmlar r8, r8, r10, r11\n\t" \
    "ssat r8, #8, r8\n\t" \
    "strb r8, [r4], #1\n\t" \
    "str r4, [sp, #20]\n\t" \
    "cmp r7, r3\n\t" \
    "bne.w 1b\n\t" \
    "add sp, #36\n\t" \
    "pop {r4-r11, pc}"

#else

HWNAS_INLINE int32_t hwnas_lstm_saturate(int32_t v)
{
    return v < -32768 ? -32768 : v > 32767 ? 32767 : v;
}

/* A curve at p (Q3.12), between two entries of its table; `zero` is the entry of zero. */
HWNAS_INLINE int32_t hwnas_lstm_curve(const int16_t *zero, int32_t p)
{
    int32_t below = zero[p >> 8], above = zero[(p >> 8) + 1];
    return below + (((above - below) * (p & 255) + 128) >> 8);
}

/* What follows the sums of a unit's gates. */
HWNAS_INLINE void hwnas_lstm_unit(const hwnas_lstm_step *s, const int32_t acc[4], const uint32_t *multiplier, int16_t *cell, int8_t *out)
{
    const int16_t *tanh_zero = s->sigmoid + HWNAS_LSTM_ENTRIES;
    int32_t gate[4];
    for (int k = 0; k < 4; k++) {
        int64_t product = (int64_t)(int32_t)((uint32_t)acc[k] << 6) * (int32_t)multiplier[k];
        gate[k] = hwnas_lstm_curve(k == 2 ? tanh_zero : s->sigmoid, hwnas_lstm_saturate((int32_t)((product + 0x80000000ll) >> 32)));
    }
    int32_t c = hwnas_lstm_saturate(((gate[1] * *cell + (1 << 14)) >> 15) + ((gate[0] * gate[2] + (1 << 18)) >> 19));
    int32_t shown = gate[3] * hwnas_lstm_curve(tanh_zero, hwnas_lstm_saturate(2 * c));
    *cell = (int16_t)c;
    *out = (int8_t)hwnas_scale(shown >> 15, s->hidden_multiplier, s->hidden_zero_point);
}

/* All units of a step in portable C, for weights that take `words` words (2 or 4) a pair of values and four gates. */
HWNAS_INLINE void hwnas_lstm_units(const hwnas_lstm_step *s, int32_t words)
{
    const uint32_t *w = s->weights;
    int8_t *out = s->out;
    for (int16_t *cell = s->cell; cell != s->cell_end; cell++, w += 4) {
        int32_t acc[4] = {(int32_t)w[0], (int32_t)w[1], (int32_t)w[2], (int32_t)w[3]};
        w += 4;
        for (const uint32_t *x = s->window; x != s->end; x++)
            w = hwnas_four_macs(*x, w, acc, words);
        hwnas_lstm_unit(s, acc, w, cell, out++);
    }
}

#endif

/* Widens `count` values; words are read only where every row of so many begins on one. */
static __attribute__((noinline)) void hwnas_lstm_widen(const int8_t *x, int32_t count, uint32_t *window)
{
    for (int32_t i = 0; i < count; i += 4, window += 2) {
        uint32_t v = 0;
        if (count & 3) {
            for (int32_t j = 0; j < 4 && i + j < count; j++)
                v |= (uint32_t)(uint8_t)x[i + j] << (8 * j);
        } else {
            v = hwnas_load(x + i);
        }
        window[0] = hwnas_even(v);
        window[1] = hwnas_odd(v);
    }
}

/* The kernel, given how to compute the units of a step. */
HWNAS_INLINE void hwnas_lstm(const void *params, const int8_t *in, int8_t *out, void *aux, void (*units)(const hwnas_lstm_step *))
{
    const hwnas_lstm_params *p = (const hwnas_lstm_params *)params;
    uint32_t *window = (uint32_t *)aux, *hidden = window + 2 * ((p->in_channels + 3) >> 2), *end = hidden + 2 * ((p->units + 3) >> 2);
    int16_t *cell = (int16_t *)end;
    hwnas_lstm_step step = {(const uint32_t *)p->packed, window, end, hwnas_lstm_curves + HWNAS_LSTM_ENTRIES / 2,
                            cell, cell + p->units, out, p->hidden_multiplier, p->hidden_zero_point};
    for (int32_t i = 0; i < p->units; i++)
        cell[i] = 0;
    for (uint32_t *w = hidden; w != end; w++)
        *w = ((uint32_t)p->hidden_zero_point & 0xFFFFu) * 0x10001u;
    for (int32_t left = p->length; left; left--, in += p->in_channels) {
        hwnas_lstm_widen(in, p->in_channels, window);
        units(&step);
        hwnas_lstm_widen(step.out, p->units, hidden);
        if (!p->last)
            step.out += p->units;
    }
}

#endif
