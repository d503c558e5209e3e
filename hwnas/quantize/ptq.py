"""`quantize`: a trained `Student` and calibration windows -> `QuantGraph`. torch (to run the student); no files.

Post-training quantisation: ranges of activations from float passes over calibration windows, weights rounded to the nearest integer, biases
corrected for what that changes on average. All scales are exact float32 values, so the exported files hold the very same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError, QuantizationError
from hwnas.graph import (
    GATES,
    OP_NAMES,
    Add,
    Concat,
    GlobalAvgPool,
    Graph,
    Input,
    Lstm,
    Node,
)
from hwnas.quantize import bias_correction, ranges
from hwnas.quantize.qgraph import (
    ADD_SHIFT_BITS,
    BIAS_MAX,
    GATE_SCALE_BITS,
    KEEPS_QUANTISATION,
    LSTM_ACC_MAX,
    QMAX,
    QMIN,
    SHIFT_BITS,
    WEIGHT_MAX,
    Doubles,
    Int32,
    Quant,
    QuantGraph,
    QuantLstm,
    QuantWeights,
    as_stored,
)
from hwnas.quantize.ranges import Observation, at_least
from hwnas.quantize.reference import accumulator_bound, quantize_input
from hwnas.student import FoldedNode, Student, fold

INPUT = Quant(float(np.float32(1 / 127)), 0)  # windows are scaled to [-1, 1]
CALIBRATION_WINDOWS = 256
FEWEST_WINDOWS = 8
# `multiplier = S * 2**32` keeps at least 16 significant bits, and S stays clear of 0.5.
RATIO_MIN, RATIO_MAX = 2.0**-16, 0.499
ADD_RATIO_MAX = 1.99
GATE_MULTIPLIER_MIN, GATE_MULTIPLIER_MAX = 2**15, 2**31 - 1
HIDDEN_BITS = 17
HIDDEN_SCALE_MIN = 2.0**-13  # of hidden states; half of what `hidden_multiplier` could hold


@dataclass(frozen=True, slots=True)
class PtqSettings:
    """How activations are calibrated, and whether biases are corrected. `percentile` is read by the calibration of that name.

    Raises:
        ConfigError: an unknown calibration or a percentile out of range.
    """

    calibration: Literal["mse", "min_max", "percentile"] = "mse"
    percentile: float = 99.99
    bias_correction: bool = True

    def __post_init__(self) -> None:
        if self.calibration not in ("mse", "min_max", "percentile"):
            raise ConfigError(f"quantisation: calibration is '{self.calibration}', allowed is mse, min_max or percentile")
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"quantisation: percentile is {self.percentile}, allowed is above 50 to 100 (99.99 leaves 0.01 % out)")


DEFAULT = PtqSettings()


def quantize(student: Student, calibration_x: NDArray[np.float32], labels: Sequence[str], settings: PtqSettings = DEFAULT) -> QuantGraph:
    """Post-training int8 form of `student`; at most 256 windows of `calibration_x` (N, C, T), evenly chosen, are used.

    Raises:
        QuantizationError: fewer than 8 calibration windows, a channel of them that is constant or not finite, a wrong number of labels,
            weights or activations that are not finite, outputs that are the same for all windows, or an accumulator that could overflow.
    """
    graph = student.graph
    if len(labels) != graph.output_shape.elements:
        outputs = graph.output_shape.elements
        raise QuantizationError(f"the student has {outputs} outputs, got {len(labels)} labels: {', '.join(labels)}")
    x = _calibration_windows(calibration_x)
    folded = fold(student)
    for index, constants in folded.items():
        if not all(np.isfinite(a).all() for a in constants):
            name = OP_NAMES[type(graph.nodes[index].op)]
            raise QuantizationError(
                f"node {index} ({name}) has NaN or infinite weights: the training diverged; train again with a lower rate"
            )
    seen = ranges.observe(student, x)
    _check_alive(graph, seen)
    q = _rounded(graph, folded, _activation_quants(graph, seen, settings), tuple(labels))
    if settings.bias_correction:
        q = bias_correction.correct(q, folded, {index: s.mean for index, s in seen.items()}, quantize_input(q, x))
    return q


def _calibration_windows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The windows used, evenly chosen, once every channel of them carries a signal."""
    if len(x) < FEWEST_WINDOWS:
        raise QuantizationError(
            f"quantisation needs at least {FEWEST_WINDOWS} calibration windows, got {len(x) or 'none'}; give it more windows of the "
            "training subjects"
        )
    chosen: NDArray[np.float32] = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), CALIBRATION_WINDOWS)).round().astype(int))]
    for channel in range(chosen.shape[1]):
        values = chosen[:, channel]
        if not np.isfinite(values).all():
            raise QuantizationError(f"channel {channel} of the calibration windows holds NaN or infinity; drop those windows first")
        if values.min() == values.max():
            raise QuantizationError(
                f"channel {channel} of the calibration windows is {float(values.flat[0]):g} throughout: its sensor was off or is missing; "
                "give windows in which every channel carries a signal"
            )
    return chosen


def _check_alive(graph: Graph, seen: dict[int, Observation]) -> None:
    """A silent layer beside a residual does no harm; outputs that no window can change are of no use."""
    last = len(graph.nodes) - 1
    if seen[last].constant:
        first = next(index for index in range(last + 1) if seen[index].constant)
        raise QuantizationError(
            "the student answers all calibration windows alike; the first tensor that no window changes is that of node "
            f"{first} ({OP_NAMES[type(graph.nodes[first].op)]}): the training collapsed; train again with a lower learning rate"
        )


def _activation_quants(graph: Graph, seen: dict[int, Observation], settings: PtqSettings) -> list[Quant]:
    """The quantisation that calibration gives every node's tensor by itself."""
    last = len(graph.nodes) - 1
    quants = []
    for index, node in enumerate(graph):
        if isinstance(node.op, Input):
            quants.append(INPUT)
        elif isinstance(node.op, KEEPS_QUANTISATION):
            quants.append(quants[node.inputs[0]])
        elif settings.calibration == "min_max" or index == last:
            # A clipped logit would tie windows that the score must tell apart.
            quants.append(ranges.min_max(seen[index]))
        elif settings.calibration == "percentile":
            quants.append(ranges.percentile(seen[index], settings.percentile))
        else:
            quants.append(ranges.mean_squared(seen[index]))
    return quants


def _rounded(graph: Graph, folded: dict[int, FoldedNode], calibrated: Sequence[Quant], labels: tuple[str, ...]) -> QuantGraph:
    """Integers of every node; output scales are made coarser where a multiplier would leave its range."""
    quants: list[Quant] = [calibrated[0]]
    constants: dict[int, QuantWeights] = {}
    lstms: dict[int, QuantLstm] = {}
    multipliers: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        sources = [quants[i] for i in node.inputs]
        quant = calibrated[index]
        if isinstance(node.op, Add | Concat):
            quant = at_least(quant, max(s.scale for s in sources) / ADD_RATIO_MAX)
            multipliers[index] = tuple(round(s.scale / quant.scale * 2**ADD_SHIFT_BITS) for s in sources)
        elif isinstance(node.op, GlobalAvgPool):
            step = sources[0].scale / graph.in_shape(node).length
            quant = at_least(quant, step / RATIO_MAX)
            multipliers[index] = (round(step / quant.scale * 2**SHIFT_BITS),)
        elif isinstance(node.op, Lstm):
            quant = at_least(quant, HIDDEN_SCALE_MIN)
            lstms[index] = _lstm(index, folded[index], sources[0], quant)
        elif index in folded:
            quant, constants[index] = _weights(node, index, folded[index], sources[0], quant)
        else:
            quant = sources[0]
        quants.append(quant)
    return QuantGraph(graph, tuple(quants), constants, multipliers, labels, lstms)


def _weights(node: Node, index: int, folded: FoldedNode, source: Quant, quant: Quant) -> tuple[Quant, QuantWeights]:
    """Integer constants of a convolution or dense node, and its output quantisation, coarser where the multiplier needs it."""
    weight, bias = folded.weight.astype(np.float64), folded.bias.astype(np.float64)
    scale = np.abs(weight).reshape(len(weight), -1).max(1) / WEIGHT_MAX
    quant = at_least(quant, source.scale * float(scale.max()) / RATIO_MAX)
    # A dead channel has no scale of its own; the smallest useful one keeps its multiplier precise and its bias exact.
    scale = _float32(np.maximum(scale, RATIO_MIN * quant.scale / source.scale))
    columns = np.moveaxis(weight, 0, -1)
    integers = np.clip(np.rint(columns / scale), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    # A bias that is clipped here saturates its output with or without the clip.
    integer_bias: Int32 = np.clip(np.rint(bias / (source.scale * scale)), -BIAS_MAX, BIAS_MAX).astype(np.int32)
    largest = accumulator_bound(integers) + int(np.abs(integer_bias.astype(np.int64)).max())
    if largest >= 2**31:
        raise QuantizationError(f"node {index}: an accumulator may reach {largest}, beyond int32; use fewer inputs an output")
    ratio = source.scale * scale / quant.scale
    multiplier = np.rint(ratio * 2.0**SHIFT_BITS).astype(np.int32)
    return quant, QuantWeights(as_stored(node.op, np.moveaxis(integers, -1, 0)), integer_bias, scale, multiplier)


def _lstm(index: int, folded: FoldedNode, source: Quant, hidden: Quant) -> QuantLstm:
    """Integer constants of an LSTM: of each gate one accumulator step, as fine as its weights and accumulators allow."""
    units = len(folded.bias) // GATES
    inputs = folded.weight.shape[1] - units
    # What one step of each input adds to a gate, rows as (gate, unit).
    added = folded.weight.astype(np.float64) * np.repeat([source.scale, hidden.scale], [inputs, units])
    reach = np.repeat([_reach(source), _reach(hidden)], [inputs, units])
    gates = added.reshape(GATES, units, -1)
    bias = folded.bias.astype(np.float64).reshape(GATES, units)
    # Half a step of rounding a weight, and one of the bias, come on top of the real values.
    room = LSTM_ACC_MAX - reach.sum() / 2
    if room <= 0:
        raise QuantizationError(f"node {index} (lstm): {inputs + units} inputs a unit could overflow its accumulator of 25 bits; use fewer")
    step = np.maximum(np.abs(gates).max((1, 2)) / WEIGHT_MAX, ((np.abs(gates) * reach).sum(2) + np.abs(bias)).max(1) / room)
    multiplier = np.maximum(np.ceil(step * 2.0**GATE_SCALE_BITS), GATE_MULTIPLIER_MIN)
    if multiplier.max() > GATE_MULTIPLIER_MAX:
        gate = "ifgo"[int(multiplier.argmax())]
        raise QuantizationError(
            f"node {index} (lstm): weights of gate {gate} are too large (up to {float(np.abs(folded.weight).max()):.3g}) for inputs "
            f"that reach {source.scale * _reach(source):.3g}; train again with more weight decay"
        )
    step = multiplier / 2.0**GATE_SCALE_BITS
    integers = np.rint(gates / step[:, None, None]).astype(np.int8).transpose(1, 0, 2)
    integer_bias = np.rint(bias / step[:, None]).astype(np.int32).T
    return QuantLstm(
        np.ascontiguousarray(integers),
        np.ascontiguousarray(integer_bias),
        np.tile(multiplier.astype(np.int32), (units, 1)),
        round(2**HIDDEN_BITS / hidden.scale),
    )


def _reach(quant: Quant) -> int:
    """Largest |q - zero point|."""
    return max(QMAX - quant.zero_point, quant.zero_point - QMIN)


def _float32(values: Doubles) -> Doubles:
    out: Doubles = values.astype(np.float32).astype(np.float64)
    return out
