/* Runs the model on one window after the other. The input buffer is filled while the program stands at `hwnas_harness_wait`, and the
 * output of the last window is read there. */
#include "model.h"

int8_t hwnas_harness_input[HWNAS_MODEL_INPUT_BYTES] __attribute__((aligned(4)));
int8_t hwnas_harness_output[HWNAS_MODEL_OUTPUT_BYTES] __attribute__((aligned(4)));
static uint32_t arena[HWNAS_MODEL_ARENA_BYTES / 4];

__attribute__((noinline)) void hwnas_harness_wait(void)
{
    __asm__ volatile("" ::: "memory");
}

int main(void)
{
    for (;;) {
        hwnas_harness_wait();
        hwnas_model_run(hwnas_harness_input, hwnas_harness_output, arena);
    }
}
