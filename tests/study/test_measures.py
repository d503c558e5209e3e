"""What students are compared by, against the tasks' own metrics and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.study.measures import ENOUGH, measures, values_bpm
from hwnas.study.statistics import everyone
from hwnas.tasks import TASKS, Windows, bpm
from hwnas.tasks.tracking import clip_to_recent


def windows(task: str, y: np.ndarray, subjects: int = 4) -> Windows:
    """Windows of no content, of `subjects` one after the other in turn."""
    names = np.array([f"s{i % subjects}" for i in range(len(y))])
    return Windows(np.zeros((len(y), 1, 2), np.float32), y, names, TASKS[task].rate_hz, "synthetic", "made")


@pytest.mark.parametrize("task", ["rhythm", "rhythm-af", "sleep"])
def test_a_fold_has_the_tasks_own_metrics(task: str) -> None:
    rng, labels = np.random.default_rng(0), TASKS[task].labels
    part = windows(task, rng.integers(len(labels), size=300))
    outputs = (2 * rng.normal(size=(300, len(labels))) + np.eye(len(labels))[part.y]).astype(np.float32)
    metrics, found = TASKS[task].metrics(outputs, part), measures(TASKS[task])
    assert found[0].name == TASKS[task].primary
    for measure in found:
        if measure.name in metrics:
            assert measure.score(outputs, part).pooled(everyone(4))[0] == pytest.approx(metrics[measure.name], abs=1e-9)
        for i, subject in enumerate(part.subjects):
            own = part.take(part.subject == subject)
            if measure.name in metrics and measure.name != "macro_f1":
                expected = TASKS[task].metrics(outputs[part.subject == subject], own)[measure.name]
                value = measure.score(outputs, part).patients[i]
                assert np.isnan(value) or value == pytest.approx(expected, abs=1e-9)


def test_an_auc_needs_enough_of_both_kinds() -> None:
    y = np.concatenate([np.repeat([0, 1], [ENOUGH, ENOUGH]), np.repeat([0, 1], [ENOUGH, ENOUGH - 1]), np.zeros(30, np.int64)])
    names = np.repeat(["a", "b", "c"], [2 * ENOUGH, 2 * ENOUGH - 1, 30])
    part = Windows(np.zeros((len(y), 1, 2), np.float32), y, names, 100.0, "synthetic", "made")
    auc, brier, _ = measures(TASKS["rhythm-af"])
    outputs = np.stack([np.zeros(len(y)), np.where(y == 1, 1.0, -1.0)], axis=1)
    assert np.isfinite(auc.score(outputs, part).patients).tolist() == [True, False, False]
    assert auc.score(outputs, part).patients[0] == 1.0
    # p of AF is 1 / (1 + e) on the wrong side everywhere
    np.testing.assert_allclose(brier.score(outputs, part).patients, (1 / (1 + np.e)) ** 2)
    assert (auc.better, brier.better) == (1, -1)


def test_heart_rate() -> None:
    rng = np.random.default_rng(0)
    part = windows("heart_rate", rng.uniform(60, 120, size=90).astype(np.float32), 3)
    found = part.y + rng.normal(0, 15, size=90)
    outputs = bpm.to_output(found)[:, None]
    raw, clipped = measures(TASKS["heart_rate"])
    metrics = TASKS["heart_rate"].metrics(outputs, part)
    assert raw.name == TASKS["heart_rate"].primary and raw.unit == "BPM"
    assert raw.score(outputs, part).pooled(everyone(3))[0] == pytest.approx(metrics["mae_subjects_bpm"])
    expected = np.abs(clip_to_recent(bpm.from_output(outputs[:, 0]), part.subject) - part.y)
    own = [expected[part.subject == s].mean() for s in part.subjects]
    np.testing.assert_allclose(clipped.score(outputs, part).patients, own)
    logits = np.log(bpm.soft_targets(part.y, 3.0) + 1e-12)
    np.testing.assert_allclose(values_bpm(logits), part.y, atol=0.05)
