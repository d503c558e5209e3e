"""Layouts of weights: as they are stored and with the outputs first, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, Lstm, Op
from hwnas.quantize.qgraph import as_stored, outputs_first

# operator, stored shape, which entry of the stored weights stands at an index of those with the outputs first
LAYOUTS = [
    (Conv1d(4, 3), (4, 3, 2), (4, 2, 3), lambda o, i, k: (o, k, i)),
    (DepthwiseConv1d(5), (5, 3), (3, 1, 5), lambda o, _, k: (k, o)),
    (Dense(4), (4, 6), (4, 6), lambda o, i: (o, i)),
    (Lstm(3), (3, 4, 7), (12, 7), lambda row, i: (row % 3, row // 3, i)),
    (Lstm(3), (3, 4), (12,), lambda row: (row % 3, row // 3)),
]


@pytest.mark.parametrize(("op", "stored", "first", "entry"), LAYOUTS)
def test_weights_with_the_outputs_first(op: Op, stored: tuple[int, ...], first: tuple[int, ...], entry: object) -> None:
    weights = np.random.default_rng(0).permutation(np.arange(int(np.prod(stored)), dtype=np.int8)).reshape(stored)
    found = outputs_first(op, weights)
    assert found.shape == first and found.dtype == np.int8
    assert all(found[index] == weights[entry(*index)] for index in np.ndindex(*first))  # type: ignore[operator]
    again = as_stored(op, found)
    assert again.flags.c_contiguous and (again == weights).all() and again.shape == stored
