"""What the tool chain and the emulator need to know of a processor core. Touches nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class CostModel(Protocol):
    """Modelled cycles of executed blocks. A step, whatever a model makes it, is what the next block must know of the code before it."""

    def block(self, address: int, size_bytes: int, before: Any = None) -> int:
        """Cycles of the block at `address`; `before` is the step that fell through into it, None after a taken branch."""

    def transition(self, address: int, size_bytes: int, following: int) -> tuple[int, Any]:
        """Cycles of going on from the block at `address` to `following`, and what the cost of the next block must know of this one."""


def no_penalty(address: int, size_bytes: int) -> int:
    """Cycles of an unaligned access on cores that do not split it."""
    return 0


def undisturbed(code: bytes) -> bool:
    """Of cores whose code memory hooks do not disturb."""
    return False


@dataclass(frozen=True)
class Core:
    """One processor core.

    Attributes:
        name: as profiles name it.
        port: folder under `firmware_bench/ports`, with start-up code (*.c) and the linker script `<port>.ld`.
        target: arguments of `zig cc` that choose the core.
        gcc: a second compiler with its arguments that choose the core; empty where there is none.
        elf_machine: of its programs, as pyelftools names it.
        pointer_bytes: size of a pointer in parameter structures and layer tables.
        arch, mode, cpu: of Unicorn.
        arguments: Unicorn's registers of the first arguments of a function, in order.
        link, stack, counter: Unicorn's link register, stack pointer and program counter.
        constant_bytes: what constants begin at multiples of, as the linker script says.
        has_filters: whether depthwise shapes have functions of their own (`hwnas.export.depthwise`).
        entry_bit: what is added to a code address that is jumped to (1 for Thumb).
        system: (address, bytes) of memory-mapped registers that the start-up code writes.
        cost_model: makes the cost model of machine code (bytes, address of the first).
        unaligned_cycles: cycles that one access (address, bytes) takes longer for its alignment.
        is_disturbed: whether Unicorn may leave wrong state behind when it calls a memory hook from this machine code.
        repair: puts that state of a Unicorn right, from within the hook.
    """

    name: str
    port: str
    target: tuple[str, ...]
    gcc: tuple[str, ...]
    elf_machine: str
    pointer_bytes: int
    constant_bytes: int
    has_filters: bool
    arch: int
    mode: int
    cpu: int
    arguments: tuple[int, ...]
    link: int
    stack: int
    counter: int
    entry_bit: int
    system: tuple[int, int] | None
    cost_model: Callable[[bytes, int], CostModel]
    unaligned_cycles: Callable[[int, int], int] = no_penalty
    is_disturbed: Callable[[bytes], bool] = undisturbed
    repair: Callable[[Any], None] | None = None
