"""What the one output of a regression student stands for, and its read-out in integers. numpy; no torch, no files.

An output q (N, 1) int8 is the real `out = scale * (q - zero point)`, which stands for `centre + span * out` of a unit. In integers, with

    step = round(2**16 * span * scale),    offset = round(2**16 * centre),
    value = floor((offset + step * (q - zero point) + 2**7) / 2**8), saturated to 0 ... 65535                (`read_out`)

is that value in 1/256 of the unit (Q8.8). All of it fits 32 bits signed, and where nothing saturates it is within 1/200 of the unit: half a
step of the rounding, and 255 times half a unit of `step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import QuantizationError
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.tasks.bpm import CENTRE_BPM, SPAN_BPM

FRACTION_BITS = 8  # of the value
STEP_BITS = 16  # behind the point of step and offset
STEP_MAX = 2**22  # 255 of them, and the offset, are far from 2**31


@dataclass(frozen=True, slots=True)
class Value:
    """What an output is: its name and unit, and the value at an output of 0 and how much an output of 1 adds to that."""

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

    def step(self, scale: float) -> int:
        """What one step of an int8 output of `scale` adds, in 1/65536 of the unit; raises QuantizationError beyond 64 units."""
        found = round(self.span * scale * (1 << STEP_BITS))
        if not 1 <= found <= STEP_MAX:
            raise QuantizationError(
                f"one step of the output is {self.span * scale:g} {self.unit}, which the integer read-out cannot express (1/65536 to 64): "
                "train the student again"
            )
        return found


VALUES = {"bpm": Value("heart rate", "BPM", CENTRE_BPM, SPAN_BPM)}


def value_of(labels: Sequence[str]) -> Value | None:
    """What the output of a student with these names of outputs stands for; None for a classifier."""
    return VALUES.get(labels[0]) if len(labels) == 1 else None


def output_name(labels: Sequence[str]) -> str:
    """What a file calls the tensor of a student's outputs."""
    return "logits" if value_of(labels) is None else "output"


def describe_outputs(labels: Sequence[str]) -> str:
    """What a file says of a student's outputs: the classes in order, or what the one real output stands for."""
    value = value_of(labels)
    return ", ".join(labels) if value is None else value.formula


def read_out(q: QuantGraph, outputs: Int8) -> NDArray[np.uint16]:
    """Values (N,) in 1/256 of the unit of outputs (N, 1) of `q`, a regression student, as this module's head says. The oracle of the C.

    Raises:
        QuantizationError: a classifier, or an output scale that integers cannot read out.
    """
    value = value_of(q.labels)
    if value is None:
        raise QuantizationError(f"outputs {', '.join(q.labels)} are classes; a read-out is for one of: {', '.join(VALUES)}")
    wide = value.offset + value.step(q.output.scale) * (outputs[:, 0].astype(np.int64) - q.output.zero_point)
    shift = STEP_BITS - FRACTION_BITS
    out: NDArray[np.uint16] = np.clip((wide + (1 << (shift - 1))) >> shift, 0, 2**16 - 1).astype(np.uint16)
    return out
