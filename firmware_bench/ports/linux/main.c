/* Windows of int8 from standard input, one after the other; the outputs of each to standard output. Ends with 0 where the input ends at
 * the border of two windows, with 1 where it ends inside one or an output cannot be written. */
#include <stdio.h>

#include "model.h"

static int8_t input[HWNAS_MODEL_INPUT_BYTES] __attribute__((aligned(4)));
static int8_t output[HWNAS_MODEL_OUTPUT_BYTES] __attribute__((aligned(4)));
static uint32_t arena[HWNAS_MODEL_ARENA_BYTES / 4];

int main(void)
{
    size_t count;
    while ((count = fread(input, 1, sizeof input, stdin)) == sizeof input) {
        hwnas_model_run(input, output, arena);
        if (fwrite(output, 1, HWNAS_MODEL_OUTPUT_BYTES, stdout) != HWNAS_MODEL_OUTPUT_BYTES)
            return 1;
    }
    return count || fflush(stdout) ? 1 : 0;
}
