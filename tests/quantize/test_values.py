"""The integer read-out of a regression against the real numbers that it stands for."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import DataError, QuantizationError
from hwnas.graph import Dense, GraphBuilder, Input
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.quantize.values import VALUES, Expectation, Value, describe_outputs, output_name, read_out, value_of
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
    assert isinstance(value, Value) == (task.kind == "regression") == (output_name(task.outputs) == "output")
    if value is None:
        assert describe_outputs(task.outputs) == ", ".join(task.labels)


def test_a_value_is_on_the_scale_that_students_learn() -> None:
    value, rates = VALUES["bpm"], np.array([30.0, 88.5, 210.0])
    assert np.allclose(value.centre + value.span * bpm.to_output(rates), rates)
    assert describe_outputs(("bpm",)) == "heart rate in BPM = 120 + 90 * output"


COUNTS = [count for count in range(2, 181) if 180 % count == 0]


def banded(count: int, scale: float) -> QuantGraph:
    return replace(student(scale, outputs=count), labels=bpm.names(count))


def weighed(q: QuantGraph, output: Int8) -> list[int]:
    """exp of what each output (K,) is below the largest one, in 1/65536."""
    return [round(65536 * math.exp(-int(d) * q.output.scale)) for d in int(output.max()) - output.astype(int)]


@given(st.sampled_from(COUNTS), st.floats(2.0**-20, 4.0), st.integers(0, 2**32 - 1))
def test_classes_are_read_out_as_exact_fractions_say(count: int, scale: float, seed: int) -> None:
    """The mean of the middles under the table's weights, rounded to the nearest 1/256, halves up: in fractions of any size."""
    q, rng = banded(count, scale), np.random.default_rng(seed)
    low, high = sorted(rng.integers(-128, 128, 2))
    outputs = rng.integers(low, high + 1, (4, count)).astype(np.int8)
    middles = [Fraction(2 * 30 + width - 1, 2) + width * i for width in [180 // count] for i in range(count)]
    for output, found in zip(outputs, read_out(q, outputs), strict=True):
        weights = weighed(q, output)
        exact = sum(w * m for w, m in zip(weights, middles, strict=True)) / sum(weights)
        assert found == math.floor(256 * exact + Fraction(1, 2))
        real = bpm.expectation(real_outputs(q, output[None]))[0]
        assert abs(int(found) / 256 - real) <= 180 * (count - 1) / 2**18 + 1 / 512 + 1e-9


@pytest.mark.parametrize("count", COUNTS)
def test_classes_fit_32_bits_unsigned(count: int) -> None:
    """The largest of every step of the C, which equal outputs and a table of ones come nearest to."""
    total, moment = 65536 * count, 65536 * 180 // count * count * (count - 1) // 2
    assert moment < 2**32 and 256 * (total - 1) + total // 2 < 2**32
    q = banded(count, 2.0**-20)
    assert (weighed(q, np.full(count, 5, np.int8)) == np.full(count, 65536)).all()
    assert read_out(q, np.full((1, count), 5, np.int8))[0] == 256 * 119.5


@pytest.mark.parametrize("count", COUNTS)
def test_one_class_far_above_the_others_is_its_middle(count: int) -> None:
    q = banded(count, 0.2)
    outputs = np.full((count, count), -128, np.int8)
    np.fill_diagonal(outputs, 127)
    assert (read_out(q, outputs) == 256 * bpm.values_bpm(count)).all()
    np.testing.assert_allclose(Expectation("", "", bpm.values_bpm(count)[0], 180 // count, count).middles, bpm.values_bpm(count))


def test_names_of_classes_say_what_they_are() -> None:
    labels = bpm.names(60)
    assert labels[:2] == ("31 bpm", "34 bpm") and bpm.names(90)[0] == "30.5 bpm" and bpm.names() == bpm.LABELS
    value = value_of(labels)
    assert isinstance(value, Expectation) and (value.offset, value.width, value.count) == (31 * 256, 3, 60)
    assert output_name(labels) == "logits"
    said = "logits of 60 classes of heart rate: 31 to 208 BPM, 3 apart; heart rate in BPM = sum of softmax(logits)[i] * (31 + 3 * i)"
    assert describe_outputs(labels) == said
    for others in (labels[:36], labels[::-1], ("31 bpm",), ("a", "b"), ()):
        assert value_of(others) is None


@pytest.mark.parametrize("name", TASKS)
def test_every_task_names_the_outputs_of_its_students(name: str) -> None:
    task = TASKS[name]
    assert task.answers(len(task.outputs)) == task.outputs and task.answers(len(task.labels)) == task.labels
    message = "180 classes of 1 BPM can be joined to 2, 3" if task.kind == "regression" else "an output for each"
    with pytest.raises(DataError, match=message):
        task.answers(7)
