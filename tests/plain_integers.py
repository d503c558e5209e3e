"""Every operator in Python integers, straight from the definitions at the head of `hwnas/quantize/qgraph.py`: the oracle of tests."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

from hwnas.graph import Add, AvgPool1d, Concat, Conv1d, DepthwiseConv1d, GlobalAvgPool, Join, Lstm, MaxPool1d, Split, Transpose
from hwnas.quantize.qgraph import QuantGraph, QuantLstm


def clamp(value: int, bits: int = 8) -> int:
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, value))


def _scaled(acc: int, multiplier: int, zero: int) -> int:
    return clamp(zero + math.floor(Fraction(acc * multiplier + 2**31, 2**32)))


def node_output(q: QuantGraph, index: int, *inputs: list[list[int]]) -> list[list[int]]:
    """Node `index` on one window, lists (M * L, C)."""
    node, x = q.graph.nodes[index], inputs[0]
    length, modalities = q.graph.in_shape(node).length, q.graph.in_shape(node).modalities
    if isinstance(node.op, Split):
        return [[row[channel]] for channel in range(len(x[0])) for row in x]
    if isinstance(node.op, Join):
        return [[value for m in range(modalities) for value in x[m * length + t]] for t in range(length)]
    if isinstance(node.op, Transpose):
        return [[x[m][channel] for m in range(modalities)] for channel in range(len(x[0]))]
    spans = [slice(m * length, (m + 1) * length) for m in range(modalities)]
    return [row for span in spans for row in _modality_output(q, index, *(source[span] for source in inputs))]


def _modality_output(q: QuantGraph, index: int, *inputs: list[list[int]]) -> list[list[int]]:
    """Node `index` on one modality, lists (L, C)."""
    node, zero = q.graph.nodes[index], q.quants[index].zero_point
    op = node.op
    centred = [[[v - q.quants[i].zero_point for v in row] for row in x] for i, x in zip(node.inputs, inputs, strict=True)]
    x = centred[0]
    if isinstance(op, Add):
        a, b = q.multipliers[index]
        return [[clamp(zero + ((u * a + v * b + 2**19) >> 20)) for u, v in zip(r, s, strict=True)] for r, s in zip(*centred, strict=True)]
    if isinstance(op, Concat):
        parts = [
            [[clamp(zero + ((v * m + 2**19) >> 20)) for v in row] for row in part]
            for part, m in zip(centred, q.multipliers[index], strict=True)
        ]
        return [a + b for a, b in zip(*parts, strict=True)]
    if isinstance(op, AvgPool1d | MaxPool1d):
        windows = [inputs[0][i * op.stride : i * op.stride + op.kernel] for i in range(node.shape.length)]
        if isinstance(op, MaxPool1d):
            return [[max(column) for column in zip(*window, strict=True)] for window in windows]
        multiplier = round(2**20 / op.kernel)
        return [[clamp((sum(column) * multiplier + 2**19) >> 20) for column in zip(*window, strict=True)] for window in windows]
    if isinstance(op, GlobalAvgPool):
        return [[_scaled(sum(column), q.multipliers[index][0], zero) for column in zip(*x, strict=True)]]
    if isinstance(op, Lstm):
        return _lstm(q.lstms[index], x, op, zero)
    c = q.constants[index]
    out = []
    kernel, stride, dilation = getattr(op, "kernel", 1), getattr(op, "stride", 1), getattr(op, "dilation", 1)
    total = max((node.shape.length - 1) * stride + (kernel - 1) * dilation + 1 - len(x), 0)
    for position in range(node.shape.length):
        row = []
        for o in range(node.shape.channels):
            acc = int(c.bias[o])
            for k in range(kernel):
                t = position * stride + k * dilation - total // 2
                if 0 <= t < len(x):
                    if isinstance(op, Conv1d):
                        acc += sum(int(c.weights[o, k, i]) * x[t][i] for i in range(len(x[t])))
                    elif isinstance(op, DepthwiseConv1d):
                        acc += int(c.weights[k, o]) * x[t][o]
                    else:
                        acc += sum(int(c.weights[o, i]) * x[t][i] for i in range(len(x[t])))
            row.append(_scaled(acc, int(c.multiplier[o]), zero))
        out.append(row)
    return out


def _lstm(constants: QuantLstm, x: list[list[int]], op: Lstm, zero: int) -> list[list[int]]:
    """An LSTM on centred inputs (L, C)."""
    hidden, cell, rows = [0] * op.units, [0] * op.units, []
    weights, bias, multiplier = constants.weights.tolist(), constants.bias.tolist(), constants.multiplier.tolist()
    for row in x:
        before = row + hidden
        rows.append([0] * op.units)
        for u in range(op.units):
            acc = [bias[u][k] + sum(w * v for w, v in zip(weights[u][k], before, strict=True)) for k in range(4)]
            p = [clamp(math.floor(Fraction(a * 64 * m + 2**31, 2**32)), 16) for a, m in zip(acc, multiplier[u], strict=True)]
            i, f, g, o = (_curve(k == 2, v) for k, v in enumerate(p))
            cell[u] = clamp((f * cell[u] + 2**14 >> 15) + (i * g + 2**18 >> 19), 16)
            rows[-1][u] = _scaled(o * _curve(True, clamp(2 * cell[u], 16)) >> 15, constants.hidden_multiplier, zero)
        hidden = [v - zero for v in rows[-1]]
    return rows[-1:] if op.last else rows


@cache
def _entry(is_tanh: bool, i: int) -> int:
    x = i / 16 - 8
    return min(round(32768 * (math.tanh(x) if is_tanh else 1 / (1 + math.exp(-x)))), 32767)


def _curve(is_tanh: bool, p: int) -> int:
    """Interpolated tanh or sigmoid of a Q3.12 integer, from entries computed here."""
    index, fraction = divmod(p + 32768, 256)
    return _entry(is_tanh, index) + (((_entry(is_tanh, index + 1) - _entry(is_tanh, index)) * fraction + 128) >> 8)
