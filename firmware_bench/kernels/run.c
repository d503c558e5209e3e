/* The layer loop: every model is a constant table, so each call costs the same and no code is generated per model. */
#include "hwnas_kernels.h"

void hwnas_run(const hwnas_layer *layers, uint32_t count, const int8_t *input, int8_t *output, void *arena)
{
    int8_t *bases[3] = {(int8_t *)arena, (int8_t *)(uintptr_t)input, output};
    for (const hwnas_layer *l = layers; l != layers + count; l++)
        l->kernel(l->params, bases[l->in & 3] + (l->in & ~3u), bases[l->out & 3] + (l->out & ~3u), bases[l->aux & 3] + (l->aux & ~3u));
}
