"""The choice of the int8 form: PTQ where it costs nothing, QAT where that is better, a calibrated head always."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_task import TASK, trained, windows

from hwnas.errors import TrainingError
from hwnas.metrics import nll
from hwnas.quantize import choice, reference
from hwnas.quantize.choice import Shipped, calibrate, ship
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import QuantGraph
from hwnas.quantize.scoring import score_int8
from hwnas.teachers.cache import predict
from hwnas.train import Recipe, Targets

RECIPE = Recipe(name="qat", epochs=4, batch_size=32, learning_rate=2e-3, weight_decay=0.0, average=0.9)
LESSONS, VALIDATION = windows(400, 0), windows(400, 1)


def shipped(recipe: Recipe = RECIPE) -> Shipped:
    return ship(trained(), (LESSONS.x, Targets(LESSONS.y)), VALIDATION, TASK, recipe, calibration_x=LESSONS.x, seed=0)


def rough(q: QuantGraph) -> QuantGraph:
    """`q` with up to a third of full scale added to every weight."""
    rng = np.random.default_rng(1)
    constants = {}
    for index, c in q.constants.items():
        moved = c.weights + rng.integers(-45, 46, c.weights.shape)
        constants[index] = replace(c, weights=moved.clip(-127, 127).astype(np.int8))
    return replace(q, constants=constants)


def test_ptq_that_costs_nothing_is_shipped_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "LOSS_ALLOWED", 0.01)
    monkeypatch.setattr(choice, "train_integers", lambda *_: pytest.fail("QAT was run"))
    found = shipped()
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


def test_qat_that_makes_it_worse_is_not_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "LOSS_ALLOWED", -1.0)
    found = shipped(replace(RECIPE, epochs=1, learning_rate=1.0))
    assert found.qat is not None and found.qat["auc"] < found.ptq["auc"]
    assert found.method == "ptq" and found.reason.endswith("PTQ is shipped")


def test_qat_that_diverges_leaves_ptq(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object) -> QuantGraph:
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(choice, "LOSS_ALLOWED", -1.0)
    monkeypatch.setattr(choice, "train_integers", diverge)
    found = shipped()
    assert (found.method, found.qat) == ("ptq", None) and "QAT was not possible: the loss is nan" in found.reason


def test_every_form_ships_at_the_calibrated_temperature() -> None:
    found = shipped()
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
    watched = ["auc", "accuracy"]
    assert choice._better({"auc": 0.9, "accuracy": 0.6}, {"auc": 0.8, "accuracy": 0.9}, watched)
    assert choice._better({"auc": 0.900, "accuracy": 0.9}, {"auc": 0.901, "accuracy": 0.6}, watched)
    assert not choice._better({"auc": 0.900, "accuracy": 0.8}, {"auc": 0.901, "accuracy": 0.8}, watched)
