"""Post-processing of heart rates: the definition of PULSE's clipping, a Kalman filter against its textbook form, no look ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwnas.tasks import tracking

RATES = st.lists(st.floats(20.0, 240.0), min_size=1, max_size=40)


def one(count: int) -> NDArray[np.str_]:
    return np.full(count, "a")


def test_clipping_by_hand() -> None:
    found = tracking.clip_to_recent(np.array([100.0, 200.0, 100.0, 50.0]), one(4))
    # 110; the mean of 100 and 110 is 105; of 100, 110, 100 it is 103.33
    assert np.allclose(found, [100.0, 110.0, 100.0, 0.9 * 310 / 3])


@given(RATES)
def test_clipping_is_its_definition(rates: list[float]) -> None:
    found = tracking.clip_to_recent(np.array(rates), one(len(rates)))
    for i, value in enumerate(rates):
        before = found[max(0, i - 10) : i]
        expected = value if i == 0 else np.clip(value, 0.9 * before.mean(), 1.1 * before.mean())
        assert found[i] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", [tracking.clip_to_recent, tracking.kalman])
def test_recordings_do_not_see_each_other_nor_the_future(method: object) -> None:
    assert callable(method)
    rng = np.random.default_rng(0)
    rates, where = rng.uniform(50, 180, 60), np.array(["a", "b", "c"])[rng.integers(0, 3, 60)]
    found = method(rates, where)
    for name in "abc":
        assert np.array_equal(found[where == name], method(rates[where == name], where[where == name]))
    changed = rates.copy()
    changed[40:] = 70.0
    assert np.array_equal(method(changed, where)[:40], found[:40]) and not np.array_equal(method(changed, where), found)


def test_kalman_is_the_textbook_filter_where_nothing_surprises() -> None:
    rates = 100 + np.random.default_rng(1).uniform(-3, 3, 30)
    state, variance = rates[0], 64.0
    expected = [state]
    for z in rates[1:]:
        variance += 4.0
        gain = variance / (variance + 64.0)
        state, variance = state + gain * (z - state), (1 - gain) * variance
        expected.append(state)
    assert np.allclose(tracking.kalman(rates, one(30), spread_bpm=8.0, step_bpm=2.0), expected)


def test_kalman_ignores_a_jump_that_ends_and_follows_one_that_lasts() -> None:
    rates = np.full(40, 90.0)
    rates[15] = 180.0
    assert np.abs(tracking.kalman(rates, one(40)) - 90).max() < 6
    rates[20:] = 130.0
    assert tracking.kalman(rates, one(40))[-1] > 120
    # an estimate that says itself that it is poor moves less
    spread = np.where(rates == 180, 40.0, 8.0)
    loose, strict = tracking.kalman(rates, one(40)), tracking.kalman(rates, one(40), spread_bpm=spread)
    assert strict[15] < loose[15]
