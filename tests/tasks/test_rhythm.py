"""The tasks: score, metrics, and the splits of the real patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks import TASKS, Windows, split_by_subject
from hwnas.tasks.rhythm import af_score


def test_af_score_is_the_log_odds_of_af() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 6)) * 3
    p = np.exp(logits)
    p = p[:, -1] / p.sum(axis=1)
    assert np.allclose(af_score(logits), np.log(p / (1 - p)))
    # float32 softmax would give 1.0 for both; the score still tells them apart
    far = np.array([[0.0, 60.0], [0.0, 80.0]], dtype=np.float32)
    assert af_score(far)[0] < af_score(far)[1]


def labelled(y: NDArray[np.int64]) -> Windows:
    """Windows of these classes; metrics look at no signal."""
    return Windows(np.zeros((len(y), 1, 8), np.float32), y, np.repeat("s", len(y)), 100.0, "synthetic", "made")


def test_metrics_names_and_values() -> None:
    task = TASKS["rhythm"]
    y = np.array([0, 1, 2, 3, 4, 5])
    found = task.metrics(np.eye(6)[y] * 5, labelled(y))
    assert set(found) == {"af_auc", "accuracy", "macro_f1", *(f"sensitivity_{name}" for name in task.labels)}
    assert all(v == 1.0 for v in found.values()) and task.primary in found
    some = task.metrics(np.eye(6)[[0, 5, 0, 5]] * 5, labelled(np.array([0, 0, 5, 5])))
    assert set(some) == {"af_auc", "accuracy", "macro_f1", "sensitivity_sinus", "sensitivity_af"}
    assert set(some.values()) == {0.5}


def test_metrics_refuse_one_class_and_other_widths() -> None:
    with pytest.raises(DataError, match="needs both classes"):
        TASKS["rhythm-af"].metrics(np.zeros((3, 2)), labelled(np.ones(3, np.int64)))
    with pytest.raises(DataError, match=r"shape \(3, 2\), expected \(windows, 6\)"):
        TASKS["rhythm"].metrics(np.zeros((3, 2)), labelled(np.ones(3, np.int64)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_class_of_the_real_patients_is_in_every_part(liu_dir: Path, seed: int) -> None:
    data = TASKS["rhythm"].load(liu_dir, window_s=None, seed=0)
    split = split_by_subject(data, seed, TASKS["rhythm"])
    for part in (split.train, split.validation, split.test):
        assert (np.bincount(part.y, minlength=6) >= 20).all()
    assert [len(p.subjects) for p in (split.train, split.validation, split.test)] == [16, 6, 6]
    assert 0.5 < len(split.train) / len(data) < 0.7
