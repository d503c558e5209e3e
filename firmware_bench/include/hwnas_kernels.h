/* Int8 operators of hwnas, channels-last ("NWC": all channels of one sample together). C99; no libc, no globals, no allocation.
 *
 * Every operator has one signature, so that a model is a table of layers:
 *     kernel(params, in, out, aux)     aux = scratch of convolutions and dense layers, second input of `hwnas_add`
 * Control flow depends on shapes only, never on data, and no operator reads or writes outside the tensors it is given.
 *
 * Arithmetic (the same integers as `hwnas/quantize/qgraph.py`):
 *     out = saturate8(out_zero_point + floor((acc * multiplier + 2^31) / 2^32))
 * with `acc` = bias + sum(weight * (input - in_zero_point)). The input zero point is folded into the packed bias, and padded
 * samples are in_zero_point, so the kernels sum weight * input alone. Sums wrap modulo 2^32 as SMLAD does. A ReLU needs no clamp of its
 * own: its output has zero point -128, so saturation is the ReLU.
 */
#ifndef HWNAS_KERNELS_H
#define HWNAS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Convolutions, pointwise and depthwise. `packed` is laid out per kernel, see each file; it is 4-byte aligned. */
typedef struct {
    const void *packed;
    int32_t in_length, in_channels, out_length, out_channels;
    int32_t kernel, stride, dilation, pad_left;
    int32_t in_zero_point, out_zero_point;
} hwnas_conv_params;

typedef struct {
    const void *packed;
    int32_t in_channels, units, out_zero_point;
} hwnas_dense_params;

/* Gates from `in_channels` inputs and `units` hidden values; with `last` only the final hidden state is written. */
typedef struct {
    const void *packed;
    int32_t length, in_channels, units, in_zero_point, hidden_zero_point, hidden_multiplier, last;
} hwnas_lstm_params;

/* out = saturate8((a * multiplier_a + b * multiplier_b + offset) >> 20); offset holds the zero points and the rounding half. */
typedef struct {
    int32_t count, multiplier_a, multiplier_b, offset;
} hwnas_add_params;

/* out = saturate8((a * multiplier_a + offset_a) >> 20) for the first channels of every sample, the same of b for the others. */
typedef struct {
    int32_t length, channels_a, channels_b, multiplier_a, offset_a, multiplier_b, offset_b;
} hwnas_concat_params;

/* Windows of `kernel` samples inside the signal. Mean: saturate8((sum * multiplier + 2^19) >> 20); the maximum has no multiplier. */
typedef struct {
    int32_t out_length, channels, kernel, stride, multiplier;
} hwnas_window_params;

/* Mean over time; `bias` is -in_zero_point * length. */
typedef struct {
    int32_t length, channels, bias, multiplier, out_zero_point;
} hwnas_pool_params;

/* `rows` x `columns` blocks -> `columns` x `rows`; a row of the input is `in_pitch_bytes` long, one of the output `out_pitch_bytes`. */
typedef struct {
    int32_t rows, columns, block_bytes, in_pitch_bytes, out_pitch_bytes;
} hwnas_transpose_params;

typedef void hwnas_kernel(const void *params, const int8_t *in, int8_t *out, void *aux);

/* Weights of one byte (int8) or expanded to two (int16): the same results. */
hwnas_kernel hwnas_conv1d_int8;
hwnas_kernel hwnas_conv1d_int16;
hwnas_kernel hwnas_conv1d_short; /* windows of at most 8 values, int16 */
hwnas_kernel hwnas_depthwise_conv1d;
hwnas_kernel hwnas_dense_int8;
hwnas_kernel hwnas_dense_int16;
hwnas_kernel hwnas_lstm_int8;
hwnas_kernel hwnas_lstm_int16;
hwnas_kernel hwnas_add;
hwnas_kernel hwnas_concat;
hwnas_kernel hwnas_avg_pool1d;
hwnas_kernel hwnas_max_pool1d;
hwnas_kernel hwnas_global_avg_pool;
hwnas_kernel hwnas_transpose;

/* Where a tensor lives: a byte offset, a multiple of 4, plus the buffer it counts from in the two low bits. */
enum { HWNAS_ARENA = 0, HWNAS_INPUT = 1, HWNAS_OUTPUT = 2 };

typedef struct {
    hwnas_kernel *kernel;
    const void *params;
    uint32_t in, out, aux;
} hwnas_layer;

/* Calls `count` layers in order. `arena` must be 4-byte aligned. */
void hwnas_run(const hwnas_layer *layers, uint32_t count, const int8_t *input, int8_t *output, void *arena);

#ifdef __cplusplus
}
#endif

#endif
