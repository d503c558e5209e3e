"""What a comparison on few patients may claim: metrics as functions of patients, bootstrap intervals, paired differences. numpy and scipy.

A metric of a fold is kept as what each patient (and, of an AUC, each pair of patients) brings to it, so that a thousand draws of patients
are weighed at once and exactly. `weights` (B, P) say how often each of P patients is counted in each of B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEVEL = 0.95
DRAWS = 4000


class Statistic(Protocol):
    """A metric of a group of patients."""

    def __call__(self, weights: NDArray[np.integer[Any]]) -> Floats:
        """The metric (B,) of every draw; NaN where the patients drawn do not have one."""


@dataclass(frozen=True, eq=False)
class Auc:
    """Area under the ROC curve over all windows of the patients drawn.

    Attributes:
        above: (P, P): over windows i of the first and j of the second patient, i positive, j negative: how often i is higher, ties half.
        positives, negatives: windows (P,) of each kind.
    """

    above: Floats
    positives: Ints
    negatives: Ints

    def __call__(self, weights: NDArray[np.integer[Any]]) -> Floats:
        return _ratio(np.sum(weights @ self.above * weights, axis=1), (weights @ self.positives) * (weights @ self.negatives))


@dataclass(frozen=True, eq=False)
class Ratio:
    """A mean: what each patient (P,) adds to the sum, and to the count that it is divided by."""

    total: Floats
    count: NDArray[np.integer[Any]]

    def __call__(self, weights: NDArray[np.integer[Any]]) -> Floats:
        return _ratio(weights @ self.total, weights @ self.count)


@dataclass(frozen=True, eq=False)
class Kappa:
    """Cohen's kappa over all windows of the patients drawn, from the confusion (P, K, K) of each: true class first."""

    confusion: Ints

    def __call__(self, weights: NDArray[np.integer[Any]]) -> Floats:
        confusion = np.einsum("bp,pij->bij", weights, self.confusion).astype(np.float64)
        windows = confusion.sum(axis=(1, 2))
        agreed = _ratio(np.einsum("bii->b", confusion), windows)
        by_chance = _ratio(np.einsum("bi,bi->b", confusion.sum(axis=2), confusion.sum(axis=1)), windows**2)
        return _ratio(agreed - by_chance, 1 - by_chance)


def auc(score: NDArray[np.floating[Any]], positive: NDArray[np.bool_], patient: Ints, patients: int) -> Auc:
    """The AUC of `score` (N,) for the windows marked `positive` (N,); `patient` (N,) counts from 0 to `patients` - 1."""
    above = np.zeros((patients, patients))
    lower = [np.sort(score[(patient == q) & ~positive]) for q in range(patients)]
    for p in range(patients):
        own = score[(patient == p) & positive]
        for q in range(patients):
            left, right = np.searchsorted(lower[q], own, "left"), np.searchsorted(lower[q], own, "right")
            above[p, q] = (left + right).sum() / 2
    return Auc(above, np.bincount(patient[positive], minlength=patients), np.bincount(patient[~positive], minlength=patients))


def mean_of_windows(values: NDArray[np.floating[Any]], patient: Ints, patients: int) -> Ratio:
    """The mean of `values` (N,), every window counted alike."""
    total = np.bincount(patient, weights=values, minlength=patients)
    return Ratio(np.asarray(total, dtype=np.float64), np.bincount(patient, minlength=patients))


def mean_of_patients(values: Floats) -> Ratio:
    """The mean of `values` (P,), every patient counted alike; NaN is a patient without one."""
    known = np.isfinite(values)
    return Ratio(np.where(known, values, 0.0), known.astype(np.int64))


def kappa(predicted: Ints, y: Ints, patient: Ints, patients: int, classes: int) -> Kappa:
    """Cohen's kappa of classes `predicted` (N,) for `y` (N,)."""
    confusion = np.zeros((patients, classes, classes), dtype=np.int64)
    np.add.at(confusion, (patient, y, predicted), 1)
    return Kappa(confusion)


@dataclass(frozen=True)
class Average:
    """The mean of several: of the seeds of one training."""

    of: tuple[Statistic, ...]

    def __call__(self, weights: NDArray[np.integer[Any]]) -> Floats:
        return np.asarray(np.mean([each(weights) for each in self.of], axis=0), dtype=np.float64)


@dataclass(frozen=True)
class Folds:
    """The mean over folds, each with the weight of its patients; patients are numbered fold by fold.

    A fold without the metric in a draw (no window of one kind) is left out of that draw.
    """

    of: tuple[Statistic, ...]
    patients: tuple[int, ...]

    def each(self, weights: NDArray[np.integer[Any]]) -> Floats:
        """The metric (B, F) of every fold."""
        parts = np.split(weights, np.cumsum(self.patients)[:-1], axis=1)
        return np.stack([fold(part) for fold, part in zip(self.of, parts, strict=True)], axis=1)

    def __call__(self, weights: NDArray[np.integer[Any]]) -> Floats:
        values = self.each(weights)
        drawn = np.stack([part.sum(axis=1) for part in np.split(weights, np.cumsum(self.patients)[:-1], axis=1)], axis=1)
        known = np.isfinite(values)
        return _ratio(np.where(known, values * drawn, 0.0).sum(axis=1), np.where(known, drawn, 0).sum(axis=1))


def everyone(patients: int) -> Ints:
    """The weights (1, P) of the patients as they are."""
    return np.ones((1, patients), dtype=np.int64)


def draws(patients: int, count: int, generator: np.random.Generator) -> Ints:
    """Weights (count, P) of `count` bootstrap samples: as many patients as there are, drawn with replacement."""
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=count)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval; None where there is no telling."""

    value: float | None
    low: float | None = None
    high: float | None = None


def interval(value: float, samples: Floats, patients: int) -> Interval:
    """The expanded percentile interval of `samples` (B,), bootstrap values of `value` over that many patients.

    A percentile interval of n values is too narrow by sqrt((n - 1) / n) and by the normal in place of Student's t; both are made good in
    the levels of its percentiles (Hesterberg, The American Statistician 2015, section 4.1). Draws without a value are left out.
    """
    known = samples[np.isfinite(samples)]
    if not np.isfinite(value):
        return Interval(None)
    if patients < 2 or len(known) < len(samples) / 2:
        return Interval(float(value))
    reach = np.sqrt(patients / (patients - 1)) * stats.t.ppf((1 + LEVEL) / 2, patients - 1)
    low, high = np.quantile(known, stats.norm.cdf([-reach, reach]))
    return Interval(float(value), float(low), float(high))


def difference(a: Folds, b: Folds, weights: Ints) -> Interval:
    """a - b over the same patients, with its interval from the draws `weights`."""
    patients = weights.shape[1]
    one = everyone(patients)
    return interval(float((a(one) - b(one))[0]), a(weights) - b(weights), patients)


def share_closed(arm: Folds, control: Folds, teacher: Folds, weights: Ints, better: int) -> Interval:
    """(arm - control) / (teacher - control): how much of the teacher's lead an arm gains; `better` is the sign of a gain.

    There is no share where the teacher does not lead, and no interval where its lead may be none: a ratio whose denominator may be zero
    has no bounded interval (Fieller 1954).
    """
    lead = difference(teacher, control, weights)
    if lead.value is None or lead.value * better <= 0:
        return Interval(None)
    patients = weights.shape[1]
    one = everyone(patients)
    share = float((arm(one) - control(one))[0]) / lead.value
    if lead.low is None or lead.high is None or lead.low * lead.high <= 0:
        return Interval(share)
    gaps = teacher(weights) - control(weights)
    leads = gaps * better > 0
    ratios = np.where(leads, (arm(weights) - control(weights)) / np.where(leads, gaps, 1.0), np.nan)
    return interval(share, ratios, patients)


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of values from several seeds; None from one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class Paired:
    """Differences of as many patients, one each.

    Attributes:
        mean: with Student's interval.
        larger: patients with a difference above 0.
        p: of Wilcoxon's signed-rank test that differences are symmetric about 0.
    """

    patients: int
    mean: Interval
    median: float | None
    larger: int
    p: float | None


def paired(differences: Floats) -> Paired:
    """What the differences (P,) of patients say; NaN is a patient without one."""
    known = differences[np.isfinite(differences)]
    count, larger = len(known), int((known > 0).sum())
    if count < 2:
        value = float(known[0]) if count else None
        return Paired(count, Interval(value), value, larger, None)
    mean, error = float(known.mean()), float(known.std(ddof=1) / np.sqrt(count))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    # ties make the exact distribution another one, which scipy finds by going through all 2^n signs
    tied = len(np.unique(np.abs(known))) < count or not known.all()
    p = float(stats.wilcoxon(known, method="asymptotic" if tied else "exact").pvalue) if known.any() else 1.0
    return Paired(count, Interval(mean, mean - reach, mean + reach), float(np.median(known)), larger, p)


def _ratio(total: NDArray[Any], count: NDArray[Any]) -> Floats:
    """total / count, NaN where count is 0."""
    some = count != 0
    return np.asarray(np.where(some, total / np.where(some, count, 1), np.nan), dtype=np.float64)
