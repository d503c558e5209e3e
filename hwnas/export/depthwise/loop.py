"""The loop of full steps of one depthwise shape in Cortex-M4 assembly, and the registers it needs. Text only; no files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from hwnas.export.depthwise.steps import Steps
from hwnas.export.depthwise.thumb import REGISTERS, WRITEBACK_MAX, Constants, OutOfRegisters, Thumb, cycles, take

PADDING, UNUSED = -1, -2  # in place of a sample's row

Sources = dict[int, tuple[int, int]]  # pair -> rows of its samples, counted from where the pointer stands


@cache
def residents(steps: Steps) -> tuple[str, ...]:
    """The constants that stay in registers: as many, of the ones read first, as make a turn fastest.

    A constant in a register saves its load in every step; a register less to load into scatters the loads of the others.
    """
    even, odd = ([f"w{tap}" for tap in steps.words if tap % 2 == remainder] for remainder in (0, 1))
    found: list[tuple[int, tuple[str, ...]]] = []
    for shifted in (odd, odd[::-1]):
        names = ("bias", "multiplier", "zero_point", *even, *shifted, "end")
        for count in range(len(names), -1, -1):
            try:
                loop = Loop(Thumb("trial"), steps, 1, names[:count])
                loop.turn()
            except OutOfRegisters:
                continue
            found.append((cycles(loop.asm.lines), names[:count]))
    return min(found, key=lambda trial: trial[0])[1]


class Loop:
    """Writes steps into `asm`.

    Args:
        row: bytes from one sample of the signal to the next.
        resident: names of the constants that stay in registers.

    Attributes:
        packed: constants as they lie in memory, with the registers that they are loaded to.
        shifted: first taps of the pairs of weights that must be made of two neighbouring words.
        resident: constants that stay, with their registers.
        source, target: registers of the pointers to input and output.
        pairs: registers of the pairs of samples.
        temporary: registers that are free between steps.
    """

    def __init__(self, asm: Thumb, steps: Steps, row: int, resident: tuple[str, ...]) -> None:
        self.asm, self.steps, self.row = asm, steps, row
        # As `ldm` reads them: ascending. Those that do not stay are stored to the frame before their register gets another use.
        self.packed = dict(zip(("bias", "multiplier", *(f"w{tap}" for tap in range(0, steps.kernel, 2))), REGISTERS, strict=False))
        self.shifted = [tap for tap in steps.words if tap % 2]
        self.resident = {name: register for name, register in self.packed.items() if name in resident}
        pool = [register for register in REGISTERS if register not in self.resident.values()]
        wanted = len(resident) - len(self.resident) + 2 + steps.pairs
        early = 2 + sum(f"w{tap}" in resident for tap in self.shifted)
        if len(pool) <= wanted or early + len(self.packed) > len(REGISTERS):
            raise OutOfRegisters
        # From the top, first those that are set while packed constants still lie at the bottom.
        self.source = pool.pop()
        self.resident |= {f"w{tap}": pool.pop() for tap in self.shifted if f"w{tap}" in resident}
        self.target = pool.pop()
        self.resident |= {name: pool.pop() for name in ("zero_point", "end") if name in resident}
        self.pairs = [pool.pop() for _ in range(steps.pairs)]
        self.temporary = pool
        asm.reserve("padding", "zero_point", *(name for name in self.constants if name not in self.resident))

    @property
    def constants(self) -> list[str]:
        """What steps read, but for the zero point: of the channel, and where the loop ends."""
        return ["bias", "multiplier", *(f"w{tap}" for tap in self.steps.words), "end"]

    def pair(self, pair: int, rotation: int) -> str:
        """Register of a pair after `rotation` steps."""
        return self.pairs[(pair + rotation * (self.steps.advance // 2)) % self.steps.pairs]

    def load(self, sources: Sources, rotation: int, advance: int, free: list[str]) -> list[tuple[str, str]]:
        """Load pairs and move the pointer by `advance` rows. Returns what is still to be joined: (pair, its upper half)."""
        loads: list[tuple[str, int]] = []
        joins = []
        for pair, (low, high) in sources.items():
            register = self.pair(pair, rotation)
            if low == high == PADDING or self.steps.is_single(pair):
                loads.append((register, max(low, high)))
                continue
            if low != UNUSED:
                loads.append((register, low))
            if high != UNUSED:
                joins.append((register, take(free)))
                loads.append((joins[-1][1], high))
        moves = 0 < advance * self.row <= WRITEBACK_MAX and any(row == 0 for _, row in loads)
        for register, row in sorted(loads, key=lambda load: load[1] == 0):  # the load that moves the pointer comes last
            if row == PADDING:
                self.asm.load(register, "padding")
            elif row == 0:
                self.asm("ldrsb", register, f"[{self.source}]", *([f"#{advance * self.row}"] if moves else []))
            else:
                self.asm("ldrsb", register, f"[{self.source}, #{row * self.row}]")
        if not moves:
            self.asm.add(self.source, advance * self.row)
        return joins

    def step(self, rotation: int, sources: Sources, advance: int, skipped: int = 0, is_last: bool = False) -> None:
        """Load `sources`, move the pointer by `advance` rows, compute the outputs from `skipped` on. `is_last`: the end of a turn."""
        asm, free = self.asm, list(self.temporary)
        outputs = [[mac for mac in self.steps.macs if mac.output == output] for output in range(skipped, self.steps.outputs)]
        uses = [name for macs in outputs for name in ("bias", *(f"w{mac.weights}" for mac in macs), "multiplier", "zero_point")]
        constants = Constants(asm, self.resident, [*uses, *(["end"] if is_last else [])], free)
        joins = self.load(sources, rotation, advance, free)
        first_sum = [] if joins else [take(free)]  # the first sum takes this register, or that of an upper half
        constants.fetch()
        free += first_sum
        for register, high in joins:
            asm("pkhbt", register, register, high, "lsl #16")
            free.append(high)
        last = {mac.pair: mac for macs in outputs for mac in macs}
        for number, macs in enumerate(outputs):
            total = ""
            for mac in macs:
                weights, *bias = constants.use(f"w{mac.weights}", *(() if total else ("bias",)))
                addend, total = (total, total) if total else (bias[0], take(free))
                pair = self.pair(mac.pair, rotation)
                note = f"output {mac.output} += taps {mac.weights}.. * pair {mac.pair}"
                asm(f"smla{mac.halves or 'd'}", total, weights, pair, addend, note=note)
                if mac is last[mac.pair] and mac.pair < self.steps.advance // 2:
                    free.append(pair)  # no later step reads it
            asm("smmlar", total, total, *constants.use("multiplier", "zero_point"))
            asm("ssat", total, "#8", total)
            if self.row <= WRITEBACK_MAX:
                asm("strb", total, f"[{self.target}]", f"#{self.row}")
            else:
                asm("strb", total, f"[{self.target}, #{number * self.row}]")
            free.append(total)
        if self.row > WRITEBACK_MAX:
            asm.add(self.target, len(outputs) * self.row)
        if is_last:
            asm("cmp", self.source, *constants.use("end"))

    def turn(self) -> None:
        """The loop: steps whose samples are all inside the signal."""
        first = self.steps.first
        rows = {pair: self.sources(pair, lambda index: index - first) for pair in self.steps.fresh}
        for number in range(self.steps.turn):
            self.asm.place(f"step{number}")
            self.step(number, rows, self.steps.advance, is_last=number == self.steps.turn - 1)
        self.asm("bne", self.asm.label("step0"))

    def sources(self, pair: int, row: Callable[[int], int]) -> tuple[int, int]:
        """Rows of the samples of a pair, given those of its indices."""
        low, high = (row(index) if self.steps.is_needed(index) else UNUSED for index in (2 * pair, 2 * pair + 1))
        return low, high
