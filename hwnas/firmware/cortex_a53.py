"""The Cortex-A53: the core of many watches. Touches nothing.

Cycles are those of `hwnas.firmware.cortex_a53_cycles`: a static model, uncalibrated, about x2 either way.
"""

from __future__ import annotations

from unicorn import arm64_const as arm64
from unicorn import unicorn_const as unicorn

from hwnas.firmware.core import Core
from hwnas.firmware.cortex_a53_cycles import UNCERTAINTY_FACTOR, CycleModel

__all__ = ["CORTEX_A53", "UNCERTAINTY_FACTOR"]

CORTEX_A53 = Core(
    name="cortex-a53",
    port="cortex_a53",
    target=("-target", "aarch64-freestanding-none", "-mcpu=cortex_a53"),
    gcc=(),
    elf_machine="EM_AARCH64",
    pointer_bytes=8,
    constant_bytes=16,
    has_filters=False,
    arch=unicorn.UC_ARCH_ARM64,
    mode=unicorn.UC_MODE_ARM,
    cpu=arm64.UC_CPU_ARM64_A53,
    arguments=tuple(getattr(arm64, f"UC_ARM64_REG_X{i}") for i in range(8)),
    link=arm64.UC_ARM64_REG_LR,
    stack=arm64.UC_ARM64_REG_SP,
    counter=arm64.UC_ARM64_REG_PC,
    entry_bit=0,
    system=None,
    cost_model=CycleModel,
)
