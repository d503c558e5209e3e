"""Statistics of few patients against closed forms, scipy, scikit-learn on windows really repeated, and coverage of simulated patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from hwnas.study import statistics
from hwnas.study.statistics import Folds, Interval, draws, everyone


def made(seed: int, patients: int = 6, windows: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores in steps of a tenth (so that there are ties), marks and patients of windows."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(patients, size=windows)
    positive = rng.random(windows) < 0.2 + 0.1 * patient
    score = np.round(rng.normal(size=windows) + positive, 1)
    return score, positive, patient


def repeated(weights: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Places of the windows, each as often as its patient was drawn."""
    return np.repeat(np.arange(len(patient)), weights[patient])


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_draws_are_those_of_windows_repeated(seed: int) -> None:
    score, positive, patient = made(seed)
    predicted, y = (score > 0.5).astype(np.int64) + (score > 1.5), positive.astype(np.int64) + (score > 2)
    auc = statistics.auc(score, positive, patient, 6)
    kappa = statistics.kappa(predicted, y, patient, 6, 3)
    mean = statistics.mean_of_windows(score, patient, 6)
    weights = draws(6, 40, np.random.default_rng(seed))
    for draw, a, k, m in zip(weights, auc(weights), kappa(weights), mean(weights), strict=True):
        places = repeated(draw, patient)
        assert a == pytest.approx(roc_auc_score(positive[places], score[places]), abs=1e-12)
        assert k == pytest.approx(cohen_kappa_score(y[places], predicted[places]), abs=1e-12)
        assert m == pytest.approx(score[places].mean(), abs=1e-12)


def test_what_does_not_exist_is_no_number() -> None:
    score, positive, patient = made(0)
    auc = statistics.auc(score, positive & (patient == 0), patient, 6)
    without = np.array([[0, 2, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    assert np.isnan(auc(without)).tolist() == [True, False]
    agreed = statistics.kappa(np.zeros(4, np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64), 1, 2)
    assert np.isnan(agreed(everyone(1))[0]), "agreement by chance is certain where there is one class"


def test_folds_count_by_their_patients() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, np.nan])
    parts = tuple(statistics.mean_of_patients(part) for part in (values[:2], values[2:4], values[4:]))
    folds = Folds(parts, (2, 2, 1))
    assert folds.each(everyone(5))[0].tolist()[:2] == [1.5, 6.0]
    assert folds(everyone(5))[0] == 3.75, "a fold without the metric is left out"
    # leave-one-out: a patient drawn twice counts twice, which a plain mean of folds would not see
    single = Folds(tuple(statistics.mean_of_patients(values[i : i + 1]) for i in range(4)), (1, 1, 1, 1))
    weights = draws(4, 50, np.random.default_rng(0))
    np.testing.assert_allclose(single(weights), weights @ values[:4] / 4)


def test_draws() -> None:
    weights = draws(7, 3000, np.random.default_rng(3))
    assert (weights.sum(axis=1) == 7).all() and (weights == draws(7, 3000, np.random.default_rng(3))).all()
    assert weights.mean(axis=0) == pytest.approx(1.0, abs=0.06) and weights.var(axis=0) == pytest.approx(6 / 7, abs=0.1)


def test_the_interval_of_a_mean_is_students() -> None:
    """Expanded percentiles of a bootstrapped mean are, for symmetric values, those of Student's t; plain ones are narrower by a quarter."""
    values = stats.norm.ppf((np.arange(10) + 0.5) / 10)
    samples = draws(10, 200_000, np.random.default_rng(0)) @ values / 10
    found = statistics.interval(values.mean(), samples, 10)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low, rel=0.05) and found.high == pytest.approx(expected.high, rel=0.05)
    assert np.quantile(samples, 0.975) < 0.85 * expected.high


def test_coverage_on_simulated_patients() -> None:
    """A difference of 0.3 for patients who differ by 1 is inside the interval 95 times of 100, also from ten patients."""
    rng, hits, count = np.random.default_rng(1), 0, 600
    weights = draws(10, 1000, rng)
    for _ in range(count):
        control = rng.normal(5, 3, size=10)
        arm = control + rng.normal(0.3, 1, size=10)
        a, b = (Folds((statistics.mean_of_patients(v[:5]), statistics.mean_of_patients(v[5:])), (5, 5)) for v in (arm, control))
        found = statistics.difference(a, b, weights)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / count <= 0.98


def folds_of(values: np.ndarray) -> Folds:
    return Folds((statistics.mean_of_patients(values[:4]), statistics.mean_of_patients(values[4:])), (4, len(values) - 4))


def test_a_known_difference() -> None:
    control = np.random.default_rng(0).normal(size=9)
    found = statistics.difference(folds_of(control + 0.25), folds_of(control), draws(9, 500, np.random.default_rng(0)))
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


@pytest.mark.parametrize("better", [1, -1])
def test_the_share_of_the_gap(better: int) -> None:
    rng, weights = np.random.default_rng(0), draws(9, 500, np.random.default_rng(0))
    control = rng.normal(size=9)
    lead = better * rng.uniform(1, 2, size=9)

    def share(arm: np.ndarray, teacher: np.ndarray) -> Interval:
        return statistics.share_closed(folds_of(arm), folds_of(control), folds_of(teacher), weights, better)

    half = share(control + lead / 2, control + lead)
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    assert share(control - lead / 2, control + lead).value == pytest.approx(-0.5), "a loss closes less than nothing"
    assert share(control + lead, control - lead) == Interval(None), "there is no gap where the teacher does not lead"
    doubtful = control + better * np.array([9.0, -8, 1, 1, -1, 2, -3, 1, 1])
    assert share(control + lead / 10, doubtful).value is not None
    assert share(control + lead / 10, doubtful).low is None, "no bounds where the lead may be none"


def test_paired_differences_are_scipys() -> None:
    differences = np.array([0.3, -0.1, 0.6, 0.2, np.nan, 0.4, 0.05])
    found = statistics.paired(differences)
    known = differences[np.isfinite(differences)]
    expected = stats.ttest_1samp(known, 0).confidence_interval(0.95)
    assert (found.mean.low, found.mean.high) == pytest.approx((expected.low, expected.high))
    assert (found.patients, found.larger, found.median) == (6, 5, pytest.approx(0.25))
    assert found.p == stats.wilcoxon(known).pvalue
    assert statistics.paired(np.zeros(4)).p == 1.0
    assert statistics.paired(np.array([0.5])).mean == Interval(0.5) and statistics.paired(np.full(3, np.nan)).mean == Interval(None)


def test_seeds() -> None:
    assert statistics.standard_error([1.0]) is None
    assert statistics.standard_error([1.0, 2.0, 4.0]) == pytest.approx(stats.sem([1.0, 2.0, 4.0]))
    fold = statistics.Average((statistics.mean_of_patients(np.array([1.0, 3.0])), statistics.mean_of_patients(np.array([2.0, 6.0]))))
    assert fold(everyone(2))[0] == 3.0


def test_too_few_patients_or_draws_give_no_interval() -> None:
    assert statistics.interval(0.4, np.full(100, 0.4), 1) == Interval(0.4)
    assert statistics.interval(0.4, np.where(np.arange(100) < 60, np.nan, 0.4), 8) == Interval(0.4)
    assert statistics.interval(np.nan, np.full(100, np.nan), 8) == Interval(None)
