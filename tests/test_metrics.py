"""Metrics against counts by hand and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas import metrics
from hwnas.errors import DataError


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_ordered_pairs(rows: list[tuple[int, bool]]) -> None:
    score, positive = np.array([float(r[0]) for r in rows]), np.array([r[1] for r in rows])
    if positive.all() or not positive.any():
        with pytest.raises(DataError, match="both classes"):
            metrics.roc_auc(score, positive)
        return
    difference = score[positive][:, None] - score[~positive][None, :]
    assert metrics.roc_auc(score, positive) == pytest.approx(np.mean((difference > 0) + 0.5 * (difference == 0)))


def test_accuracy_f1_and_sensitivity_by_hand() -> None:
    y = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 3, 2])
    assert metrics.accuracy(predicted, y) == pytest.approx(4 / 6)
    assert metrics.sensitivities(predicted, y) == pytest.approx({0: 2 / 3, 1: 1 / 2, 2: 1.0})
    # class 3 does not occur in y: it costs class 1 its recall, and is not averaged
    assert metrics.macro_f1(predicted, y) == pytest.approx(np.mean([4 / 5, 2 / 4, 1.0]))


def test_nll_ece_entropy_closed_forms() -> None:
    even = np.zeros((8, 4))
    y = np.arange(8) % 4
    assert metrics.nll(even, y) == pytest.approx(np.log(4))
    assert metrics.entropy_bits(even) == pytest.approx(np.full(8, 2.0))
    # confidence 1/4 and accuracy 2/8 (argmax of ties is class 0): calibrated
    assert metrics.ece(even, y) == pytest.approx(0.0)
    sure = np.array([[50.0, 0.0], [50.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    assert metrics.ece(sure, np.array([0, 1, 0, 1])) == pytest.approx(0.25)
    assert metrics.entropy_bits(np.array([[1e4, 0.0, -1e4]])) == pytest.approx([0.0])


def test_ece_separates_bins() -> None:
    def logits(p: float) -> list[float]:
        return [np.log(p), np.log(1 - p)]

    # 0.9 right once of two, 0.6 right always: gaps 0.4 and 0.4, in two bins of half the windows each
    x = np.array([logits(0.9), logits(0.9), logits(0.6), logits(0.6)])
    assert metrics.ece(x, np.array([0, 1, 0, 0])) == pytest.approx(0.4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        metrics.roc_auc(np.array([0.0, bad]), np.array([True, False]))
    with pytest.raises(DataError, match="NaN or infinity"):
        metrics.nll(np.array([[0.0, bad]]), np.array([0]))


def test_no_windows_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="no windows"):
        metrics.accuracy(np.array([], int), np.array([], int))
    with pytest.raises(DataError, match="3 outputs for 2 labels"):
        metrics.macro_f1(np.array([0, 1, 1]), np.array([0, 1]))
