/* The output as what it stands for, in integers; the formula stands in model.h. */
#include "model.h"

uint16_t hwnas_model_value(const int8_t *output)
{
    int32_t steps = output[0] - HWNAS_MODEL_OUTPUT_ZERO_POINT;
    int32_t value = HWNAS_MODEL_VALUE_OFFSET + HWNAS_MODEL_VALUE_STEP * steps + 128;
    if (value < 0)
        return 0;
    value /= 256;
    return (uint16_t)(value < 65535 ? value : 65535);
}
