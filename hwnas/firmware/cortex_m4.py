"""The Cortex-M4F: a microcontroller core. Touches nothing."""

from __future__ import annotations

from typing import Any

from unicorn import arm_const as arm
from unicorn import unicorn_const as unicorn

from hwnas.firmware.core import Core
from hwnas.firmware.cycles import CycleModel


def unaligned_cycles(address: int, size_bytes: int) -> int:
    """The core splits unaligned accesses: a word at an odd address in three, other words and halfwords in two."""
    if address % size_bytes == 0:
        return 0
    return 2 if size_bytes >= 4 and address % 2 else 1


IF_THEN_BITS = 0x0600FC00  # of the status register


def has_if_then(code: bytes) -> bool:
    """Whether an IT instruction may be in `code`."""
    return any(high == 0xBF and low & 15 for low, high in zip(code[::2], code[1::2], strict=True))


def leave_if_then(uc: Any) -> None:
    """Unicorn recovers the state of the IT block for a hook that is called in one, and then lets the next block begin in it."""
    state = uc.reg_read(arm.UC_ARM_REG_CPSR)
    uc.reg_write(arm.UC_ARM_REG_CPSR, state & ~IF_THEN_BITS)


CORTEX_M4 = Core(
    name="cortex-m4",
    port="cortex_m4",
    target=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4"),
    gcc=("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    elf_machine="EM_ARM",
    pointer_bytes=4,
    constant_bytes=4,
    has_filters=True,
    arch=unicorn.UC_ARCH_ARM,
    mode=unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS,
    cpu=arm.UC_CPU_ARM_CORTEX_M4,
    arguments=(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3),
    link=arm.UC_ARM_REG_LR,
    stack=arm.UC_ARM_REG_SP,
    counter=arm.UC_ARM_REG_PC,
    entry_bit=1,
    system=(0xE000E000, 0x1000),
    cost_model=CycleModel,
    unaligned_cycles=unaligned_cycles,
    is_disturbed=has_if_then,
    repair=leave_if_then,
)
