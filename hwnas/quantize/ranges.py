"""Activation ranges: what calibration windows show of every tensor, and the int8 quantisation chosen from it. torch (to run it); no files.

A range always holds zero, so that padding and ReLU are exact. Three ways to choose it: `min_max`; `percentile`, which leaves the outermost
values out; and `mean_squared`, the smallest mean squared error of quantisation among shrunken ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwnas.errors import QuantizationError
from hwnas.graph import OP_NAMES, Lstm
from hwnas.quantize.qgraph import QMAX, QMIN, Quant
from hwnas.student import Student

Doubles = NDArray[np.float64]

BATCH = 32  # windows of one float pass, so that long windows do not fill the memory
SAMPLES = 20_000  # values of one tensor that `percentile` and `mean_squared` look at
# A finer grid, or one for each end, changed nothing measurable. None is a ratio of small whole numbers: a range that is 4/5 of another
# puts a quarter of its values exactly between two steps of the other, where runtimes round differently.
SHRINK = (1.0, 0.951, 0.903, 0.853, 0.802, 0.701, 0.601, 0.501)
STEPS = QMAX - QMIN
SCALE_FLOOR = 1e-8


@dataclass(frozen=True, eq=False)
class Observation:
    """What calibration windows show of one tensor.

    Attributes:
        low, high: smallest and largest value; of an `Lstm(last=True)` among the hidden states of all steps, which share one quantisation.
        sample: some of those values, every channel alike.
        mean: (M * L, C), over windows, of the tensor itself.
        change: largest difference of one value between the first window and another.
    """

    low: float
    high: float
    sample: Doubles
    mean: Doubles
    change: float

    @property
    def constant(self) -> bool:
        """All windows give the same tensor, but for the rounding of float32."""
        return self.change <= 1e-6 * max(abs(self.low), abs(self.high))


class _Observer:
    """Gathers an `Observation` from batches (B, M * L, C)."""

    def __init__(self, windows: int) -> None:
        self.windows = windows
        self.low, self.high = np.inf, -np.inf
        self.samples: list[NDArray[np.float32]] = []
        self.total: Doubles | float = 0.0
        self.first: NDArray[np.float32] | None = None
        self.change = 0.0

    def add(self, values: NDArray[np.float32], ranged: NDArray[np.float32]) -> None:
        """`values` of the tensor, and all those that its quantisation must hold."""
        if self.first is None:
            self.first = values[0].copy()
        self.low, self.high = min(self.low, float(ranged.min())), max(self.high, float(ranged.max()))
        self.change = max(self.change, float(np.abs(values - self.first).max()))
        self.total = self.total + values.sum(0, dtype=np.float64)
        step = max(ranged[0].size * self.windows // SAMPLES, 1)
        while gcd(step, ranged.shape[-1]) > 1:  # so that every channel is visited
            step += 1
        self.samples.append(ranged.reshape(-1)[::step].copy())

    def result(self) -> Observation:
        sample = np.concatenate(self.samples).astype(np.float64)
        return Observation(self.low, self.high, sample, np.asarray(self.total) / self.windows, self.change)


def observe(student: Student, x: NDArray[np.float32]) -> dict[int, Observation]:
    """Every tensor of `student` (in its evaluation mode) on windows `x` (N, C, T), by node.

    Raises:
        QuantizationError: an activation that is not finite.
    """
    nodes = student.graph.nodes
    observers = [_Observer(len(x)) for _ in nodes]
    was_training = student.training
    student.eval()
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            windows = torch.from_numpy(np.ascontiguousarray(x[start : start + BATCH], dtype=np.float32))
            taps = {0: windows} | {int(name): tensor for name, tensor in student(windows)[1].items()}
            for index, node in enumerate(nodes):
                values = ranged = _rows(taps[index])
                if isinstance(node.op, Lstm) and node.op.last:
                    ranged = student.nodes[str(index)](taps[node.inputs[0]].transpose(1, 2))[0].numpy()
                if not np.isfinite(values).all():
                    raise QuantizationError(
                        f"node {index} ({OP_NAMES[type(node.op)]}) gives NaN or infinity on calibration windows; the training diverged: "
                        "train again with a lower learning rate"
                    )
                observers[index].add(values, ranged)
    student.train(was_training)
    return {index: observer.result() for index, observer in enumerate(observers)}


def _rows(tensor: Tensor) -> NDArray[np.float32]:
    """(B, C, L) or (B, C, M, L) as (B, M * L, C), the order of int8 tensors."""
    values: NDArray[np.float32] = tensor.flatten(2).transpose(1, 2).contiguous().numpy()
    return values


def min_max(seen: Observation) -> Quant:
    """The whole range."""
    return quant_of(seen.low, seen.high)


def percentile(seen: Observation, percent: float) -> Quant:
    """The range without the outermost `100 - percent` percent of values at either end."""
    low, high = np.percentile(seen.sample, (100 - percent, percent))
    return quant_of(float(low), float(high))


def mean_squared(seen: Observation, shrink: Sequence[float] = SHRINK) -> Quant:
    """The shrunken range whose quantisation has the smallest mean squared error."""
    candidates = [quant_of(seen.low * factor, seen.high * factor) for factor in shrink]
    errors = [float(np.square(round_trip(seen.sample, c) - seen.sample).mean()) for c in candidates]
    return candidates[int(np.argmin(errors))]


def round_trip(values: Doubles, quant: Quant) -> Doubles:
    """`values` after quantisation."""
    steps = np.clip(np.rint(values / quant.scale) + quant.zero_point, QMIN, QMAX)
    out: Doubles = (steps - quant.zero_point) * quant.scale
    return out


def quant_of(low: float, high: float) -> Quant:
    """Quantisation of [low, high], widened to hold zero; a range that starts at zero gets zero point -128."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / STEPS, SCALE_FLOOR)))
    return Quant(scale, int(np.clip(round(QMIN - low / scale), QMIN, QMAX)))


def at_least(quant: Quant, scale: float) -> Quant:
    """`quant` with a scale of at least `scale`, about the same centre."""
    if quant.scale >= scale:
        return quant
    # Rounded up, so that the multiplier stays within its bound.
    wider = float(np.nextafter(np.float32(scale), np.float32(np.inf)))
    if quant.zero_point in (QMIN, QMAX):  # a one-sided range stays one
        return Quant(wider, quant.zero_point)
    low, high = ((bound - quant.zero_point) * quant.scale for bound in (QMIN, QMAX))
    zero_point = round((QMIN + QMAX) / 2 - (low + high) / 2 / wider)
    return Quant(wider, int(np.clip(zero_point, QMIN, QMAX)))
