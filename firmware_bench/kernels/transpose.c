/* Rows and columns of blocks exchanged: channels become modalities, one after the other in memory, and the other way. Scratch: none.
 * No packed weights. Bytes are moved, whatever they mean; `out` must not overlap `in`. */
#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* What moves between two branches: unrolled by hand, so that compilers have nothing to vary. */
enum { BYTES = 4 };

/* One column of single bytes, `pitch` apart. */
static void bytes_of(const int8_t *in, int8_t *out, int32_t rows, int32_t pitch)
{
    int8_t *end = out + (rows & ~(BYTES - 1));
    while (out != end) {
        int8_t a = in[0], b = in[pitch];
        in += 2 * (ptrdiff_t)pitch;
        int8_t c = in[0], d = in[pitch];
        in += 2 * (ptrdiff_t)pitch;
        out[0] = a;
        out[1] = b;
        out[2] = c;
        out[3] = d;
        out += BYTES;
    }
    HWNAS_ROLLED
    for (rows &= BYTES - 1; rows; rows--, in += pitch)
        *out++ = *in;
}

/* One column of blocks of whole words. */
static void words_of(const int8_t *in, int8_t *out, int32_t rows, int32_t pitch, int32_t block)
{
    for (; rows; rows--, in += pitch, out += block) {
        int32_t i = block;
        HWNAS_ROLLED
        do {
            i -= 4;
            hwnas_store(out + i, hwnas_load(in + i));
        } while (i);
    }
}

static void blocks_of(const int8_t *in, int8_t *out, int32_t rows, int32_t pitch, int32_t block)
{
    for (; rows; rows--, in += pitch, out += block) {
        int32_t i = block;
        HWNAS_ROLLED
        do {
            i--;
            out[i] = in[i];
        } while (i);
    }
}

void hwnas_transpose(const void *params, const int8_t *in, int8_t *out, void *aux)
{
    const hwnas_transpose_params *p = (const hwnas_transpose_params *)params;
    int32_t rows = p->rows, block = p->block_bytes, pitch = p->in_pitch_bytes;
    uint32_t places = (uint32_t)(uintptr_t)in | (uint32_t)(uintptr_t)out | (uint32_t)(block | pitch | p->out_pitch_bytes);
    (void)aux;
    for (int32_t left = p->columns; left; left--, in += block, out += p->out_pitch_bytes)
        if (block == 1)
            bytes_of(in, out, rows, pitch);
        else if (places & 3)
            blocks_of(in, out, rows, pitch, block);
        else
            words_of(in, out, rows, pitch, block);
}
