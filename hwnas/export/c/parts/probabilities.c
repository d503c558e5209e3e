/* Softmax of the outputs in integers:
 *     e = table[largest output - output],    p = min(255, (256 * e + sum / 2) / sum)                (unsigned, rounded down)
 * A larger output never has a smaller probability; p / 256 is within 1/256 of the real softmax for up to 256 classes. */
#include "model.h"

enum { CLASSES = HWNAS_MODEL_OUTPUT_BYTES };

/* exp of minus so many steps of the output, in 1/65536. */
static const uint32_t exponentials[256] = {
@EXPONENTIALS@
};

void hwnas_model_probabilities(const int8_t *logits, uint8_t *probabilities)
{
    int32_t largest = logits[0];
    uint32_t sum = 0;
    for (int32_t i = 1; i < CLASSES; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    for (int32_t i = 0; i < CLASSES; i++)
        sum += exponentials[largest - logits[i]];
    for (int32_t i = 0; i < CLASSES; i++) {
        uint32_t p = ((exponentials[largest - logits[i]] << 8) + (sum >> 1)) / sum;
        probabilities[i] = (uint8_t)(p < 255u ? p : 255u);
    }
}
