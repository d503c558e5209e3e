"""Counts the edges between blocks that a program executes, apart for every operator, and turns them into cycles. Touches nothing.

An operator is a call of a kernel's entry address; it ends where it returns to. Everything between operators is the frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from hwnas.errors import FirmwareError
from hwnas.firmware.cycles import CycleModel

SIZE_BITS = 16
FRAME = -1

Edges = defaultdict[tuple[int, int], int]  # (block, following block) -> times; a block is address << SIZE_BITS | size in bytes


@dataclass(frozen=True)
class Call:
    """Cycles of one call: `total`, and each operator's own in order of execution."""

    total: int
    operators: tuple[tuple[str, int], ...]

    @property
    def frame(self) -> int:
        """Cycles outside the operators."""
        return self.total - sum(cycles for _, cycles in self.operators)


class BlockCounter:
    """Watches one call that ends when `stop` is reached.

    Args:
        kernels: entry address -> name of the functions that are operators.
        link: reads the link register.
    """

    def __init__(self, kernels: dict[int, str], stop: int, link: Callable[[], int]) -> None:
        self.operators: list[str] = []
        self._kernels, self._stop, self._link = kernels, stop, link
        self._edges: dict[int, Edges] = {FRAME: defaultdict(int)}
        # (part left, last block there, part entered, first block there)
        self._crossings: list[tuple[int, int, int, int]] = []
        self._last = 0

    def hook(self) -> Callable[[object, int, int, object], None]:
        """The function to call at the start of every block; `cycles` is valid when the call has ended."""
        special = set(self._kernels)
        part, last, edges = FRAME, 0, self._edges[FRAME]

        def block(_machine: object, address: int, size_bytes: int, _data: object) -> None:
            nonlocal part, last, edges
            current = address << SIZE_BITS | size_bytes
            if address == self._stop:
                return
            if address in special and (part == FRAME or address not in self._kernels):
                left, part = part, self._enter(address, special)
                edges = self._edges[part]
                self._crossings.append((left, last, part, current))
            else:
                edges[last, current] += 1
            last = self._last = current

        return block

    def _enter(self, address: int, special: set[int]) -> int:
        """The part that begins at `address`: the operator with that entry, or the frame again."""
        if address not in self._kernels:
            special.discard(address)
            return FRAME
        special.add(self._link())
        self.operators.append(self._kernels[address])
        self._edges[len(self.operators) - 1] = defaultdict(int)
        return len(self.operators) - 1

    def cycles(self, model: CycleModel) -> Call:
        """Cycles of the call by `model`; refills belong to the part that branched, blocks to the part they are in.

        Raises:
            FirmwareError: no block was seen.
        """
        if not self._last:
            raise FirmwareError("the emulator ran a program without showing its blocks, so its cycles are unknown")
        totals = dict.fromkeys(self._edges, 0)
        for part, edges in self._edges.items():
            for (before, block), times in edges.items():
                refill, own = _edge(model, before, block)
                totals[part] += times * (refill + own)
        for left, before, entered, block in self._crossings:
            refill, own = _edge(model, before, block)
            totals[left] += refill
            totals[entered] += own
        part = self._crossings[-1][2] if self._crossings else FRAME
        totals[part] += model.transition(*_split(self._last), self._stop)[0]
        return Call(sum(totals.values()), tuple((name, totals[i]) for i, name in enumerate(self.operators)))


def _edge(model: CycleModel, before: int, block: int) -> tuple[int, int]:
    """(refill, cycles of `block`) when `block` follows `before`; `before` is 0 for the first block of all."""
    address, size_bytes = _split(block)
    refill, step = model.transition(*_split(before), address) if before else (0, None)
    return refill, model.block(address, size_bytes, step)


def _split(block: int) -> tuple[int, int]:
    return block >> SIZE_BITS, block & (1 << SIZE_BITS) - 1
