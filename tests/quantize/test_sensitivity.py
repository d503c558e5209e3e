"""Sensitivity: one node alone in int8, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_task import TASK, trained, windows
from random_students import quantized_student, random_graph, random_windows

from hwnas.quantize import reference
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import QuantGraph, real_weights
from hwnas.quantize.sensitivity import one_in_int8, sensitivity
from hwnas.student import Student, fold


@pytest.mark.parametrize("seed", range(4))
def test_real_weights_are_the_folded_ones_but_for_rounding(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), length=30, lstm=True, concat=True)
    student, q = quantized_student(graph, seed)
    for index, folded in fold(student).items():
        weight, bias = real_weights(q, index)
        assert weight.shape == folded.weight.shape and bias.shape == folded.bias.shape
        rows = np.abs(folded.weight).reshape(len(folded.weight), -1).max(1).max()
        assert np.abs(weight - folded.weight).max() < 0.05 * rows, f"node {index}"


def test_the_rest_of_the_student_stays_float() -> None:
    student = trained()
    x = windows(20, 1).x
    q = quantize(student, x, TASK.labels)
    with torch.no_grad():
        before, after = (module(torch.from_numpy(x))[1] for module in (student, one_in_int8(student, q, 3)))
    assert torch.equal(before["1"], after["1"]) and torch.equal(before["2"], after["2"])
    steps = after["3"] / q.quants[3].scale
    assert torch.allclose(steps, steps.round(), atol=1e-3) and not torch.equal(before["3"], after["3"])
    again = student(torch.from_numpy(x))[1]["3"].detach()
    assert torch.equal(again, before["3"]), "the student itself is left alone"


@pytest.mark.parametrize("lstm", [False, True])
def test_all_nodes_in_int8_are_nearly_the_int8_student(lstm: bool) -> None:
    student = trained(lstm=lstm)
    x = windows(100, 1).x
    q = quantize(student, x, TASK.labels)
    mixed: Student = student
    for index in (*q.constants, *q.lstms):
        mixed = one_in_int8(mixed, q, index)
    with torch.no_grad():
        logits = mixed(torch.from_numpy(x))[0].numpy()
    found = reference.dequantize_output(q, reference.run(q, reference.quantize_input(q, x)))
    assert np.abs(found - logits).mean() < 1.5 * q.output.scale


def blunt(q: QuantGraph, index: int) -> QuantGraph:
    """`q` with one bit and a sign left of the weights of one node."""
    constants = q.constants[index]
    coarse = (np.rint(constants.weights / 64) * 64).clip(-64, 64).astype(np.int8)
    return replace(q, constants=q.constants | {index: replace(constants, weights=coarse)})


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_the_layer_that_was_spoiled_stands_out(broken: int) -> None:
    student, validation = trained(), windows(300, 1)
    q = quantize(student, validation.x, TASK.labels)
    fine, spoiled = (sensitivity(student, form, validation, TASK) for form in (q, blunt(q, broken)))
    assert [row.node for row in fine] == [1, 2, 3, 6] and fine[1].operator == "depthwise_conv1d"
    assert max(spoiled, key=lambda row: row.logit_mse).node == broken
    for a, b in zip(fine, spoiled, strict=True):
        assert (a == b) == (a.node != broken)
    assert all(abs(row.loss) < 1.0 for row in fine)


def test_few_windows_are_enough_and_hold_both_classes() -> None:
    student, validation = trained(), windows(300, 1)
    rare = validation.take(np.flatnonzero((validation.y == 0) | (np.cumsum(validation.y) <= 2)))
    q = quantize(student, validation.x, TASK.labels)
    assert len(sensitivity(student, q, rare, TASK, limit=10)) == 4


def test_random_students_of_every_operator_have_a_finite_report() -> None:
    class Any(type(TASK)):  # type: ignore[misc]
        def metrics(self, logits: np.ndarray, y: np.ndarray) -> dict[str, float]:
            return {"auc": float(logits.mean())}

    graph = random_graph(np.random.default_rng(3), length=30, lstm=True, concat=True, pools=True, modalities=True)
    student, q = quantized_student(graph, 3)
    some = replace(windows(40, 0), x=random_windows(graph, 40, 5))
    rows = sensitivity(student, q, some, Any())
    assert len(rows) == len(q.constants) + len(q.lstms) and all(np.isfinite([r.loss, r.logit_mse]).all() for r in rows)
