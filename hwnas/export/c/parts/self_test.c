/* One window and the outputs that the model has for it, compiled with -DHWNAS_MODEL_SELF_TEST only. */
#include "model.h"

#if defined(HWNAS_MODEL_SELF_TEST)

static const int8_t input[HWNAS_MODEL_INPUT_BYTES] __attribute__((aligned(4))) = {
@INPUT@
};

static const int8_t expected[HWNAS_MODEL_OUTPUT_BYTES] = {
@EXPECTED@
};

int hwnas_model_self_test(void *arena)
{
    int8_t output[HWNAS_MODEL_OUTPUT_BYTES] __attribute__((aligned(4)));
    hwnas_model_run(input, output, arena);
    for (int i = 0; i < HWNAS_MODEL_OUTPUT_BYTES; i++)
        if (output[i] != expected[i])
            return i + 1;
    return 0;
}

#endif
