"""Tasks `sleep`, `sleep-quiet`, `sleep-noisy`, `sleep-ecg`: what they read, and metrics against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas import metrics
from hwnas.errors import DataError
from hwnas.tasks import TASKS, Windows

SLEEP = TASKS["sleep"]


def windows(y: list[int]) -> Windows:
    n = len(y)
    return Windows(
        np.zeros((n, 1, 1500), np.float32), np.array(y, dtype=np.int64), np.array(["a"] * n), rate_hz=50.0, source="real", name="made"
    )


def outputs(predicted: list[int]) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[predicted] * 3 - 1


def test_what_the_tasks_read() -> None:
    assert SLEEP.labels == SLEEP.outputs == ("wake", "light", "deep", "rem")
    assert (SLEEP.kind, SLEEP.channels, SLEEP.teacher_channels, SLEEP.needed) == ("classification", ("bcg",), ("ecg",), ())
    made = {
        name: task.load(None, window_s=30.0, seed=2, subjects=3, windows=12) for name, task in TASKS.items() if name.startswith("sleep")
    }
    assert sorted(made) == ["sleep", "sleep-ecg", "sleep-noisy", "sleep-quiet"]
    bcg, ecg = made["sleep"], made["sleep-ecg"]
    assert ecg.teacher_x is None and np.array_equal(ecg.x, bcg.seen_by_teacher) and TASKS["sleep-ecg"].channels == ("ecg",)
    for name in ("sleep-quiet", "sleep-noisy"):
        assert np.array_equal(made[name].seen_by_teacher, bcg.seen_by_teacher) and not np.array_equal(made[name].x, bcg.x)
    with pytest.raises(DataError, match="scored in epochs of 30 s"):
        SLEEP.load(None, window_s=10.0, seed=0)


def test_metrics_by_hand() -> None:
    #        wake wake light light light light deep deep
    y, said = [0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 2, 2, 3]
    found = SLEEP.metrics(outputs(said), windows(y))
    chance = (2 * 1 + 4 * 4 + 2 * 2 + 0 * 1) / 64
    assert found["accuracy"] == pytest.approx(5 / 8)
    assert found["kappa"] == pytest.approx((5 / 8 - chance) / (1 - chance))
    assert SLEEP.error(found) == pytest.approx(1 - found["kappa"])
    assert [found[f"sensitivity_{s}"] for s in ("wake", "light", "deep")] == pytest.approx([1 / 2, 3 / 4, 1 / 2])
    assert [found[f"f1_{s}"] for s in ("wake", "light", "deep")] == pytest.approx([2 / 3, 3 / 4, 1 / 2])
    assert found["macro_f1"] == pytest.approx(np.mean([2 / 3, 3 / 4, 1 / 2]))
    assert "f1_rem" not in found and "sensitivity_rem" not in found


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_kappa_from_the_table_of_counts(pairs: list[tuple[int, int]]) -> None:
    y, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    if len(set(y)) < 2:
        with pytest.raises(DataError, match="two classes"):
            metrics.kappa(predicted, y)
        return
    table = np.zeros((4, 4))
    for a, b in pairs:
        table[a, b] += 1
    table /= len(pairs)
    agreed, chance = np.trace(table), float(table.sum(axis=1) @ table.sum(axis=0))
    assert metrics.kappa(predicted, y) == pytest.approx((agreed - chance) / (1 - chance))


def test_a_guess_has_no_kappa_and_the_truth_has_one() -> None:
    y = [0, 1, 2, 3] * 5
    assert SLEEP.metrics(outputs(y), windows(y))["kappa"] == pytest.approx(1.0)
    assert SLEEP.metrics(outputs([1] * 20), windows(y))["kappa"] == pytest.approx(0.0)


def test_outputs_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected \(windows, 4\)"):
        SLEEP.metrics(np.zeros((2, 3)), windows([0, 1]))
    with pytest.raises(DataError, match="NaN"):
        SLEEP.metrics(np.full((2, 4), np.nan), windows([0, 1]))
    with pytest.raises(DataError, match="two classes"):
        SLEEP.metrics(outputs([0, 1]), windows([1, 1]))
    with pytest.raises(DataError, match="as many"):
        SLEEP.metrics(outputs([0, 1, 2]), windows([1, 0]))
