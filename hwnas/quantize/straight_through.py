"""Integer arithmetic of `qgraph` as differentiable torch functions: exact values, straight-through gradients. torch; no files.

Activations are *centred*, `q - zero_point`, weights and biases whole numbers, all of them held in floating point. Below 2**24 the
float32 product of such tensors is the integer accumulator itself, so that one matrix product serves the value and its gradient;
beyond that it is made in float64. Rounding passes a gradient on unchanged, saturation passes none.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwnas.graph import GATES
from hwnas.quantize.activation import ONE, sigmoid, tanh
from hwnas.quantize.qgraph import CELL_BITS, GATE_BITS, LSTM_SHIFT_BITS, QMAX, QMIN, SHIFT_BITS

SPAN = QMAX - QMIN
EXACT_FLOAT32 = 2**24
ARGUMENTS = 2**16  # values that an int16 takes
INT16_MIN, INT16_MAX = -ARGUMENTS // 2, ARGUMENTS // 2 - 1


class Whole(torch.autograd.Function):
    """`values` rounded to whole numbers within [low, high], which are numbers or broadcast."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        rounded = values.round()
        ctx.save_for_backward((rounded >= low) & (rounded <= high))
        return torch.minimum(torch.maximum(rounded, low), high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None


class Requantise(torch.autograd.Function):
    """`saturate8(zero_point + floor((acc + bias) * ratio + 1/2)) - zero_point`, float32; channels are axis 1.

    `acc` (B, C, ...) holds whole numbers, `bias` float64 (C,); `ratio` float64, (C,) or (1,). The ends of the range count as saturated.
    """

    @staticmethod
    def forward(ctx: Any, acc: Tensor, bias: Tensor, ratio: Tensor, zero_point: int) -> Tensor:
        wide = (1, -1) + (1,) * (acc.ndim - 2)
        half = torch.tensor(zero_point - QMIN + 0.5, dtype=torch.float64)
        steps = torch.addcmul(half, acc.double().add_(bias.view(wide)), ratio.view(wide))
        out = steps.clamp_(0, SPAN).floor_().float().add_(QMIN - zero_point)
        ctx.save_for_backward(out, ratio)
        ctx.zero_point, ctx.dtype = zero_point, acc.dtype
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        out, ratio = ctx.saved_tensors
        passed = _unsaturated(gradient, out, ctx.zero_point) * ratio.to(ctx.dtype).view((1, -1) + (1,) * (out.ndim - 2))
        bias = passed.sum([0, *range(2, out.ndim)]).double() if ctx.needs_input_grad[1] else None
        return passed, bias, None, None


class LstmSteps(torch.autograd.Function):
    """An LSTM over time, as the head of `qgraph` defines it; float64 holds its integers, gates and cell as multiples of their steps.

    Args:
        x: centred input (B, L, C) float32.
        weight: whole numbers (4 * units, C + units) float32, rows gate by gate (i, f, g, o), input columns first.
        bias: whole numbers (4 * units,) float64.
        multiplier: (4 * units,) float64.
        hidden: (`hidden_multiplier`, zero point) of the output.
        last: only the last hidden state.

    Returns centred hidden states (B, L, units) or (B, 1, units). Gradients are those of the real LSTM, taken where the integers are.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, hidden: tuple[int, int], last: bool) -> Tensor:
        windows, length, channels = x.shape
        units = len(weight) // GATES
        exact = exact_type(weight)
        recurrent = weight[:, channels:].T.to(exact).contiguous()
        inputs = (x.to(exact).transpose(0, 1) @ weight[:, :channels].T.to(exact)).double() + bias
        scale = multiplier / 2.0 ** (SHIFT_BITS - LSTM_SHIFT_BITS)
        half = torch.tensor(ARGUMENTS / 2 + 0.5, dtype=torch.float64)
        tables, starts = _tables()
        start = starts.repeat_interleave(units)
        ratio, point = hidden[0] / 2.0**SHIFT_BITS, hidden[1]
        state, cell = x.new_zeros(windows, units), x.new_zeros(windows, units, dtype=torch.float64)
        states, cells = [state], [cell]
        gates: list[Tensor] = []
        squashes: list[Tensor] = []
        for step in range(length):
            p = torch.addcmul(half, inputs[step] + state.to(exact) @ recurrent, scale).clamp_(0, ARGUMENTS - 1).int().add_(start)
            gate = tables.index_select(0, p.view(-1)).view(windows, GATES, units)
            write, keep, new, show = gate.unbind(1)
            cell = (keep * cell).add_(0.5).floor_() + (write * new).mul_(2**CELL_BITS).add_(0.5).floor_()
            cell.clamp_(INT16_MIN, INT16_MAX)
            argument = (2 * cell).clamp_(INT16_MIN, INT16_MAX).int().add_(ARGUMENTS - INT16_MIN)
            squash = tables.index_select(0, argument.view(-1)).view_as(cell)
            shown = (show * squash).mul_(ONE).floor_()
            state = shown.mul_(ratio).add_(point - QMIN + 0.5).clamp_(0, SPAN).floor_().float().add_(QMIN - point)
            for kept, value in ((states, state), (gates, gate), (cells, cell), (squashes, squash)):
                kept.append(value)
        ctx.save_for_backward(x, weight, scale, *(torch.stack(kept).float() for kept in (states, gates, cells, squashes)))
        ctx.ratio, ctx.point, ctx.last = ratio * ONE, point, last
        return state.unsqueeze(1) if last else torch.stack(states[1:], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        x, weight, scale, states, gates, cells, squash = ctx.saved_tensors
        length, windows, _, units = gates.shape
        channels = x.shape[2]
        recurrent = weight[:, channels:].contiguous()
        write, keep, new, show = gates.unbind(2)
        into_state = _unsaturated(torch.full_like(states[1:], ctx.ratio), states[1:], ctx.point)
        into_cell = show * (1 - squash**2)
        along_cell = torch.ops.aten.hardtanh_backward(torch.ones_like(cells[1:]), cells[1:], INT16_MIN, INT16_MAX)
        into_acc = torch.stack(
            [
                new * write * (1 - write),
                cells[:-1] / 2**CELL_BITS * keep * (1 - keep),
                write * (1 - new**2),
                squash * show * (1 - show),
            ],
            2,
        )
        into_acc *= (scale / 2**GATE_BITS).float().view(GATES, units)
        acc = torch.empty_like(into_acc)
        d_state, d_cell = torch.zeros_like(states[0]), torch.zeros_like(states[0])
        for step in reversed(range(length)):
            if not ctx.last or step == length - 1:
                d_state = d_state + gradient[:, 0 if ctx.last else step]
            d_state = d_state * into_state[step]
            d_cell = torch.addcmul(d_cell, d_state, into_cell[step]).mul_(along_cell[step])
            torch.mul(into_acc[step, :, :3], d_cell.unsqueeze(1), out=acc[step, :, :3])
            torch.mul(into_acc[step, :, 3], d_state, out=acc[step, :, 3])
            d_state = acc[step].view(windows, -1) @ recurrent
            d_cell = d_cell.mul_(keep[step])
        rows = acc.view(length * windows, -1)
        columns = torch.cat([x.transpose(0, 1), states[:-1]], 2).view(len(rows), -1)
        d_x = (rows @ weight[:, :channels]).view(length, windows, channels).transpose(0, 1)
        return d_x, rows.T @ columns, rows.sum(0).double(), None, None, None


def _unsaturated(gradient: Tensor, out: Tensor, zero_point: int) -> Tensor:
    """`gradient` where centred `out` lies inside the int8 range, zero at its ends."""
    passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, out, QMIN - zero_point, QMAX - zero_point)
    return passed


def exact_type(weight: Tensor) -> torch.dtype:
    """The type in which accumulators of centred inputs and `weight` (outputs, ...) are exact."""
    bound = SPAN * int(weight.detach().abs().flatten(1).sum(1).max())
    return torch.float32 if bound < EXACT_FLOAT32 else torch.float64


@cache
def _tables() -> tuple[Tensor, Tensor]:
    """Sigmoid, then tanh, of every int16 from the smallest, float64; and where the table of each gate starts, int32."""
    every = np.arange(INT16_MIN, INT16_MAX + 1)
    tables = torch.from_numpy(np.concatenate([sigmoid(every), tanh(every)]) / ONE)
    return tables, torch.tensor([0, 0, ARGUMENTS, 0], dtype=torch.int32)
