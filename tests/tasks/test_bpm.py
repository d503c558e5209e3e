"""Classes of heart rate: their middles, what joining them does, soft targets and the expectation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import DataError
from hwnas.tasks import bpm

COUNTS = [n for n in range(2, 181) if 180 % n == 0]


@pytest.mark.parametrize("count", COUNTS)
def test_middles_share_one_range_evenly(count: int) -> None:
    middles, width = bpm.values_bpm(count), 180 // count
    assert len(middles) == count and np.allclose(np.diff(middles), width)
    # the same lower and upper edge, 29.5 and 209.5 BPM, for every number of classes
    assert middles[0] - width / 2 == 29.5 and middles[-1] + width / 2 == 209.5
    assert np.allclose(middles, bpm.values_bpm().reshape(count, width).mean(axis=1))


@pytest.mark.parametrize("count", [0, 1, 7, 100, 181, 360])
def test_numbers_that_180_cannot_be_joined_to_are_refused(count: int) -> None:
    with pytest.raises(DataError, match="can be joined to 2, 3, 4, 5, 6"):
        bpm.values_bpm(count)


@given(st.lists(st.floats(40, 200), min_size=1, max_size=5), st.sampled_from([36, 60, 180]))
def test_soft_targets_are_probabilities_whose_mean_is_the_rate(rates: list[float], count: int) -> None:
    targets = bpm.soft_targets(np.array(rates), 4.0, count)
    assert np.allclose(targets.sum(axis=1), 1) and targets.shape == (len(rates), count)
    assert np.abs(bpm.expectation(np.log(targets + 1e-300)) - rates).max() < 0.25


def test_a_value_and_its_output_are_inverse() -> None:
    rates = np.array([30.0, 120.0, 210.0])
    assert bpm.to_output(rates).tolist() == [-1.0, 0.0, 1.0]
    assert np.allclose(bpm.from_output(bpm.to_output(rates)), rates)


def test_classes_are_the_nearest_and_end_at_the_range() -> None:
    assert bpm.classes(np.array([5.0, 30.4, 30.6, 209.4, 400.0])).tolist() == [0, 0, 1, 179, 179]
