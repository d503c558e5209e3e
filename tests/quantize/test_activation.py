"""The tables of sigmoid and tanh: close to the functions, monotone, and right at both ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.quantize import activation

EVERY = np.arange(-(2**15), 2**15, dtype=np.int16)
REAL = EVERY / 2.0**12


@pytest.mark.parametrize(
    ("integer", "real"), [(activation.sigmoid, lambda x: 1 / (1 + np.exp(-x))), (activation.tanh, np.tanh)], ids=["sigmoid", "tanh"]
)
def test_every_argument(integer: Callable[[NDArray[np.int16]], NDArray[np.int32]], real: Callable[[NDArray[np.float64]], object]) -> None:
    found = integer(EVERY)
    assert np.abs(found / 2.0**15 - real(REAL)).max() < 4e-4
    assert (np.diff(found) >= 0).all()
    assert found.min() >= -(2**15) and found.max() <= 2**15 - 1


def test_ends_and_middle() -> None:
    assert activation.sigmoid(np.array([-32768, 0, 32767])).tolist() == [11, 16384, 32757]
    assert activation.tanh(np.array([-32768, 0, 32767])).tolist() == [-32768, 0, 32767]
    assert len(activation.SIGMOID) == len(activation.TANH) == activation.ENTRIES
