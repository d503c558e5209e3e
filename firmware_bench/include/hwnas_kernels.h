/* Int8 operators of hwnas, channels-last ("NWC": all channels of one sample together). C99; no libc, no globals, no allocation.
 *
 * Every operator has one signature, so that a model is a table of layers:
 *     kernel(params, in, out, aux)     aux = scratch of convolutions and dense layers, second input of `hwnas_add`
 * Control flow depends on shapes only, never on data, and no operator reads or writes outside the tensors it is given.
 *
 * Arithmetic (the same integers as `hwnas/quantize/qgraph.py`):
 *     out = clamp(out_zero_point + floor((acc * multiplier + 2^31) / 2^32), low, 127)
 * with `acc` = bias + sum(weight * (input - in_zero_point)). The input zero point is folded into the packed bias, and padded
 * samples are in_zero_point, so the kernels sum weight * input alone. Sums wrap modulo 2^32 as SMLAD does.
 */
#ifndef HWNAS_KERNELS_H
#define HWNAS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Convolutions, pointwise and depthwise; a dense layer is a convolution of length 1. `packed` is laid out per kernel, see each file. */
typedef struct {
    const void *packed;
    int32_t in_length, in_channels, out_length, out_channels;
    int32_t kernel, stride, pad_left;
    int32_t in_zero_point, out_zero_point, low;
} hwnas_conv_params;

/* out = saturate((a * multiplier_a + b * multiplier_b + offset) >> 20); offset holds the zero points and the rounding half. */
typedef struct {
    int32_t count, multiplier_a, multiplier_b, offset;
} hwnas_add_params;

/* Mean over time; `bias` is -in_zero_point * length. */
typedef struct {
    int32_t length, channels, bias, multiplier, out_zero_point;
} hwnas_pool_params;

typedef void hwnas_kernel(const void *params, const int8_t *in, int8_t *out, void *aux);

hwnas_kernel hwnas_conv1d;
hwnas_kernel hwnas_depthwise_conv1d;
hwnas_kernel hwnas_add;
hwnas_kernel hwnas_global_avg_pool;

/* Where a tensor lives: a byte offset, a multiple of 4, plus the buffer it counts from in the two low bits. */
enum { HWNAS_ARENA = 0, HWNAS_INPUT = 1, HWNAS_OUTPUT = 2 };

typedef struct {
    hwnas_kernel *kernel;
    const void *params;
    uint32_t in, out, aux;
} hwnas_layer;

/* Calls `count` layers in order. `arena` must be 4-byte aligned. */
void hwnas_run(const hwnas_layer *layers, uint32_t count, const int8_t *input, int8_t *output, void *arena);

#endif
