"""Metrics: thin over scikit-learn, numpy in, float out. Touches no files and no torch.

`score`, `logits` and `probabilities` are floats; `y` are class numbers 0..K-1 of shape (N,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.metrics import cohen_kappa_score, f1_score, recall_score, roc_auc_score

from hwnas.errors import DataError

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
ECE_BINS = 15


def roc_auc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of `score` (N,) for the windows marked `positive` (N,).

    Raises:
        DataError: no windows, a score that is not finite, or only one of the two classes: the curve does not exist.
    """
    positive = np.asarray(positive, dtype=bool)
    _check(score, positive)
    count = int(positive.sum())
    if count in (0, len(positive)):
        have = "negative" if count == 0 else "positive"
        raise DataError(f"all {len(positive)} windows are {have}: an AUC needs both classes; use more recordings")
    return float(roc_auc_score(positive, score))


def accuracy(predicted: Ints, y: Ints) -> float:
    """Share of windows whose predicted class is the true one."""
    _check(predicted, y)
    return float(np.mean(np.asarray(predicted) == np.asarray(y)))


def macro_f1(predicted: Ints, y: Ints) -> float:
    """Unweighted mean of F1 over the classes that occur in `y` (one without true windows has no recall to speak of)."""
    _check(predicted, y)
    return float(f1_score(y, predicted, labels=np.unique(y), average="macro", zero_division=0))


def f1s(predicted: Ints, y: Ints) -> dict[int, float]:
    """F1 per class that occurs in `y`."""
    _check(predicted, y)
    present = np.unique(y)
    return {int(c): float(f) for c, f in zip(present, f1_score(y, predicted, labels=present, average=None, zero_division=0), strict=True)}


def kappa(predicted: Ints, y: Ints) -> float:
    """Cohen's kappa: agreement beyond what the two distributions of classes give by chance.

    Raises:
        DataError: no windows, or all of them of one class: chance agrees as well, kappa says nothing.
    """
    _check(predicted, y)
    if len(np.unique(y)) < 2:
        raise DataError(f"all {len(y)} windows are of class {int(y[0])}: Cohen's kappa needs two classes at least; use more recordings")
    return float(cohen_kappa_score(y, predicted))


def sensitivities(predicted: Ints, y: Ints) -> dict[int, float]:
    """Recall per class that occurs in `y`; absent classes are left out, their recall is not a number."""
    _check(predicted, y)
    present = np.unique(y)
    recalls = recall_score(y, predicted, labels=present, average=None, zero_division=0)
    return {int(c): float(r) for c, r in zip(present, recalls, strict=True)}


def nll(logits: Floats, y: Ints) -> float:
    """Mean negative log-likelihood in nats of softmax(`logits` (N, K))."""
    _check(logits, y)
    logp = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    return float(-logp[np.arange(len(y)), y].mean())


def ece(logits: Floats, y: Ints) -> float:
    """Expected calibration error of softmax(`logits` (N, K)), top class, 15 bins of equal width.

    sum over bins of (share of windows in the bin) * |accuracy - mean confidence| (Guo et al., ICML 2017, eq. 3);
    a bin holds its upper edge, empty bins count nothing.
    """
    confidence, right, bins = confidence_bins(logits, y, ECE_BINS)
    gap = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(y))


def confidence_bins(logits: Floats, y: Ints, bins: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int_]]:
    """Of every window: softmax(`logits` (N, K)) of the top class, whether that class is right, and the number of its bin; each (N,).

    Bins are of equal width, and hold their upper edge.
    """
    _check(logits, y)
    p = np.exp(log_softmax(np.asarray(logits, dtype=np.float64), axis=1))
    confidence = p.max(axis=1)
    return confidence, p.argmax(axis=1) == y, np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def entropy_bits(logits: Floats) -> NDArray[np.float64]:
    """Entropy in bits of softmax(`logits` (N, K)) for every window: (N,), between 0 and log2 K."""
    logp = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    # exp(-inf) * -inf is nan, its limit is 0
    return np.asarray(-np.sum(np.exp(logp) * np.maximum(logp, -1e4), axis=1) / np.log(2) + 0.0)


def _check(values: NDArray[np.generic], y: NDArray[np.generic]) -> None:
    if len(y) == 0:
        raise DataError("no windows: a metric needs at least one")
    if len(values) != len(y):
        raise DataError(f"{len(values)} outputs for {len(y)} labels: they must be as many")
    if not np.isfinite(np.asarray(values, dtype=np.float64)).all():
        raise DataError("outputs hold NaN or infinity: the network diverged; train it again with a smaller learning rate")
