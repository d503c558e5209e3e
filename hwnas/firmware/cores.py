"""The processor cores there are, by name. Touches nothing."""

from __future__ import annotations

from hwnas.errors import lookup
from hwnas.firmware.core import Core
from hwnas.firmware.cortex_a53 import CORTEX_A53
from hwnas.firmware.cortex_m4 import CORTEX_M4

CORES = {core.name: core for core in (CORTEX_M4, CORTEX_A53)}


def core(name: str) -> Core:
    """The core of that name; raises UsageError with the names there are."""
    return lookup(CORES, name, "core")
