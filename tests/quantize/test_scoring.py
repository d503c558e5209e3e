"""Scores of int8 students against scikit-learn on real-valued outputs made from the integers here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_students import quantized_student, random_windows
from scipy.special import logsumexp
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from hwnas.errors import DataError, QuantizationError
from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input
from hwnas.quantize import reference
from hwnas.quantize.qgraph import QuantGraph
from hwnas.quantize.scoring import score_int8, score_outputs
from hwnas.tasks import TASKS, Windows

COUNT = 240


def network(outputs: int) -> Graph:
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 4), builder.add(Input(1, 60)))
    x = builder.add(Conv1d(12), builder.add(DepthwiseConv1d(3, 2), x))
    builder.add(Dense(outputs), builder.add(GlobalAvgPool(), x))
    return builder.build()


@pytest.fixture(scope="module", params=["rhythm", "rhythm-af"])
def case(request: pytest.FixtureRequest) -> tuple[str, QuantGraph, Windows]:
    """A task, an untrained student for it, and windows whose labels lean to what the student says."""
    name: str = request.param
    classes = len(TASKS[name].labels)
    graph = network(classes)
    student, q = quantized_student(graph, 5)
    q = replace(q, labels=TASKS[name].labels)
    x = random_windows(graph, COUNT, 9)
    with torch.no_grad():
        said = student(torch.from_numpy(x))[0].argmax(1).numpy()
    rng = np.random.default_rng(1)
    y = np.where(rng.random(COUNT) < 0.5, said, rng.integers(0, classes, COUNT)).astype(np.int64)
    y[:classes] = np.arange(classes)
    return name, q, Windows(x, y, np.repeat("s", COUNT), 100.0, "synthetic", "walks")


def test_metrics_equal_scikit_learn(case: tuple[str, QuantGraph, Windows]) -> None:
    name, q, windows = case
    task = TASKS[name]
    outputs = reference.run(q, reference.quantize_input(q, windows.x))
    real = (outputs.astype(np.float64) - q.output.zero_point) * q.output.scale
    odds = real[:, -1] - logsumexp(real[:, :-1], axis=1)
    predicted = real.argmax(1)
    found = score_int8(q, windows, task)
    assert found["af_auc"] == pytest.approx(roc_auc_score(windows.y == len(task.labels) - 1, odds), abs=1e-3)
    assert found["accuracy"] == pytest.approx((predicted == windows.y).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(windows.y, predicted, average="macro"))
    recalls = [found[f"sensitivity_{label}"] for label in task.labels]
    assert np.mean(recalls) == pytest.approx(balanced_accuracy_score(windows.y, predicted))
    assert 0.5 < found["af_auc"] < 1.0


def test_two_classes_are_ranked_by_integer_differences() -> None:
    """Equal differences of logits are ties, whatever rounding the scale brings."""
    graph, task = network(2), TASKS["rhythm-af"]
    q = replace(quantized_student(graph, 5)[1], labels=TASKS["rhythm-af"].labels)
    rng = np.random.default_rng(0)
    outputs = rng.integers(-128, 128, (500, 2)).astype(np.int8)
    y = (rng.random(500) < 0.5).astype(np.int64)
    windows = Windows(np.zeros((500, 1, 60), np.float32), y, np.repeat("s", 500), 100.0, "synthetic", "none")
    expected = roc_auc_score(y, outputs[:, 1].astype(int) - outputs[:, 0])
    assert score_outputs(q, outputs, windows, task)["af_auc"] == pytest.approx(expected, abs=1e-12)


def test_outputs_of_any_runtime_are_scored_alike(case: tuple[str, QuantGraph, Windows]) -> None:
    name, q, windows = case
    outputs = reference.run(q, reference.quantize_input(q, windows.x))
    assert score_outputs(q, outputs, windows, TASKS[name]) == score_int8(q, windows, TASKS[name])
    other = score_outputs(q, outputs[::-1], windows, TASKS[name])
    assert other["af_auc"] != score_int8(q, windows, TASKS[name])["af_auc"]


def test_the_order_of_windows_changes_no_figure(case: tuple[str, QuantGraph, Windows]) -> None:
    name, q, windows = case
    shuffled = windows.take(np.random.default_rng(0).permutation(COUNT))
    assert score_int8(q, shuffled, TASKS[name]) == pytest.approx(score_int8(q, windows, TASKS[name]))


def test_windows_without_af_have_no_score(case: tuple[str, QuantGraph, Windows]) -> None:
    name, q, windows = case
    with pytest.raises(DataError):
        score_int8(q, windows.take(windows.y == 0), TASKS[name])


def test_a_student_of_another_task_is_refused(case: tuple[str, QuantGraph, Windows]) -> None:
    name, q, windows = case
    others = [other for other in TASKS.values() if len(other.outputs) != len(TASKS[name].outputs)]
    assert {other.kind for other in others} == {"classification", "regression"}
    for other in others:
        with pytest.raises(DataError, match="a student of "):
            score_int8(q, windows, other)


def test_windows_of_another_length_are_refused(case: tuple[str, QuantGraph, Windows]) -> None:
    name, q, windows = case
    short = Windows(windows.x[:, :, :50], windows.y, windows.subject, 100.0, "synthetic", "short")
    with pytest.raises(QuantizationError, match="60"):
        score_int8(q, short, TASKS[name])
