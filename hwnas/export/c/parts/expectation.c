/* The mean of the classes' middles under softmax; the formula stands in model.h. No sum exceeds 32 bits. */
uint16_t hwnas_model_value(const int8_t *output)
{
    int32_t largest = output[0];
    uint32_t sum = 0, moment = 0;
    for (int32_t i = 1; i < CLASSES; i++)
        largest = output[i] > largest ? output[i] : largest;
    for (int32_t i = 0; i < CLASSES; i++) {
        uint32_t weight = exponentials[largest - output[i]];
        sum += weight;
        moment += weight * (uint32_t)i;
    }
    moment *= HWNAS_MODEL_VALUE_WIDTH;
    return (uint16_t)(HWNAS_MODEL_VALUE_LOWEST + ((moment / sum) << 8) + (((moment % sum) << 8) + (sum >> 1)) / sum);
}
