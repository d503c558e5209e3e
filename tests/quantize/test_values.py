"""The integer read-out of a regression against the real numbers that it stands for."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import QuantizationError
from hwnas.graph import Dense, GraphBuilder, Input
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.quantize.values import VALUES, describe_outputs, output_name, read_out, value_of
from hwnas.tasks import TASKS, bpm

ALL: Int8 = np.arange(-128, 128).astype(np.int8)[:, None]


def student(scale: float = 0.008, point: int = -7, outputs: int = 1) -> QuantGraph:
    builder = GraphBuilder()
    builder.add(Dense(outputs), builder.add(Input(2, 1)))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    labels = ("bpm",) if outputs == 1 else q.labels
    return replace(q, quants=(*q.quants[:-1], Quant(float(np.float32(scale)), point)), labels=labels)


@given(st.floats(2.0**-20, 0.5), st.integers(-128, 127))
def test_integers_are_within_a_200th_of_the_real_value_or_saturate(scale: float, point: int) -> None:
    q = student(scale, point)
    exact = bpm.from_output(real_outputs(q, ALL)[:, 0])
    found = read_out(q, ALL)
    assert found.dtype == np.uint16 and (np.diff(found.astype(int)) >= 0).all()
    assert np.abs(found / 256 - np.clip(exact, 0, 65535 / 256)).max() <= 1 / 200


@given(st.floats(2.0**-20, 0.5), st.integers(-128, 127), st.integers(-128, 127))
def test_the_formula_in_exact_arithmetic(scale: float, point: int, output: int) -> None:
    q = student(scale, point)
    step, offset = round(Fraction(90) * Fraction(q.output.scale) * 65536), 120 * 65536
    wanted = min(max((offset + step * (output - point) + 128) // 256, 0), 65535)
    assert read_out(q, np.array([[output]], np.int8))[0] == wanted
    assert abs(step * 255) + offset + 128 < 2**31, "it fits int32"


def test_both_ends() -> None:
    q = student(0.5, 0)
    found = read_out(q, ALL)
    assert found[0] == 0 and found[-1] == 65535 and 0 < found[128] < 65535


@pytest.mark.parametrize("scale", [2.0**-24, 0.8])
def test_steps_that_integers_cannot_express_are_refused(scale: float) -> None:
    with pytest.raises(QuantizationError, match=r"one step of the output is .* BPM, which the integer read-out cannot express"):
        read_out(student(scale), ALL)


def test_a_classifier_has_no_value() -> None:
    q = student(outputs=3)
    with pytest.raises(QuantizationError, match="are classes"):
        read_out(q, np.zeros((1, 3), np.int8))


@pytest.mark.parametrize("name", TASKS)
def test_every_regression_has_a_value_and_no_classification_has(name: str) -> None:
    task = TASKS[name]
    value = value_of(task.outputs)
    assert (value is not None) == (task.kind == "regression") == (output_name(task.outputs) == "output")
    if value is None:
        assert describe_outputs(task.outputs) == ", ".join(task.labels)


def test_a_value_is_on_the_scale_that_students_learn() -> None:
    value, rates = VALUES["bpm"], np.array([30.0, 88.5, 210.0])
    assert np.allclose(value.centre + value.span * bpm.to_output(rates), rates)
    assert describe_outputs(("bpm",)) == "heart rate in BPM = 120 + 90 * output"
