"""One profiler for the firmware tests: it compiles once."""

from __future__ import annotations

import pytest

from hwnas.export.depthwise import Filter
from hwnas.firmware.cores import core
from hwnas.firmware.profiler import Profiler

# Depthwise shapes of the tests.
FILTERS = [
    Filter(3, 1, 1, 8),
    Filter(5, 2, 1, 12),
    Filter(9, 1, 1, 8),
    Filter(7, 3, 1, 6),
    Filter(5, 1, 1, 32),
    Filter(3, 1, 2, 5),
    Filter(11, 2, 1, 4),
]


@pytest.fixture(scope="session")
def profiler() -> Profiler:
    return Profiler(core("cortex-m4"), FILTERS)
