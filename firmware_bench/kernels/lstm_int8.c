/* Long short-term memory, weights of one byte; see hwnas_lstm.h for all but their layout.
 *
 * A group of 16 bytes holds the weights of values k..k+3 for the gates i, f, g, o as four words, each giving two gates by SXTB16 without
 * and with rotation:
 *     (i,k) (f,k) (i,k+2) (f,k+2) | (g,k) (o,k) (g,k+2) (o,k+2) | the same for k+1, k+3
 */
#include "hwnas_lstm.h"
#include "hwnas_neon_lstm.h"

#if defined(__ARM_FEATURE_DSP)

#define GROUP \
    "ldr r6, [r0], #8\n\t" \
    "ldr r8, [r1], #16\n\t" \
    "ldr r7, [r0, #-4]\n\t" \
    "ldr r9, [r1, #-12]\n\t" \
    "ldr r10, [r1, #-8]\n\t" \
    "ldr r11, [r1, #-4]\n\t" \
    "sxtb16 r12, r8\n\t" \
    "sxtb16 r8, r8, ror #8\n\t" \
    "smlad r2, r6, r12, r2\n\t" \
    "smlad r3, r6, r8, r3\n\t" \
    "sxtb16 r12, r9\n\t" \
    "sxtb16 r9, r9, ror #8\n\t" \
    "smlad r4, r6, r12, r4\n\t" \
    "smlad r5, r6, r9, r5\n\t" \
    "sxtb16 r12, r10\n\t" \
    "sxtb16 r10, r10, ror #8\n\t" \
    "smlad r2, r7, r12, r2\n\t" \
    "smlad r3, r7, r10, r3\n\t" \
    "sxtb16 r12, r11\n\t" \
    "sxtb16 r11, r11, ror #8\n\t" \
    "smlad r4, r7, r12, r4\n\t" \
    "smlad r5, r7, r11, r5\n\t"

static __attribute__((naked, noinline)) void units(const hwnas_lstm_step *step __attribute__((unused)))
{
    __asm__(HWNAS_LSTM_UNITS(GROUP, 88));
}

#else

static void units(const hwnas_lstm_step *s)
{
#if defined(HWNAS_NEON)
    hwnas_neon_units(s, 4);
#else
    hwnas_lstm_units(s, 2);
#endif
}

#endif

void hwnas_lstm_int8(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    hwnas_lstm(params, in, out, aux, units);
}
