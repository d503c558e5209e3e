"""An ML program, read back from its package, replayed in torch against the int8 reference. torch; no files.

It shows that the package says what the student computes; it does not show what CoreML makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hwnas.errors import ExportError
from hwnas.export.coreml.program import DEQUANTIZE, INPUT, read_out_name, tensor_name
from hwnas.graph import OP_NAMES, Lstm, Shape
from hwnas.quantize import reference
from hwnas.quantize.qgraph import QMAX, QMIN, Int8, Quant, QuantGraph
from hwnas.quantize.values import value_of

OPERATOR_STEPS_ALLOWED = 1
# An LSTM's state is rounded at every sample in int8 and nowhere in floating point: single values may part, their mean may not.
LSTM_MEAN_STEPS_ALLOWED = 3.0
Env = dict[str, Tensor]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Replay:
    """How far the package's operators, replayed in float32, are from the int8 reference.

    Attributes:
        windows: windows that were compared.
        operator_largest_step: largest difference of one operator's output, in quantisation steps, when it is given the reference's inputs.
        lstm_largest_step: the same for LSTMs, whose state the int8 form rounds at every sample.
        share_other_label: share of the windows whose most probable label is another one end to end.
        largest_probability_difference: of any label of any window, end to end.
        largest_difference, unit: of the value of any window, end to end; None for what the student is not, a classifier or a regression.
    """

    windows: int
    operator_largest_step: int
    lstm_largest_step: int
    share_other_label: float | None = None
    largest_probability_difference: float | None = None
    largest_difference: float | None = None
    unit: str | None = None


def replay(operations: list[Any], q: QuantGraph, check: Int8, where: str) -> tuple[Replay, Float32]:
    """Replay the program's `operations` on windows `check` int8 (M, T, C); also the probabilities (M, K) or values (M, 1) found.

    Raises:
        ExportError: an operator is further from the reference than allowed, or is none that the export writes.
    """
    tensors, names = reference.run_all(q, check), {tensor_name(q, i): i for i in range(1, len(q.graph.nodes))}
    away: dict[int, list[Tensor]] = {index: [] for index in names.values()}
    read_out = []
    for window in range(len(check)):
        expected = {name: _real(tensors[i][window], q.quants[i], q.graph.nodes[i].shape) for name, i in names.items()}
        start = {INPUT: torch.from_numpy(_values(check[window].T, q.input)[None])}

        def compared(name: str, found: Tensor, expected: Env = expected) -> Tensor:
            if name not in names:
                return found
            wanted = expected[name].reshape(found.shape)
            away[names[name]].append(_steps(found, wanted, q.quants[names[name]]))
            return wanted

        _run(operations, start, compared)
        read_out.append(_run(operations, start, lambda _, found: found)[read_out_name(q)].numpy()[0])
    largest = {True: 0, False: 0}  # by whether it is an LSTM
    for index, steps in away.items():
        op, all_steps = q.graph.nodes[index].op, torch.stack(steps)
        recurrent = isinstance(op, Lstm)
        step, allowed = (all_steps.mean(), LSTM_MEAN_STEPS_ALLOWED) if recurrent else (all_steps.max(), OPERATOR_STEPS_ALLOWED)
        if step > allowed:
            raise ExportError(
                f"{where}: node {index} ({OP_NAMES[type(op)]}) is {step:g} steps from the int8 reference, {allowed:g} allowed; report this"
            )
        largest[recurrent] = max(largest[recurrent], int(all_steps.max()))
    found: Float32 = np.array(read_out, np.float32)
    outputs = torch.from_numpy(_values(tensors[-1].reshape(len(check), -1), q.output))
    steps_of = Replay(len(check), largest[False], largest[True])
    value = value_of(q.labels)
    if value is not None:
        apart = np.abs(found[:, 0] - value.real(outputs.numpy()))
        return replace(steps_of, largest_difference=float(apart.max()), unit=value.unit), found
    wanted = torch.softmax(outputs, 1).numpy()
    other = float((found.argmax(1) != wanted.argmax(1)).mean())
    return replace(steps_of, share_other_label=other, largest_probability_difference=float(np.abs(found - wanted).max())), found


def _values(integers: Int8, quant: Quant) -> Float32:
    values: Float32 = ((integers.astype(np.float64) - quant.zero_point) * quant.scale).astype(np.float32)
    return values


def _real(integers: Int8, quant: Quant, shape: Shape) -> Tensor:
    """The reference's tensor of one window, (M * L, C) or (K,), as the program has it: (1, C, M, L)."""
    rows = _values(integers, quant).reshape(shape.modalities, shape.length, shape.channels)
    return torch.from_numpy(np.ascontiguousarray(rows.transpose(2, 0, 1)[None]))


def _steps(found: Tensor, expected: Tensor, quant: Quant) -> Tensor:
    """Differences in steps of `quant`; values beyond its range count as its ends, and what is no number as far away as can be."""
    integers = [torch.round(t / quant.scale + quant.zero_point).clamp(QMIN, QMAX) for t in (found, expected)]
    return (integers[0] - integers[1]).abs().nan_to_num(nan=QMAX - QMIN)


def _run(operations: list[Any], start: Env, change: Callable[[str, Tensor], Tensor]) -> Env:
    """Every tensor by name; each is what `change` makes of it, once it is computed."""
    env = dict(start)
    for operation in operations:
        kind = operation.op_type
        if kind == "const":
            continue
        if kind not in OPERATIONS:
            raise ExportError(f"the program holds the operation '{kind}', which this export does not write; report this")
        results = OPERATIONS[kind](operation, env)
        for variable, result in zip(operation.outputs, results if isinstance(results, tuple) else (results,), strict=True):
            env[variable.name] = change(variable.name, result)
    return env


def _tensor(variable: Any, env: Env) -> Tensor:
    return env[variable.name] if variable.name in env else torch.from_numpy(np.array(variable.val))


def _dequantize(o: Any, env: Env) -> Tensor:
    scale = _tensor(o.scale, env)
    weights = _tensor(o.quantized_data, env).float()
    return weights * scale.reshape(-1, *[1] * (weights.ndim - 1))


def _conv(o: Any, env: Env) -> Tensor:
    x = F.pad(_tensor(o.x, env), tuple(int(p) for p in o.pad.val[2:]))
    weight, bias = _tensor(o.weight, env), _tensor(o.bias, env)
    return F.conv2d(x, weight, bias, tuple(o.strides.val.tolist()), 0, tuple(o.dilations.val.tolist()), int(o.groups.val))


def _pool(o: Any, env: Env) -> Tensor:
    kernel, strides = o.kernel_sizes.val.tolist(), o.strides.val.tolist()
    pool = F.avg_pool2d if o.op_type == "avg_pool" else F.max_pool2d
    return pool(_tensor(o.x, env), kernel, strides)


def _lstm(o: Any, env: Env) -> tuple[Tensor, Tensor, Tensor]:
    """Gates in CoreML's order: input, forget, output, cell."""
    inputs, weight, recurrent, bias = (_tensor(v, env) for v in (o.x, o.weight_ih, o.weight_hh, o.bias))
    hidden, cell = _tensor(o.initial_h, env), _tensor(o.initial_c, env)
    steps = []
    for x in inputs:
        i, f, out, g = (x @ weight.T + hidden @ recurrent.T + bias).chunk(4, 1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(out) * torch.tanh(cell)
        steps.append(hidden)
    sequence = torch.stack(steps) if bool(o.output_sequence.val) else hidden[None]
    return sequence, hidden, cell


def _squeeze(o: Any, env: Env) -> Tensor:
    return _tensor(o.x, env).squeeze(tuple(o.axes.val.tolist()))


def _expand(o: Any, env: Env) -> Tensor:
    x = _tensor(o.x, env)
    for axis in sorted(o.axes.val.tolist()):
        x = x.unsqueeze(axis)
    return x


OPERATIONS: dict[str, Callable[[Any, Env], Any]] = {
    DEQUANTIZE: _dequantize,
    "conv": _conv,
    "relu": lambda o, env: torch.relu(_tensor(o.x, env)),
    "add": lambda o, env: _tensor(o.x, env) + _tensor(o.y, env),
    "mul": lambda o, env: _tensor(o.x, env) * _tensor(o.y, env),
    "concat": lambda o, env: torch.cat([_tensor(v, env) for v in o.values], int(o.axis.val)),
    "avg_pool": _pool,
    "max_pool": _pool,
    "reduce_mean": lambda o, env: _tensor(o.x, env).mean(tuple(o.axes.val.tolist()), keepdim=bool(o.keep_dims.val)),
    "reduce_sum": lambda o, env: _tensor(o.x, env).sum(tuple(o.axes.val.tolist()), keepdim=bool(o.keep_dims.val)),
    "lstm": _lstm,
    "linear": lambda o, env: F.linear(_tensor(o.x, env), _tensor(o.weight, env), _tensor(o.bias, env)),
    "softmax": lambda o, env: torch.softmax(_tensor(o.x, env), int(o.axis.val)),
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "transpose": lambda o, env: _tensor(o.x, env).permute(*o.perm.val.tolist()),
    "reshape": lambda o, env: _tensor(o.x, env).reshape(*o.shape.val.tolist()),
}
