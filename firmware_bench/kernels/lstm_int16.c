/* Long short-term memory, weights of two bytes; see hwnas_lstm.h for all but their layout.
 *
 * A group of 32 bytes holds the weights of values k..k+3 as eight words: (k, k+2) of the gates i, f, g, o, then (k+1, k+3) of them.
 */
#include "hwnas_lstm.h"
#include "hwnas_neon_lstm.h"

#if defined(__ARM_FEATURE_DSP)

#define GROUP \
    "ldr r6, [r0], #8\n\t" \
    "ldr r7, [r1], #32\n\t" \
    "ldr r8, [r0, #-4]\n\t" \
    "ldr r9, [r1, #-28]\n\t" \
    "ldr r10, [r1, #-24]\n\t" \
    "ldr r11, [r1, #-20]\n\t" \
    "ldr r12, [r1, #-16]\n\t" \
    "smlad r2, r6, r7, r2\n\t" \
    "smlad r3, r6, r9, r3\n\t" \
    "smlad r4, r6, r10, r4\n\t" \
    "smlad r5, r6, r11, r5\n\t" \
    "smlad r2, r8, r12, r2\n\t" \
    "ldr r6, [r1, #-12]\n\t" \
    "ldr r7, [r1, #-8]\n\t" \
    "ldr r9, [r1, #-4]\n\t" \
    "smlad r3, r8, r6, r3\n\t" \
    "smlad r4, r8, r7, r4\n\t" \
    "smlad r5, r8, r9, r5\n\t"

static __attribute__((naked, noinline)) void units(const hwnas_lstm_step *step __attribute__((unused)))
{
    __asm__(HWNAS_LSTM_UNITS(GROUP, 72));
}

#else

static void units(const hwnas_lstm_step *s)
{
#if defined(HWNAS_NEON)
    hwnas_neon_units(s, 8);
#else
    hwnas_lstm_units(s, 4);
#endif
}

#endif

void hwnas_lstm_int16(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    hwnas_lstm(params, in, out, aux, units);
}
