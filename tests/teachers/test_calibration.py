"""Calibration: a known temperature is found again, and the soft-label check says what it sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from hwnas.errors import DataError
from hwnas.metrics import nll
from hwnas.teachers.calibration import borderline, calibrate, check_entropy, distillation_temperature, fit_temperature


def sample(seed: int, count: int = 20_000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(count, classes))
    y = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return logits, np.minimum(y, classes - 1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, y = sample(0)
    assert fit_temperature(logits * temperature, y) == pytest.approx(temperature, rel=0.04)


@given(seed=st.integers(0, 100), scale=st.floats(0.2, 8.0))
def test_no_other_temperature_is_better(seed: int, scale: float) -> None:
    logits, y = sample(seed, count=200)
    best = fit_temperature(logits * scale, y)
    at_best = nll(logits * scale / best, y)
    for factor in (0.7, 0.95, 1.05, 1.4):
        assert at_best <= nll(logits * scale / (best * factor), y) + 1e-9


def test_scaling_the_logits_scales_the_temperature() -> None:
    logits, y = sample(1, count=2000)
    assert fit_temperature(3 * logits, y) == pytest.approx(3 * fit_temperature(logits, y), rel=1e-3)


def test_borderline_is_the_margin_of_the_two_likeliest() -> None:
    p = np.array([[0.55, 0.45, 0.0], [0.61, 0.39, 0.0], [0.4, 0.25, 0.35], [0.98, 0.01, 0.01]])
    assert borderline(np.log(p + 1e-12)).tolist() == [True, False, True, False]


def test_entropy_check_passes_a_teacher_that_hesitates_and_fails_one_that_never_does() -> None:
    unsure = np.log(np.full((10, 4), 0.25))
    check = check_entropy(unsure, 1.0, "validation")
    assert check.passed and check.verdict.startswith("passed") and check.borderline == 10
    assert check.mean_bits == pytest.approx(2.0)
    sure = check_entropy(20.0 * np.eye(4), 1.0, "training")
    assert not sure.passed and sure.mean_bits is None and sure.verdict.startswith("failed: 0 of 4 training windows")


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 3.0), (2.4, 3.0), (4.0, 5.0), (20.0, 8.0)])
def test_distillation_temperature_is_a_little_above_and_within_3_to_8(temperature: float, expected: float) -> None:
    assert distillation_temperature(temperature) == pytest.approx(expected)


def test_calibrate_reports_both_sides() -> None:
    logits, y = sample(2)
    got = calibrate(5 * logits, y, 5 * logits[:500])
    assert got.temperature == pytest.approx(5, rel=0.05) and got.distillation_temperature == pytest.approx(1.25 * got.temperature)
    assert got.nll_after < got.nll_before and got.ece_after < 0.02 < got.ece_before
    assert got.entropy_validation.windows == 20_000 and got.entropy_targets.windows == 500


def test_nothing_to_calibrate_on_is_an_error() -> None:
    with pytest.raises(DataError):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(DataError, match="NaN"):
        fit_temperature(np.full((4, 3), np.nan), np.zeros(4, dtype=int))


def test_a_good_calibration_raises_no_doubts() -> None:
    logits, y = sample(2)
    assert calibrate(5 * logits, y, logits, subjects=20).doubts == ()


def test_a_temperature_above_ten_is_doubted() -> None:
    logits, y = sample(2)
    (doubt,) = calibrate(12 * logits, y, logits, subjects=20).doubts
    assert doubt.startswith("calibration temperature 12") and "learned its training subjects by heart" in doubt


def test_what_stays_wrong_is_said_with_the_likeliest_reason() -> None:
    """Half of the windows are less sure and more often right than the others: no one temperature makes both right."""
    rng, even = np.random.default_rng(0), np.arange(4000) % 2 == 0
    y = rng.integers(0, 4, 4000)
    told = np.where(rng.random(4000) < np.where(even, 0.85, 0.6), y, (y + rng.integers(1, 4, 4000)) % 4)
    logits = np.where(even, 2.0, 2.5)[:, None] * np.eye(4)[told]
    for count, subjects, reason in (
        (4000, 20, "one temperature does not make classes right"),
        (4000, 3, "4000 validation windows of 3 subject(s) are few"),
        (100, 20, "100 validation windows of 20 subject(s) are few"),
        (100, None, "100 validation windows are few"),
    ):
        got = calibrate(logits[:count], y[:count], logits, subjects=subjects)
        assert got.ece_after > 0.05 and len(got.doubts) == 1
        assert f"ECE {got.ece_after:.3f} after calibration, above 0.05" in got.doubts[0] and reason in got.doubts[0]


def test_a_bias_that_no_temperature_removes_is_called_by_its_name() -> None:
    """Wrong more often than not, so that the best temperature is the highest and the network still seems surer than it is."""
    y = np.arange(1000) % 2
    logits = 40.0 * np.eye(2)[np.where(np.arange(1000) % 10 < 3, y, 1 - y)]
    got = calibrate(logits, y, logits, subjects=20)
    assert got.temperature > 10 and len(got.doubts) == 2 and "it stays over-confident by 0." in got.doubts[1]


def test_the_check_says_which_windows_it_saw() -> None:
    logits, y = sample(2, count=500)
    assert "training (cross-fitted) windows" in calibrate(logits, y, logits, where="training (cross-fitted)").entropy_targets.verdict
