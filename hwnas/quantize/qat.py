"""`QuantStudent`: a student trained *in* its integers (quantisation-aware training), from what `quantize` chose. torch; no files.

Every tensor is what the int8 reference computes, to the last bit; only gradients are those of the real operator, straight through the
rounding (Jacob et al. 2018; Bengio et al. 2013). Scales, zero points and multipliers stay as they are, so what is trained are the
integers of weights and biases. Each is kept as a real number in a unit that makes a learning rate mean the same everywhere: weights in
full scales (127 steps) of their output channel, biases in full scales of the output, those of an LSTM as they are added to its gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import GraphError, QuantizationError
from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    DepthwiseConv1d,
    GlobalAvgPool,
    Join,
    Lstm,
    MaxPool1d,
    Node,
    Split,
    Transpose,
    same_padding,
)
from hwnas.quantize.qgraph import (
    ADD_SHIFT_BITS,
    BIAS_MAX,
    LSTM_ACC_MAX,
    QMAX,
    QMIN,
    SHIFT_BITS,
    WEIGHT_MAX,
    Doubles,
    Int8,
    Int32,
    QuantGraph,
    QuantLstm,
    QuantWeights,
    as_stored,
    gate_scales,
    outputs_first,
)
from hwnas.quantize.straight_through import EXACT_FLOAT32, SPAN, LstmSteps, Requantise, Whole, exact_type
from hwnas.student import NodeTaps

ACC_MAX = 2**31 - 1


class TrainedIntegers(nn.Module):
    """Weights and biases of one node, held as real numbers and read as integers.

    Args:
        weight: int8 in the layout that its torch operator reads, outputs first.
        bias: int32 (outputs,).
        bias_unit: steps of the bias in one unit of its parameter, (outputs,).
        acc_max: bound of an accumulator, bias included.
        points: zero points of what the weights multiply, one for all or one a column (inputs,).
    """

    bias_unit: Tensor
    points: Tensor

    def __init__(self, weight: Int8, bias: Int32, bias_unit: Doubles, acc_max: int, points: Sequence[int]) -> None:
        super().__init__()
        self._acc_max = acc_max
        self.register_buffer("bias_unit", torch.from_numpy(bias_unit.copy()), persistent=False)
        self.register_buffer("points", torch.tensor(points, dtype=torch.float32), persistent=False)
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32) / WEIGHT_MAX))
        # float64 tells all int32 values apart
        self.bias = nn.Parameter(torch.from_numpy(bias / bias_unit))

    def integers(self) -> tuple[Tensor, Tensor]:
        """Whole numbers, differentiable: weights float32, biases float64 within what the accumulator leaves them."""
        most = torch.tensor(float(WEIGHT_MAX))
        weight = whole(self.weight * WEIGHT_MAX, -most, most)
        ends = weight.detach() * (QMIN - self.points), weight.detach() * (QMAX - self.points)
        low, high = (extreme(*ends).flatten(1).sum(1, dtype=torch.float64) for extreme in (torch.minimum, torch.maximum))
        room = (-self._acc_max - low).clamp(min=-BIAS_MAX), (self._acc_max - high).clamp(max=BIAS_MAX)
        return weight, whole(self.bias * self.bias_unit, *room)

    def arrays(self) -> tuple[Int8, Int32]:
        """`integers` as the arrays of a `QuantGraph`, outputs first."""
        weight, bias = (t.detach().numpy() for t in self.integers())
        return weight.astype(np.int8), bias.astype(np.int32)


class QuantStudent(nn.Module):
    """`q` as a module to train: at first exactly `q`, after training whatever `quant_graph` gives.

    Raises:
        QuantizationError: a node with so many inputs that its accumulator could leave int32.
    """

    def __init__(self, q: QuantGraph) -> None:
        super().__init__()
        self._q = q
        self.graph = q.graph
        self.nodes = nn.ModuleDict()
        for index, constants in q.constants.items():
            self.nodes[str(index)] = _affine(q, index, constants)
        for index, lstm in q.lstms.items():
            self.nodes[str(index)] = _recurrent(q, index, lstm)

    def forward(self, x: Tensor) -> tuple[Tensor, NodeTaps]:
        """Outputs (B, K) of windows (B, C, T), and every node's real output by node index, shaped as those of `Student`.

        Raises:
            GraphError: windows of another shape than the graph's input.
        """
        self.graph.check_windows(x.shape)
        source = self._q.input
        steps = (x.double() / source.scale).round_().add_(source.zero_point).clamp_(QMIN, QMAX).sub_(source.zero_point).float()
        tensors = [steps.unsqueeze(2).contiguous(memory_format=torch.channels_last)]
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            tensors.append(self._node(index, node, *(tensors[i] for i in node.inputs)))
        real = [tensor * self._q.quants[index].scale for index, tensor in enumerate(tensors)]
        return real[-1].flatten(1), NodeTaps(self.graph, real)

    def quant_graph(self) -> QuantGraph:
        """The integers as they are now."""
        q = self._q
        constants, lstms = {}, {}
        for index, affine in q.constants.items():
            weight, bias = self._integers(index).arrays()
            flat = weight[:, :, 0] if weight.ndim == 4 else weight
            constants[index] = replace(affine, weights=as_stored(self.graph.nodes[index].op, flat), bias=bias)
        for index, lstm in q.lstms.items():
            weight, bias = self._integers(index).arrays()
            op = self.graph.nodes[index].op
            lstms[index] = replace(lstm, weights=as_stored(op, weight), bias=as_stored(op, bias))
        return replace(q, constants=constants, lstms=lstms)

    def _integers(self, index: int) -> TrainedIntegers:
        module = self.nodes[str(index)]
        if not isinstance(module, TrainedIntegers):
            raise GraphError(f"node {index} of a QuantStudent was replaced by {type(module).__name__}")
        return module

    def _node(self, index: int, node: Node, x: Tensor, *others: Tensor) -> Tensor:
        """Centred output (B, C', M', L') of a node, given its centred inputs."""
        op, point = node.op, self._q.quants[index].zero_point
        if index in self._q.constants:
            return self._affine(index, node, x)
        if index in self._q.lstms and isinstance(op, Lstm):
            return self._lstm(index, op, x)
        if isinstance(op, Add | Concat):
            ratios = [m / 2.0**ADD_SHIFT_BITS for m in self._q.multipliers[index]]
            if isinstance(op, Add):
                return requantise(x.double() * ratios[0] + others[0].double() * ratios[1], None, 1.0, point)
            return torch.cat([requantise(part, None, ratio, point) for part, ratio in zip((x, *others), ratios, strict=True)], 1)
        if isinstance(op, AvgPool1d):
            # The format pools q, not q - zero_point.
            total = F.avg_pool2d(x, (1, op.kernel), (1, op.stride), divisor_override=1) + op.kernel * point
            return requantise(total, None, round(2**ADD_SHIFT_BITS / op.kernel) / 2.0**ADD_SHIFT_BITS, 0) - point
        if isinstance(op, MaxPool1d):
            return F.max_pool2d(x, (1, op.kernel), (1, op.stride))
        if isinstance(op, GlobalAvgPool):
            exact = torch.float32 if SPAN * x.shape[3] < EXACT_FLOAT32 else torch.float64
            return requantise(x.sum(3, keepdim=True, dtype=exact), None, self._q.multipliers[index][0] / 2.0**SHIFT_BITS, point)
        if isinstance(op, Split):
            return x.transpose(1, 2)
        if isinstance(op, Join):
            return x.transpose(1, 2).flatten(1, 2).unsqueeze(2)
        if isinstance(op, Transpose):
            return x.permute(0, 2, 3, 1)
        raise GraphError(f"node {index}: {op} has no trainable integer form")

    def _affine(self, index: int, node: Node, x: Tensor) -> Tensor:
        op = node.op
        weight, bias = self._integers(index).integers()
        exact = exact_type(weight)
        x, weight = x.to(exact), weight.to(exact)
        if isinstance(op, Conv1d | DepthwiseConv1d):
            left, right = same_padding(x.shape[3], op.kernel, op.stride, op.dilation)
            if left != right:
                x, left = F.pad(x, (left, right)), 0
            groups = x.shape[1] if isinstance(op, DepthwiseConv1d) else 1
            acc = F.conv2d(x, weight, None, (1, op.stride), (0, left), (1, op.dilation), groups)
        else:
            acc = F.linear(x.flatten(1), weight)[:, :, None, None]
        ratio = torch.from_numpy(self._q.constants[index].multiplier / 2.0**SHIFT_BITS)
        return requantise(acc, bias, ratio, self._q.quants[index].zero_point)

    def _lstm(self, index: int, op: Lstm, x: Tensor) -> Tensor:
        weight, bias = self._integers(index).integers()
        constants = self._q.lstms[index]
        multiplier = torch.from_numpy(outputs_first(op, constants.multiplier).astype(np.float64))
        hidden = constants.hidden_multiplier, self._q.quants[index].zero_point
        states: Tensor = LstmSteps.apply(x.squeeze(2).transpose(1, 2), weight, bias, multiplier, hidden, op.last)  # type: ignore[no-untyped-call]
        return states.transpose(1, 2).unsqueeze(2)


def whole(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """See `Whole`."""
    rounded: Tensor = Whole.apply(values, low, high)  # type: ignore[no-untyped-call]
    return rounded


def requantise(acc: Tensor, bias: Tensor | None, ratio: Tensor | float, zero_point: int) -> Tensor:
    """See `Requantise`."""
    if isinstance(ratio, float):
        ratio = torch.tensor([ratio], dtype=torch.float64)
    bias = torch.zeros(1, dtype=torch.float64) if bias is None else bias
    steps: Tensor = Requantise.apply(acc, bias, ratio, zero_point)  # type: ignore[no-untyped-call]
    return steps


def _affine(q: QuantGraph, index: int, constants: QuantWeights) -> TrainedIntegers:
    node = q.graph.nodes[index]
    inputs = constants.weights.size // node.shape.channels
    if SPAN * WEIGHT_MAX * inputs > ACC_MAX - BIAS_MAX:
        raise QuantizationError(f"node {index}: {inputs} inputs an output; accumulators could leave int32 in training, use fewer")
    weight = outputs_first(node.op, constants.weights)
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    unit = WEIGHT_MAX * 2.0**SHIFT_BITS / constants.multiplier
    return TrainedIntegers(weight, constants.bias, unit, ACC_MAX, [q.quants[node.inputs[0]].zero_point])


def _recurrent(q: QuantGraph, index: int, constants: QuantLstm) -> TrainedIntegers:
    node = q.graph.nodes[index]
    weight, bias, unit = (outputs_first(node.op, a) for a in (constants.weights, constants.bias, 1 / gate_scales(constants)))
    read, hidden = (q.quants[i].zero_point for i in (node.inputs[0], index))
    channels = q.graph.in_shape(node).channels
    return TrainedIntegers(weight, bias, unit, LSTM_ACC_MAX, [read] * channels + [hidden] * len(constants.weights))
