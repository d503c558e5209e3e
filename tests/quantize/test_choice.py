"""The choice of the int8 form: PTQ where it costs nothing, QAT where that is better, a calibrated head always."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_task import PACE, TASK, Speed, graph, paced, trained, trained_bands, trained_pace, windows

from hwnas.errors import DataError, TrainingError
from hwnas.metrics import nll
from hwnas.quantize import choice, reference
from hwnas.quantize.choice import Shipped, calibrate, ship
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import QuantGraph
from hwnas.quantize.scoring import score_int8
from hwnas.quantize.sensitivity import one_in_int8
from hwnas.quantize.values import read_out
from hwnas.student import Student
from hwnas.teachers.cache import predict
from hwnas.train import Recipe, Targets

RECIPE = Recipe(name="qat", epochs=4, batch_size=32, learning_rate=2e-3, weight_decay=0.0, average=0.9)
LESSONS, VALIDATION = windows(400, 0), windows(400, 1)


def shipped(recipe: Recipe = RECIPE, allowed: float = TASK.loss_allowed) -> Shipped:
    task = replace(TASK, loss_allowed=allowed)
    return ship(trained(), (LESSONS.x, Targets(LESSONS.y)), VALIDATION, task, recipe, calibration_x=LESSONS.x, seed=0)


def rough(q: QuantGraph) -> QuantGraph:
    """`q` with up to a third of full scale added to every weight."""
    rng = np.random.default_rng(1)
    constants = {}
    for index, c in q.constants.items():
        moved = c.weights + rng.integers(-45, 46, c.weights.shape)
        constants[index] = replace(c, weights=moved.clip(-127, 127).astype(np.int8))
    return replace(q, constants=constants)


def test_ptq_that_costs_nothing_is_shipped_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "train_integers", lambda *_: pytest.fail("QAT was run"))
    found = shipped(allowed=0.01)
    assert (found.method, found.qat) == ("ptq", None)
    assert "PTQ costs" in found.reason and found.reason.endswith("; 1 are allowed")
    assert found.float_metrics["auc"] > 0.9 and abs(found.float_metrics["auc"] - found.ptq["auc"]) <= 0.01
    assert found.shipped == score_int8(found.q, VALIDATION, TASK)
    q = quantize(trained(), LESSONS.x, TASK.labels)
    assert all((found.q.constants[i].weights == c.weights).all() for i, c in q.constants.items())
    assert [row.node for row in found.sensitivity] == sorted(q.constants)


def test_qat_repairs_what_ptq_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "quantize", lambda *a: rough(quantize(*a)))
    found = shipped()
    assert found.qat is not None and found.method == "qat"
    lost, left = (found.float_metrics["accuracy"] - m["accuracy"] for m in (found.ptq, found.qat))
    assert lost > 0.02 and left < lost / 2
    assert "QAT" in found.reason and found.reason.endswith("QAT is shipped")
    assert found.shipped == score_int8(found.q, VALIDATION, TASK) != found.ptq


def test_qat_that_makes_it_worse_is_not_shipped() -> None:
    found = shipped(replace(RECIPE, epochs=1, learning_rate=1.0), allowed=-1.0)
    assert found.qat is not None and found.qat["auc"] < found.ptq["auc"]
    assert found.method == "ptq" and found.reason.endswith("PTQ is shipped")


def test_qat_that_diverges_leaves_ptq(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object) -> QuantGraph:
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(choice, "train_integers", diverge)
    found = shipped(allowed=-1.0)
    assert (found.method, found.qat) == ("ptq", None) and "QAT was not possible: the loss is nan" in found.reason


def test_every_form_ships_at_the_calibrated_temperature() -> None:
    found = shipped()
    assert found.confidence is not None
    assert found.temperature != pytest.approx(1.0, abs=0.01) and found.confidence.nll_after < found.confidence.nll_before
    x = reference.quantize_input(found.q, VALIDATION.x)
    outputs = reference.run(found.q, x)
    logits = reference.dequantize_output(found.q, outputs)
    assert nll(logits, VALIDATION.y) == pytest.approx(found.confidence.nll_after, rel=1e-5)
    assert calibrate(found.q, outputs, VALIDATION.y)[0] == pytest.approx(1.0, abs=0.01)
    exact = predict(found.student, VALIDATION.x)
    assert np.allclose(exact * found.temperature, predict(trained(), VALIDATION.x), atol=1e-5), "and so does the float student"
    assert TASK.metrics(exact, VALIDATION) == found.float_metrics
    assert np.abs(exact - logits).mean() < 3 * found.q.output.scale


def test_a_clear_gain_in_one_metric_decides() -> None:
    """Losses, the error's first: the smaller, unless the error tells nothing and another metric does."""
    assert choice._better({"auc": 0.01, "accuracy": 0.3}, {"auc": 0.1, "accuracy": 0.0}, 0.002)
    assert choice._better({"auc": 0.011, "accuracy": 0.0}, {"auc": 0.010, "accuracy": 0.3}, 0.002)
    assert not choice._better({"auc": 0.011, "accuracy": 0.1}, {"auc": 0.010, "accuracy": 0.1}, 0.002)


PACE_LESSONS, PACE_VALIDATION = paced(600, 0), paced(400, 1)


def shipped_pace(task: Speed) -> Shipped:
    lessons = PACE_LESSONS.x, Targets(PACE_LESSONS.y)
    return ship(trained_pace(), lessons, PACE_VALIDATION, task, RECIPE, calibration_x=PACE_LESSONS.x, seed=0)


def test_a_regression_ships_as_it_is_with_losses_in_its_unit() -> None:
    found = shipped_pace(replace(PACE, loss_allowed=2.0))
    assert found.float_metrics["mae_bpm"] < 5, "a constant answer has 30"
    assert (found.method, found.temperature, found.confidence) == ("ptq", 1.0, None) and found.q.labels == ("bpm",)
    lost = found.ptq["mae_bpm"] - found.float_metrics["mae_bpm"]
    assert found.reason == f"PTQ costs {lost:.2f} BPM of mae_bpm; 2 are allowed"
    assert found.shipped == score_int8(found.q, PACE_VALIDATION, PACE)
    exact, again = predict(trained_pace(), PACE_VALIDATION.x), predict(found.student, PACE_VALIDATION.x)
    assert np.array_equal(exact, again), "there is no head to calibrate"
    outputs = reference.run(found.q, reference.quantize_input(found.q, PACE_VALIDATION.x))
    y = read_out(found.q, outputs) / 256
    assert np.abs(y - PACE_VALIDATION.y).mean() == pytest.approx(found.shipped["mae_bpm"], abs=1 / 200)


def test_a_regression_that_int8_spoils_is_trained_in_its_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "quantize", lambda *a: rough(quantize(*a)))
    found = shipped_pace(PACE)
    assert found.qat is not None and found.method == "qat" and "BPM of mae_bpm" in found.reason
    lost, left = (m["mae_bpm"] - found.float_metrics["mae_bpm"] for m in (found.ptq, found.qat))
    assert lost > 1.0 and left < lost / 2
    assert found.shipped == score_int8(found.q, PACE_VALIDATION, PACE) == found.qat


def shipped_bands(task: Speed) -> Shipped:
    lessons = PACE_LESSONS.x, Targets(PACE_LESSONS.y)
    return ship(trained_bands(), lessons, PACE_VALIDATION, task, RECIPE, calibration_x=PACE_LESSONS.x, seed=0)


def test_classes_of_a_value_ship_without_a_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end in a convolution, which has none; the read-out is the expectation that the metrics are of."""
    for name in ("with_temperature", "with_head_at"):
        monkeypatch.setattr(choice, name, lambda *_: pytest.fail("a temperature was asked for"))
    found = shipped_bands(replace(PACE, loss_allowed=2.0))
    assert found.float_metrics["mae_bpm"] < 2
    assert (found.method, found.temperature, found.confidence) == ("ptq", 1.0, None) and found.q.labels == PACE.answers(36)
    assert found.reason.endswith("BPM of mae_bpm; 2 are allowed")
    assert np.array_equal(predict(trained_bands(), PACE_VALIDATION.x), predict(found.student, PACE_VALIDATION.x))
    outputs = reference.run(found.q, reference.quantize_input(found.q, PACE_VALIDATION.x))
    y = read_out(found.q, outputs) / 256
    assert np.abs(y - PACE_VALIDATION.y).mean() == pytest.approx(found.shipped["mae_bpm"], abs=1 / 20)
    assert [row.node for row in found.sensitivity] == sorted(found.q.constants)


def test_classes_of_a_value_that_int8_spoils_are_trained_in_their_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "quantize", lambda *a: rough(quantize(*a)))
    found = shipped_bands(PACE)
    assert found.qat is not None and found.method == "qat"
    lost, left = (m["mae_bpm"] - found.float_metrics["mae_bpm"] for m in (found.ptq, found.qat))
    assert lost > 1.0 and left < lost / 2
    assert found.shipped == score_int8(found.q, PACE_VALIDATION, PACE) == found.qat


def test_a_student_of_other_outputs_than_its_task_is_refused() -> None:
    for outputs, task, message in (
        (7, PACE, "7 classes of heart rate"),
        (3, TASK, "3 outputs for task speed, which tells 2 classes"),
    ):
        with pytest.raises(DataError, match=message):
            ship(
                Student(graph(outputs=outputs)),
                (LESSONS.x, Targets(LESSONS.y)),
                VALIDATION,
                task,
                RECIPE,
                calibration_x=LESSONS.x,
                seed=0,
            )


def test_sensitivity_of_a_regression_is_in_its_unit() -> None:
    found = shipped_pace(replace(PACE, loss_allowed=2.0))
    assert [row.node for row in found.sensitivity] == sorted(found.q.constants)
    for row in found.sensitivity:
        mixed = PACE.metrics(predict(one_in_int8(found.student, found.q, row.node), PACE_VALIDATION.x), PACE_VALIDATION)
        assert row.loss == pytest.approx(mixed["mae_bpm"] - found.float_metrics["mae_bpm"])
