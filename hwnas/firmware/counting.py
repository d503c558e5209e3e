"""Counts the edges between blocks that a program executes, apart for every operator, and turns them into cycles. Touches nothing.

An operator is a call of a kernel's entry address; it ends where it returns to. Everything between operators is the frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from hwnas.errors import FirmwareError
from hwnas.firmware.core import CostModel

SIZE_BITS = 16
FRAME = -1
LINE_BITS = 4  # flash is fetched in lines of 16 bytes

Hook = Callable[..., None]
Edges = defaultdict[tuple[int, int], int]  # (block, following block) -> times; a block is address << SIZE_BITS | size in bytes


class Watch(IntEnum):
    """What is watched while a program runs; each level includes those before it and is slower."""

    NOTHING = 0
    CYCLES = 1
    READS = 2  # bytes that are read from flash as data
    ALIGNMENT = 3  # every access, so that unaligned ones cost what they do


@dataclass(frozen=True, slots=True)
class OperatorRun:
    """What one operator, or a whole call, took.

    Attributes:
        cycles: modelled.
        stack_bytes: high-water mark of the stack.
        flash_read_bytes: read from flash as data: weights, parameters, literals; 0 where not watched.
        fetch_lines: times that execution entered another line of 16 bytes of flash than the one it was in.
        unaligned: accesses that the core splits; 0 where not watched.
    """

    cycles: int = 0
    stack_bytes: int = 0
    flash_read_bytes: int = 0
    fetch_lines: int = 0
    unaligned: int = 0


def together(runs: Iterable[OperatorRun]) -> OperatorRun:
    """What runs one after the other took."""
    parts = tuple(runs)
    return OperatorRun(
        sum(run.cycles for run in parts),
        max(run.stack_bytes for run in parts),
        sum(run.flash_read_bytes for run in parts),
        sum(run.fetch_lines for run in parts),
        sum(run.unaligned for run in parts),
    )


@dataclass(frozen=True)
class Call:
    """What one call took.

    Attributes:
        frame: what is no operator; its `stack_bytes` are those of the whole call.
        operators: (kernel, run) of every operator, in order.
    """

    frame: OperatorRun = OperatorRun()
    operators: tuple[tuple[str, OperatorRun], ...] = ()

    @property
    def total(self) -> OperatorRun:
        """Of frame and operators together."""
        return together([self.frame, *(run for _, run in self.operators)])


@dataclass(eq=False, slots=True)
class _Part:
    """What is counted apart: the frame, or one operator."""

    name: str
    edges: Edges = field(default_factory=lambda: defaultdict(int))
    read_bytes: int = 0
    unaligned: int = 0
    unaligned_cycles: int = 0
    stack_bytes: int = 0


class Counter:
    """Watches one call that ends when `stop` is reached.

    Args:
        kernels: entry address -> name of the functions that are operators.
        link: reads the link register.
        settle: called from memory hooks with the block (address, bytes) that they interrupt, until it tells that the block needs it not.
        entered: called when an operator begins.
        left: called when it has returned; gives the bytes of stack that it took.
    """

    def __init__(
        self,
        kernels: dict[int, str],
        stop: int,
        link: Callable[[], int],
        settle: Callable[[int, int], bool],
        entered: Callable[[], None],
        left: Callable[[], int],
    ) -> None:
        self._kernels, self._stop, self._link, self._settle = kernels, stop, link, settle
        self._entered, self._left = entered, left
        self._frame = self._part = _Part("")
        self._operators: list[_Part] = []
        # (part left, last block there, part entered, first block there)
        self._crossings: list[tuple[_Part, int, _Part, int]] = []
        self._last = 0
        self._undisturbed: set[int] = set()  # blocks that need no settling

    @property
    def where(self) -> str | None:
        """The operator that runs or ran last, for messages."""
        return f"operator {len(self._operators)} ({self._operators[-1].name})" if self._operators else None

    def block_hook(self) -> Hook:
        """To call at the start of every block; `call` is valid when the call has ended."""
        kernels, stop = self._kernels, self._stop
        special = {*kernels, stop}
        last, edges = 0, self._frame.edges

        def block(_machine: object, address: int, size_bytes: int, _data: object) -> None:
            nonlocal last, edges
            current = address << SIZE_BITS | size_bytes
            if address in special:
                if address == stop:
                    return
                # A kernel called by a kernel is part of the one that called it.
                if self._part is self._frame or address not in kernels:
                    left = self._part
                    edges = self._cross(address, special).edges
                    self._crossings.append((left, last, self._part, current))
                    last = self._last = current
                    return
            edges[last, current] += 1
            last = self._last = current

        return block

    def read_hook(self) -> Hook:
        """To call at every data read from flash."""

        def read(_machine: object, _access: int, _address: int, size_bytes: int, _value: int, _data: object) -> None:
            self._part.read_bytes += size_bytes
            if self._last not in self._undisturbed:
                self._repair()

        return read

    def access_hook(self, unaligned_cycles: Callable[[int, int], int]) -> Hook:
        """To call at every data access."""

        def access(_machine: object, _access: int, address: int, size_bytes: int, _value: int, _data: object) -> None:
            if penalty := unaligned_cycles(address, size_bytes):
                self._part.unaligned += 1
                self._part.unaligned_cycles += penalty
            if self._last not in self._undisturbed:
                self._repair()

        return access

    def _repair(self) -> None:
        if not self._settle(*_split(self._last)):
            self._undisturbed.add(self._last)

    def _cross(self, address: int, special: set[int]) -> _Part:
        """The part that begins at `address`: the operator with that entry, or the frame again."""
        if address in self._kernels:
            special.add(self._link())
            self._part = _Part(self._kernels[address])
            self._operators.append(self._part)
            self._entered()
        else:
            special.discard(address)
            self._part.stack_bytes = self._left()
            self._part = self._frame
        return self._part

    def call(self, model: CostModel, stack_bytes: Callable[[], int]) -> Call:
        """What the call took by `model`; refills belong to the part that branched, blocks to the part they are in.

        Args:
            stack_bytes: gives the bytes of stack that all of it took.

        Raises:
            FirmwareError: no block was seen.
        """
        if not self._last:
            raise FirmwareError("the emulator ran a program without showing its blocks, so its cycles are unknown")
        if self._part is not self._frame:
            self._part.stack_bytes = self._left()
        parts = [self._frame, *self._operators]
        cycles = {part: part.unaligned_cycles for part in parts}
        lines = dict.fromkeys(parts, 0)
        for part in parts:
            for (before, block), times in part.edges.items():
                refill, own = _edge(model, before, block)
                cycles[part] += times * (refill + own)
                lines[part] += times * _lines(before, block)
        for left, before, entered, block in self._crossings:
            refill, own = _edge(model, before, block)
            cycles[left] += refill
            cycles[entered] += own
            lines[entered] += _lines(0, block)
        cycles[self._part] += model.transition(*_split(self._last), self._stop)[0]
        self._frame.stack_bytes = stack_bytes()
        frame, *runs = (OperatorRun(cycles[p], p.stack_bytes, p.read_bytes, lines[p], p.unaligned) for p in parts)
        return Call(frame, tuple((p.name, run) for p, run in zip(self._operators, runs, strict=True)))


def _edge(model: CostModel, before: int, block: int) -> tuple[int, int]:
    """(refill, cycles of `block`) when `block` follows `before`; `before` is 0 for the first block of all."""
    address, size_bytes = _split(block)
    refill, step = model.transition(*_split(before), address) if before else (0, None)
    return refill, model.block(address, size_bytes, step)


def _lines(before: int, block: int) -> int:
    """Lines of flash that `block` spans, without the one that `before` ended in."""
    address, size_bytes = _split(block)
    first, last = address >> LINE_BITS, address + size_bytes - 1 >> LINE_BITS
    end = sum(_split(before)) - 1
    return last - first + (end >> LINE_BITS != first)


def _split(block: int) -> tuple[int, int]:
    return block >> SIZE_BITS, block & (1 << SIZE_BITS) - 1
