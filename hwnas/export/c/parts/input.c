/* Counts of a sensor -> the int8 input, in integers; the formula stands in model.h. */
#include "model.h"

/* Four times these steps times a span of 16 bits fits 32 bits. */
enum { STEPS = HWNAS_MODEL_INPUT_SCALE_DENOMINATOR, CHANNELS = HWNAS_MODEL_INPUT_CHANNELS };

static int8_t quantized(uint32_t rise, uint32_t span)
{
    int32_t value = HWNAS_MODEL_INPUT_ZERO_POINT;
    if (span)
        value += (int32_t)((4u * (uint32_t)STEPS * rise + span) / (2u * span)) - STEPS;
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}

void hwnas_model_quantize_input(const int16_t *samples, int8_t *input)
{
    const int16_t *end = samples + HWNAS_MODEL_INPUT_BYTES;
    for (int32_t channel = 0; channel < CHANNELS; channel++, samples++, input++) {
        int32_t low = *samples, high = *samples;
        for (const int16_t *x = samples; x < end; x += CHANNELS) {
            low = *x < low ? *x : low;
            high = *x > high ? *x : high;
        }
        int8_t *to = input;
        for (const int16_t *x = samples; x < end; x += CHANNELS, to += CHANNELS)
            *to = quantized((uint32_t)(*x - low), (uint32_t)(high - low));
    }
}
