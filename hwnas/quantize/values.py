"""What the outputs of a regression student stand for, and their read-out in integers. numpy; no torch, no files.

Two forms, read out in 1/256 of the unit (Q8.8):

`Value`: one output q int8 is the real `out = scale * (q - zero point)`, which stands for `centre + span * out` of a unit. In integers, with

    step = round(2**16 * span * scale),    offset = round(2**16 * centre),
    value = floor((offset + step * (q - zero point) + 2**7) / 2**8), saturated to 0 ... 65535

All of it fits 32 bits signed, and where nothing saturates it is within 1/200 of the unit: half a step of the rounding, and 255 times half a
unit of `step`.

`Expectation`: outputs q (K,) int8 are logits of classes of the value, whose middles are `lowest + width * i`; the value is the mean of
these under softmax. In integers, with d[i] = exp of q[i] minus the largest q, from the table of `probabilities`:

    total = sum(d),    moment = width * sum(d[i] * i)
    value = 256 * lowest + 256 * (moment / total) + (256 * (moment % total) + total / 2) / total          (unsigned, divisions rounded down)

For classes of 1 BPM or wider between 30 and 210 BPM all of it fits 32 bits unsigned; nothing saturates, and the value is within
180 * (K - 1) / 2**18 + 1/512 BPM of the real expectation (1/23 BPM for 60 classes): the table's rounding and its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hwnas.errors import QuantizationError
from hwnas.quantize.probabilities import weights
from hwnas.quantize.qgraph import Doubles, Int8, QuantGraph
from hwnas.tasks import bpm

FRACTION_BITS = 8  # of the value
STEP_BITS = 16  # behind the point of step and offset
STEP_MAX = 2**22  # 255 of them, and the offset, are far from 2**31
Reals = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Value:
    """What one output is: its name and unit, and the value at an output of 0 and how much an output of 1 adds to that."""

    name: str
    unit: str
    centre: float
    span: float

    @property
    def offset(self) -> int:
        """The value at an output of 0, in 1/65536 of the unit."""
        return round(self.centre * (1 << STEP_BITS))

    @property
    def formula(self) -> str:
        """What a real output stands for, as text."""
        return f"{self.name} in {self.unit} = {self.centre:g} + {self.span:g} * output"

    def real(self, outputs: Reals) -> Doubles:
        """Values (N,) of real outputs (N, 1)."""
        return np.asarray(self.centre + self.span * outputs[:, 0], dtype=np.float64)

    def step(self, scale: float) -> int:
        """What one step of an int8 output of `scale` adds, in 1/65536 of the unit; raises QuantizationError beyond 64 units."""
        found = round(self.span * scale * (1 << STEP_BITS))
        if not 1 <= found <= STEP_MAX:
            raise QuantizationError(
                f"one step of the output is {self.span * scale:g} {self.unit}, which the integer read-out cannot express (1/65536 to 64): "
                "train the student again"
            )
        return found

    def read_out(self, q: QuantGraph, outputs: Int8) -> NDArray[np.int64]:
        """Values (N,) in 1/256 of the unit of outputs (N, 1), as this module's head says."""
        wide = self.offset + self.step(q.output.scale) * (outputs[:, 0].astype(np.int64) - q.output.zero_point)
        shift = STEP_BITS - FRACTION_BITS
        return np.clip((wide + (1 << (shift - 1))) >> shift, 0, 2**16 - 1)


@dataclass(frozen=True, slots=True)
class Expectation:
    """A value whose classes the outputs are: its name and unit, the middle of the first class, their width and how many they are."""

    name: str
    unit: str
    lowest: float
    width: int
    count: int

    @property
    def offset(self) -> int:
        """The middle of the first class in 1/256 of the unit."""
        return round(self.lowest * (1 << FRACTION_BITS))

    @property
    def middles(self) -> Doubles:
        """The middles (K,) of the classes."""
        return self.lowest + self.width * np.arange(self.count, dtype=np.float64)

    @property
    def classes(self) -> str:
        """What the outputs are, as text."""
        return f"logits of {self.count} classes of {self.name}: {self.lowest:g} to {self.middles[-1]:g} {self.unit}, {self.width} apart"

    @property
    def formula(self) -> str:
        """How real outputs are read out, as text."""
        return f"{self.classes}; {self.name} in {self.unit} = sum of softmax(logits)[i] * ({self.lowest:g} + {self.width} * i)"

    def real(self, outputs: Reals) -> Doubles:
        """Values (N,) of real outputs (N, K)."""
        return np.asarray(softmax(np.asarray(outputs, dtype=np.float64), axis=1) @ self.middles)

    def read_out(self, q: QuantGraph, outputs: Int8) -> NDArray[np.int64]:
        """Values (N,) in 1/256 of the unit of outputs (N, K), as this module's head says."""
        parts = weights(q, outputs)
        total, moment = parts.sum(axis=1), self.width * (parts @ np.arange(self.count))
        whole, rest = np.divmod(moment, total)
        return np.asarray(self.offset + (whole << FRACTION_BITS) + ((rest << FRACTION_BITS) + (total >> 1)) // total)


VALUES = {"bpm": Value("heart rate", "BPM", bpm.CENTRE_BPM, bpm.SPAN_BPM)}


def value_of(labels: Sequence[str]) -> Value | Expectation | None:
    """What the outputs of a student with these names of outputs stand for; None for a classifier."""
    count = len(labels)
    if count == 1:
        return VALUES.get(labels[0])
    if count < 2 or bpm.CLASSES % count or tuple(labels) != bpm.names(count):
        return None
    return Expectation("heart rate", "BPM", float(bpm.values_bpm(count)[0]), bpm.CLASSES // count, count)


def output_name(labels: Sequence[str]) -> str:
    """What a file calls the tensor of a student's outputs."""
    return "output" if isinstance(value_of(labels), Value) else "logits"


def describe_outputs(labels: Sequence[str]) -> str:
    """What a file says of a student's outputs: the classes in order, or what they stand for and how they are read out."""
    value = value_of(labels)
    return ", ".join(labels) if value is None else value.formula


def read_out(q: QuantGraph, outputs: Int8) -> NDArray[np.uint16]:
    """Values (N,) in 1/256 of the unit of outputs (N, K) of `q`, a regression student, as this module's head says. The oracle of the C.

    Raises:
        QuantizationError: a classifier, or an output scale that integers cannot read out.
    """
    value = value_of(q.labels)
    if value is None:
        raise QuantizationError(f"outputs {', '.join(q.labels)} are classes; a read-out is for one of: {', '.join(VALUES)}")
    return value.read_out(q, outputs).astype(np.uint16)
