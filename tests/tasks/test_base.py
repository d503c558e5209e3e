"""Subject splits, normalisation, compatibility."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import DataError
from hwnas.tasks.base import Windows, check_compatible, normalise


def windows(labels: list[list[int]], length: int = 20) -> Windows:
    """One subject for each list of labels."""
    y = np.array([c for one in labels for c in one], dtype=np.int64)
    subject = np.repeat([f"p{i:02d}" for i in range(len(labels))], [len(one) for one in labels])
    x = np.random.default_rng(0).normal(size=(len(y), 1, length)).astype(np.float32)
    return Windows(x, y, subject, 100.0, "real", "made")


@given(st.integers(0, 99), st.floats(1e-3, 1e6), st.floats(-1e3, 1e3))
def test_normalise_spans_exactly_minus_one_to_one(seed: int, gain: float, offset: float) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 2, 50))
    out = normalise(x * gain + offset)
    assert out.dtype == np.float32
    assert (out.min(axis=2) == -1).all() and (out.max(axis=2) == 1).all()
    assert np.allclose(out, normalise(x), atol=1e-5)


def test_normalise_survives_the_largest_floats_and_names_bad_windows() -> None:
    big = np.finfo(np.float64).max
    assert normalise(np.array([[[-big, 0.0, big]]])).ravel().tolist() == [-1.0, 0.0, 1.0]
    x = np.arange(12.0).reshape(3, 1, 4)
    x[1] = 7.0
    with pytest.raises(DataError, match="window 1 is constant"):
        normalise(x)
    x[2, 0, 3] = np.nan
    with pytest.raises(DataError, match="segment 2 holds NaN"):
        normalise(x, lambda i: f"segment {i}")


def test_check_compatible_gives_the_reason() -> None:
    data = windows([[0, 1]], length=1000)
    check_compatible(data, 100.0, 10.0)
    with pytest.raises(DataError, match="100 Hz, the student reads 125 Hz"):
        check_compatible(data, 125.0, 8.0)
    with pytest.raises(DataError, match=r"windows of 10 s, the student reads 30 s \(3000 samples\)"):
        check_compatible(data, 100.0, 30.0)
    with pytest.raises(DataError, match="1 channels, the student reads 4"):
        check_compatible(data, 100.0, 10.0, channels=4)


def test_take_keeps_rows_together() -> None:
    data = windows([[0, 1], [2, 1]])
    some = data.take(np.array([3, 0]))
    assert some.y.tolist() == [1, 0] and some.subject.tolist() == ["p01", "p00"]
    assert np.array_equal(some.x, data.x[[3, 0]]) and some.window_s == 0.2
