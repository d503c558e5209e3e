"""How much each layer costs in int8: a student in float but for one node, on labelled windows. torch; no files."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.errors import GraphError
from hwnas.graph import OP_NAMES
from hwnas.quantize.qgraph import QMAX, QMIN, Quant, QuantGraph, real_weights
from hwnas.student import ConvUnit, Student
from hwnas.tasks.base import Task, Windows
from hwnas.teachers.cache import predict

WINDOWS = 500
POINTS = 100.0  # a point is a hundredth of a metric


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What int8 in one node alone costs.

    Attributes:
        node: index of a node with weights.
        operator: its operator's name.
        loss: what the task's error grows by, negative where it falls: points (hundredths) of a classification, units of a regression.
        logit_mse: mean squared change of the outputs.
    """

    node: int
    operator: str
    loss: float
    logit_mse: float


def sensitivity(student: Student, q: QuantGraph, windows: Windows, task: Task, limit: int = WINDOWS) -> tuple[Sensitivity, ...]:
    """For every node with weights: weights and output as in `q`, all else as in `student`, the float student that `q` was made of.

    At most `limit` windows are used, of all classes as they come.
    """
    some = windows.take(_spread(task.strata(windows.y), limit))
    expected = predict(student, some.x)
    error, scale = task.error(task.metrics(expected, some)), 1.0 if task.kind == "regression" else POINTS
    found = []
    for index in sorted([*q.constants, *q.lstms]):
        logits = predict(one_in_int8(student, q, index), some.x)
        loss = task.error(task.metrics(logits, some)) - error
        mse = float(np.square(logits.astype(np.float64) - expected).mean())
        found.append(Sensitivity(index, OP_NAMES[type(q.graph.nodes[index].op)], scale * loss, mse))
    return tuple(found)


def one_in_int8(student: Student, q: QuantGraph, index: int) -> Student:
    """A copy of `student` in eval mode whose node `index` has the weights of `q`, and an output rounded and clipped as in `q`."""
    mixed = copy.deepcopy(student).eval()
    module = mixed.nodes[str(index)]
    weight, bias = (torch.from_numpy(real).float() for real in real_weights(q, index))
    with torch.no_grad():
        _load(module, weight, bias)
    quant = q.quants[index]

    def rounded(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return _rounded(output, quant) if isinstance(output, Tensor) else (_rounded(output[0], quant), *output[1:])

    module.register_forward_hook(rounded)
    return mixed


def _load(module: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Folded weights into the module of a node; a batch norm is left with the bias alone."""
    if isinstance(module, ConvUnit):
        bn = module.bn
        if bn.running_mean is None or bn.running_var is None:
            raise GraphError("a batch norm without running statistics; train it with track_running_stats")
        module.conv.weight.copy_(weight.unsqueeze(2))
        bn.running_mean.zero_()
        bn.running_var.fill_(1.0 - bn.eps)
        bn.weight.fill_(1.0)
        bn.bias.copy_(bias)
    elif isinstance(module, nn.LSTM):
        channels = module.input_size
        module.get_parameter("weight_ih_l0").copy_(weight[:, :channels])
        module.get_parameter("weight_hh_l0").copy_(weight[:, channels:])
        module.get_parameter("bias_ih_l0").copy_(bias)
        module.get_parameter("bias_hh_l0").zero_()
    elif isinstance(module, nn.Linear):
        module.weight.copy_(weight)
        module.bias.copy_(bias)
    else:
        raise GraphError(f"{type(module).__name__} holds no weights that can be folded")


def _rounded(x: Tensor, quant: Quant) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, quant.scale, quant.zero_point, QMIN, QMAX)


def _spread(y: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """At most `limit` windows, evenly from all classes in turn; the first and the last class are always among them."""
    order = np.argsort(y, kind="stable")
    return np.sort(order[np.linspace(0, len(y) - 1, min(limit, len(y))).round().astype(np.int64)])
