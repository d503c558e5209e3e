"""`Student`: the trainable module of a `Graph`, and `fold`, which removes its batch norms. torch; no files.

Tensors are (B, C, M, L): M modalities, 1 but between `Split` and `Join`. Convolutions run as 2-D convolutions of height 1 in channels-last
memory: on one CPU thread a training step of a depthwise-separable network takes half the time it takes with `Conv1d`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.errors import GraphError
from hwnas.graph import (
    GATES,
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    Join,
    Lstm,
    MaxPool1d,
    Node,
    Op,
    Split,
    Transpose,
    same_padding,
)

Float32 = NDArray[np.float32]
BANK_PERIODS = 4.0, 28.0  # 30 to 210 BPM in a window of 8 s


class FoldedNode(NamedTuple):
    """A node after batch-norm folding.

    Attributes:
        weight: Conv1d (out, in, k), DepthwiseConv1d (out, 1, k), Dense (units, in), Lstm (4 * units, in + units): input columns first,
            rows of gate i, then f, g, o.
        bias: one a row of `weight`.
    """

    weight: Float32
    bias: Float32


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, optional ReLU: (B, C, M, L) -> (B, C', M, ceil(L / stride)), each modality alike."""

    def __init__(self, node: Node, in_channels: int, in_length: int) -> None:
        super().__init__()
        op = node.op
        if not isinstance(op, Conv1d | DepthwiseConv1d):
            raise GraphError(f"{op} is not a convolution")
        out_channels = node.shape.channels
        groups = in_channels if isinstance(op, DepthwiseConv1d) else 1
        left, right = same_padding(in_length, op.kernel, op.stride, op.dilation)
        self.uneven = (left, right) if left != right else None
        self.relu = op.relu
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            (1, op.kernel),
            stride=(1, op.stride),
            padding=(0, left if left == right else 0),
            dilation=(1, op.dilation),
            groups=groups,
            bias=False,
            device="meta",
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.uneven is not None:
            x = F.pad(x, self.uneven)
        y: Tensor = self.bn(self.conv(x))
        return F.relu_(y) if self.relu else y


class NodeTaps(dict[str, Tensor]):
    """Every node's output by node index; `["embedding"]` (B, W) is the mean over time of what the last layer with weights reads."""

    def __init__(self, graph: Graph, tensors: Sequence[Tensor]) -> None:
        """From every node's tensor (B, C, M, L), the input's first."""
        nodes = zip(graph.nodes, tensors, strict=True)
        taps = {str(i): t if node.shape.modalities > 1 else t.squeeze(2) for i, (node, t) in enumerate(nodes) if i}
        super().__init__(taps)
        heads = [node for node in graph.nodes if isinstance(node.op, Dense | Conv1d)]
        self._embedding = tensors[heads[-1].inputs[0]].mean(dim=3).flatten(1) if heads else None

    def __missing__(self, name: str) -> Tensor:
        if name == "embedding" and self._embedding is not None:
            return self._embedding
        raise KeyError(name)


class Student(nn.Module):
    """The trainable form of `graph`; `self.nodes["3"]` holds the parameters of node 3.

    Weights are drawn from `generator` alone (seed 0 where none is given), never from torch's global stream.
    """

    def __init__(self, graph: Graph, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.graph = graph
        modules: dict[str, nn.Module] = {}
        for index, node in enumerate(graph.nodes):
            if isinstance(node.op, Conv1d | DepthwiseConv1d):
                source = graph.in_shape(node)
                modules[str(index)] = ConvUnit(node, source.channels, source.length)
            elif isinstance(node.op, Dense):
                modules[str(index)] = nn.Linear(graph.in_shape(node).channels, node.op.units, device="meta")
            elif isinstance(node.op, Lstm):
                modules[str(index)] = nn.LSTM(graph.in_shape(node).channels, node.op.units, batch_first=True, device="meta")
        self.nodes = nn.ModuleDict(modules)
        # Made without values, so that torch's global random stream is left alone.
        self.to_empty(device="cpu")
        initialise(self, generator if generator is not None else torch.Generator().manual_seed(0))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> tuple[Tensor, NodeTaps]:
        """Outputs (B, K) of windows (B, C, T), and every node's output by node index, (B, C, L) or (B, C, M, L) of M > 1 modalities.

        Raises:
            GraphError: windows of another shape than the graph's input.
        """
        self.graph.check_windows(x.shape)
        tensors = [x.unsqueeze(2).contiguous(memory_format=torch.channels_last)]
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            sources = [tensors[i] for i in node.inputs]
            if str(index) in self.nodes:
                tensors.append(_trained(node.op, self.nodes[str(index)], sources[0]))
            else:
                tensors.append(_plain(node.op, *sources))
        return tensors[-1].flatten(1), NodeTaps(self.graph, tensors)


def _trained(op: Op, module: nn.Module, x: Tensor) -> Tensor:
    """Output (B, C', M, L') of an operator with parameters."""
    if isinstance(op, Lstm):
        hidden: Tensor = module(x.squeeze(2).transpose(1, 2))[0]
        return (hidden[:, -1:] if op.last else hidden).transpose(1, 2).unsqueeze(2)
    out: Tensor = module(x.flatten(1))[:, :, None, None] if isinstance(op, Dense) else module(x)
    return out


def _plain(op: Op, x: Tensor, *others: Tensor) -> Tensor:
    """Output (B, C', M', L') of an operator without parameters."""
    if isinstance(op, Add):
        return x + others[0]
    if isinstance(op, Concat):
        return torch.cat([x, *others], dim=1)
    if isinstance(op, AvgPool1d):
        return F.avg_pool2d(x, (1, op.kernel), (1, op.stride))
    if isinstance(op, MaxPool1d):
        return F.max_pool2d(x, (1, op.kernel), (1, op.stride))
    if isinstance(op, GlobalAvgPool):
        return x.mean(3, keepdim=True)
    if isinstance(op, Split):
        return x.transpose(1, 2)
    if isinstance(op, Join):
        return x.transpose(1, 2).flatten(1, 2).unsqueeze(2)
    if isinstance(op, Transpose):
        return x.permute(0, 2, 3, 1)
    raise GraphError(f"{op} has no trainable form")


def initialise(student: Student, generator: torch.Generator) -> None:
    """Draw every weight anew: He normal (fan out) for convolutions, N(0, 0.01) for dense layers; batch norms to identity.

    LSTMs, a gate at a time: Glorot uniform input weights (Glorot & Bengio 2010), orthogonal recurrent ones (Saxe et al. 2014), biases zero
    but 1 for the forget gate (Jozefowicz et al. 2015). Banks of filters: `_initialise_bank`.
    """
    banks = dict(_banks(student))
    for module in student.modules():
        if module in banks:
            _initialise_bank(cast(nn.Conv2d, module), banks[module], student.graph.input_shape.length, generator)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * module.kernel_size[1]
            _draw(module.weight, (2.0 / fan_out) ** 0.5, generator)
        elif isinstance(module, nn.Linear):
            _draw(module.weight, 0.01, generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            _initialise_lstm(module, generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _banks(student: Student) -> Iterator[tuple[nn.Module, int]]:
    """Convolutions whose channels become a frequency axis (`Transpose`), each with how many samples of the window one of its own is."""
    graph = student.graph
    for node in graph:
        if isinstance(node.op, Transpose):
            index = node.inputs[0]
            while not isinstance(graph.nodes[index].op, Conv1d) and graph.nodes[index].inputs:
                index = graph.nodes[index].inputs[0]
            unit = student.nodes[str(index)] if str(index) in student.nodes else None  # noqa: SIM401
            if isinstance(unit, ConvUnit) and graph.in_shape(graph.nodes[index]).channels == 1:
                yield unit.conv, graph.input_shape.length // graph.in_shape(graph.nodes[index]).length


def _initialise_bank(module: nn.Conv2d, pool: int, window: int, generator: torch.Generator) -> None:
    """Filters in order of frequency, without which convolutions along it would mean nothing: sines under a Hann window, random phases.

    They span `BANK_PERIODS` periods of the window of `window` samples, a sample in `pool` of which they read.
    """
    bands, taps = module.out_channels, module.kernel_size[1]
    edges = torch.linspace(*BANK_PERIODS, bands + 1, dtype=torch.float64)
    cycles = (edges[:-1] + edges[1:]) / 2 * pool / window
    phase = 2 * torch.pi * torch.rand(bands, generator=generator, dtype=torch.float64)
    turns = cycles[:, None] * (torch.arange(taps, dtype=torch.float64) - taps / 2)
    shape = torch.hann_window(taps + 2, periodic=False, dtype=torch.float64)[1:-1]
    filters = shape * torch.cos(2 * torch.pi * turns + phase[:, None])
    with torch.no_grad():
        module.weight.copy_((filters / filters.norm(dim=1, keepdim=True))[:, None, None])


def _initialise_lstm(module: nn.LSTM, generator: torch.Generator) -> None:
    with torch.no_grad():
        for columns in module.get_parameter("weight_ih_l0").chunk(GATES):
            nn.init.xavier_uniform_(columns, generator=generator)
        for columns in module.get_parameter("weight_hh_l0").chunk(GATES):
            nn.init.orthogonal_(columns, generator=generator)
        nn.init.zeros_(module.get_parameter("bias_ih_l0"))
        nn.init.zeros_(module.get_parameter("bias_hh_l0"))
        module.get_parameter("bias_ih_l0").chunk(GATES)[1].fill_(1.0)


def _draw(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """N(0, std), drawn in one order whatever the memory format of `weight` is."""
    with torch.no_grad():
        weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))


def fold(student: Student) -> dict[int, FoldedNode]:
    """Weights and biases by node index, batch norms folded with their running statistics; computed in float64."""
    folded: dict[int, FoldedNode] = {}
    for name, module in student.nodes.items():
        if isinstance(module, ConvUnit):
            bn = module.bn
            gamma, beta, mean, var = (_float64(t) for t in (bn.weight, bn.bias, bn.running_mean, bn.running_var))
            gain = gamma / np.sqrt(var + bn.eps)
            weight = _float64(module.conv.weight)[:, :, 0, :] * gain[:, None, None]
            folded[int(name)] = FoldedNode(weight.astype(np.float32), (beta - mean * gain).astype(np.float32))
        elif isinstance(module, nn.Linear):
            folded[int(name)] = FoldedNode(_float64(module.weight).astype(np.float32), _float64(module.bias).astype(np.float32))
        elif isinstance(module, nn.LSTM):
            weight = np.concatenate(
                [_float64(module.get_parameter("weight_ih_l0")), _float64(module.get_parameter("weight_hh_l0"))], axis=1
            )
            bias = _float64(module.get_parameter("bias_ih_l0")) + _float64(module.get_parameter("bias_hh_l0"))
            folded[int(name)] = FoldedNode(weight.astype(np.float32), bias.astype(np.float32))
    return folded


def _float64(tensor: Tensor | None) -> NDArray[np.float64]:
    if tensor is None:
        raise GraphError("a batch norm without running statistics cannot be folded; train it with track_running_stats")
    array: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
    return array
