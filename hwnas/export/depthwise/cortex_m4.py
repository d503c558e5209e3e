"""Cortex-M4 assembly of one depthwise shape. Text only; no files.

One function, channel after channel: constants of the channel, head (the samples before the first full step), the loop of full steps, tail
(the right end, fed with the padding value); `Steps` says which samples and outputs a step has. A turn of the loop has as many steps as it
takes for the pairs of samples to come back to the registers they started from, so nothing is moved. It is entered in its middle, so that
it always ends with the pairs where the tail expects them. Signals too short for one full step are copied between their padding and take
plain loops. With dilation, all of this is done once for each of the signals of every dilation-th sample.
"""

from __future__ import annotations

from hwnas.export.depthwise.loop import PADDING, Loop, residents
from hwnas.export.depthwise.steps import Begin, Filter, Steps
from hwnas.export.depthwise.thumb import Thumb
from hwnas.graph import same_length

PACKED, IN_LENGTH, OUT_LENGTH, PAD_LEFT, IN_ZERO_POINT, OUT_ZERO_POINT = 0, 4, 12, 32, 36, 40  # in hwnas_conv_params


def assemble(filter: Filter) -> Thumb:
    """The function of `filter`."""
    function = Function(filter)
    function.write()
    return function.asm


class Function:
    """Writes the function of one filter into `asm`."""

    def __init__(self, filter: Filter) -> None:
        self.filter, self.steps = filter, Steps(filter.kernel, filter.stride)
        self.row = filter.dilation * filter.channels  # bytes from one sample to the next
        self.ends = [self.steps.ends(remainder) for remainder in range(self.steps.advance)]
        self.heads = sorted({ends.begin for ends in self.ends})
        self.rights = sorted({ends.right for ends in self.ends})
        self.asm = Thumb("k{}_s{}_d{}_c{}".format(*filter))
        self.asm.reserve("in", "out", "packed", "channels", "span", "remainder", "entry")
        if filter.dilation > 1:
            self.asm.reserve("params", "samples", "phases")
        self.loop = Loop(self.asm, self.steps, self.row, residents(self.steps))

    def write(self) -> None:
        """The whole function."""
        asm = self.asm
        frame = asm.frame_bytes + self._short_bytes
        asm("push", "{r4-r11, lr}")
        asm("sub", "sp", "sp", f"#{frame}")
        self._prepare()
        self._channel()
        self._heads()
        self._enter()
        self.loop.turn()
        self._tails()
        asm.count(self.loop.temporary[-1], "channels", -1)
        asm("bne", asm.label("channel"))
        self._next_phase()
        asm("add", "sp", "sp", f"#{frame}")
        asm("pop", "{r4-r11, pc}")
        self._short()

    def _prepare(self) -> None:
        """Everything that depends on the length: how many full steps, where the turn is entered."""
        asm, steps, dilation = self.asm, self.steps, self.filter.dilation
        asm("ldr", "r3", f"[r0, #{PACKED}]")
        asm("ldr", "r4", f"[r0, #{IN_LENGTH}]")
        asm("ldr", "r5", f"[r0, #{IN_ZERO_POINT}]")
        asm("ldr", "r6", f"[r0, #{OUT_ZERO_POINT}]")
        asm("pkhbt", "r5", "r5", "r5", "lsl #16")
        asm.store("r1", "in")
        asm.store("r2", "out")
        asm.store("r5", "padding")
        asm.store("r6", "zero_point")
        if dilation > 1:  # one signal for each of the first `dilation` samples
            asm.set("r7", dilation)
            asm("cmp", "r4", "r7")
            asm("it", "lt")
            asm("movlt", "r7", "r4")
            asm.store("r7", "phases")
            asm.store("r0", "params")
            asm.place("phase", "r0 params, r3 packed constants, r4 samples from here on")
            asm.store("r4", "samples")
            asm.add("r4", dilation - 1)
            asm.divide("r4", dilation, "r7")
        asm.store("r3", "packed")
        asm.set("r7", self.filter.channels)
        asm.store("r7", "channels")
        asm.remainder("r7", "r4", steps.advance, "r8")
        if self.heads[1:] or self.rights[1:]:
            asm.store("r7", "remainder")
        asm("add", "r8", "r4", f"#{steps.advance - 1}")
        asm.divide("r8", steps.advance, "r9")
        edges = [ends.begin.head + ends.tail for ends in self.ends]
        if len(set(edges)) == 1:
            asm("subs", "r8", "r8", f"#{edges[0]}", note="full steps")
        else:  # one of several constants of four bits
            asm.set("r9", sum(edge << 4 * remainder for remainder, edge in enumerate(edges)))
            asm("lsl", "r7", "r7", "#2")
            asm("lsr", "r9", "r9", "r7")
            asm("and", "r9", "r9", "#15")
            asm("subs", "r8", "r8", "r9", note="full steps")
        asm("ble", asm.label("short"))
        asm.set("r9", steps.advance * self.row)
        asm("mul", "r9", "r9", "r8")
        asm.store("r9", "span")
        asm("sub", "r8", "r8", "#1")
        asm.remainder("r9", "r8", steps.turn, "r10")
        asm("rsb", "r9", "r9", f"#{steps.turn - 1}")
        asm.store("r9", "entry")

    def _channel(self) -> None:
        """Constants of the next channel; pointers to its first sample."""
        asm, loop = self.asm, self.loop
        asm.place("channel")
        asm.load(loop.source, "packed")
        asm("ldm", f"{loop.source}!", "{" + ", ".join(loop.packed.values()) + "}", note=", ".join(loop.packed))
        asm.store(loop.source, "packed")
        for name, register in loop.packed.items():
            if name in loop.constants and name not in loop.resident:
                asm.store(register, name)
        for tap in loop.shifted:
            register = loop.resident.get(f"w{tap}", loop.target)
            asm("lsr", register, loop.packed[f"w{tap - 1}"], "#16")
            asm("pkhbt", register, register, loop.packed[f"w{tap + 1}"], "lsl #16", note=f"taps {tap}, {tap + 1}")
            if f"w{tap}" not in loop.resident:
                asm.store(register, f"w{tap}")
        asm.load(loop.source, "in")
        asm.load(loop.target, "out")
        if "zero_point" in loop.resident:
            asm.load(loop.resident["zero_point"], "zero_point")
        if self.heads[1:]:
            asm.load(loop.pairs[0], "remainder")
        scratch = loop.temporary[-1]
        for pointer, slot in ((loop.source, "in"), (loop.target, "out")):
            asm("add", scratch, pointer, "#1")
            asm.store(scratch, slot)

    def _heads(self) -> None:
        """What stands before the first full step; one piece of code for each way in which the signals of a remainder begin."""
        asm = self.asm
        if self.heads[1:]:
            asm.branch_by(self.loop.pairs[0], [f"head{self.heads.index(ends.begin)}" for ends in self.ends], "heads")
        for number, begin in enumerate(self.heads):
            asm.place(f"head{number}")
            self._head(begin)
            if number < len(self.heads) - 1:
                asm("b", asm.label("body"))

    def _head(self, begin: Begin) -> None:
        steps, loop = self.steps, self.loop
        oldest = begin.newest + 1 - 2 * steps.pairs  # position of the oldest sample that step 0 holds
        at = 0

        def row(index: int) -> int:
            return oldest + index - at if oldest + index >= 0 else PADDING

        for pair in range(steps.fresh.start):
            sources = loop.sources(pair, row)
            advance = max(*sources, -1) + 1
            for register, high in loop.load({pair: sources}, -begin.head, advance, loop.temporary[:]):
                self.asm("pkhbt", register, register, high, "lsl #16")
            at += advance
        if begin.head:
            full = {pair: loop.sources(pair, row) for pair in steps.fresh}
            advance = max(max(rows) for rows in full.values()) + 1
            loop.step(-1, full, advance, begin.skipped)
            at += advance
        self.asm.add(loop.source, (oldest + begin.head * steps.advance + steps.first - at) * self.row)

    def _enter(self) -> None:
        """The end of the loop, and the way into its middle, with the pairs in the registers where that step wants them."""
        asm, loop, scratch = self.asm, self.loop, self.loop.temporary[-1]
        index = loop.pair(self.steps.fresh.start, 0)  # of a pair that the next step loads
        end = loop.resident.get("end", scratch)
        asm.place("body")
        asm.load(end, "span")
        asm.load(index, "entry")
        asm("add", end, end, loop.source)
        if "end" not in loop.resident:
            asm.store(end, "end")
        turn = range(self.steps.turn)
        asm.branch_by(index, ["step0", *(f"enter{number}" for number in turn[1:])], "entries")
        for number in turn[1:]:
            asm.place(f"enter{number}")
            asm.move({loop.pair(pair, number): loop.pair(pair, 0) for pair in range(self.steps.fresh.start)}, scratch)
            asm("b", asm.label(f"step{number}"))
        asm(".p2align", "2")

    def _tails(self) -> None:
        """The steps whose windows reach beyond the signal; one piece of code for each way in which the signals of a remainder end."""
        asm = self.asm
        if self.rights[1:]:
            asm.load(self.loop.temporary[-1], "remainder")
            asm.branch_by(self.loop.temporary[-1], [f"tail{self.rights.index(ends.right)}" for ends in self.ends], "tails")
        for number, right in enumerate(self.rights):
            asm.place(f"tail{number}")
            self._tail(right)
            if number < len(self.rights) - 1:
                asm("b", asm.label("done"))
        asm.place("done")

    def _tail(self, right: int) -> None:
        """Steps up to one whose newest sample is `right` beyond the signal."""
        steps, loop = self.steps, self.loop
        count = -(-right // steps.advance)
        beyond = 2 * steps.pairs - right + (count - 1) * steps.advance  # index in the first of these steps

        for number in range(count):

            def row(index: int, moved: int = number * steps.advance) -> int:
                return moved + index - steps.first if moved + index < beyond else PADDING

            loop.step(number, {pair: loop.sources(pair, row) for pair in steps.fresh}, 0)

    def _next_phase(self) -> None:
        """With dilation, go on with the signal that begins one sample later; the pointers in the frame are there already."""
        asm = self.asm
        asm.place("next")
        if self.filter.dilation > 1:
            asm.count("r4", "samples", -1)
            asm.count("r7", "phases", -1)
            asm.load("r0", "params")
            asm("ldr", "r3", f"[r0, #{PACKED}]")
            asm("bne", asm.label("phase"))

    @property
    def _short_bytes(self) -> int:
        """Room for the longest signal that is short, with its padding, in whole words."""
        steps = self.steps
        short = [length for length in range(1, steps.shortest) if steps.full_steps(length) < 1]
        return max((same_length(n, steps.stride) - 1) * steps.stride + steps.kernel + 3 & -4 for n in (1, *short))

    def _short(self) -> None:
        """Signals without a full step: r0 params, r3 packed constants, r4 samples."""
        asm, steps, row = self.asm, self.steps, self.row
        buffer = asm.frame_bytes
        asm.place("short", "r1 in, r2 out, r5 padding")
        asm.load("r1", "in")
        asm.load("r2", "out")
        asm.load("r5", "padding")
        asm("bfi", "r5", "r5", "#8", "#8")
        asm("pkhbt", "r5", "r5", "r5", "lsl #16")
        asm.place("short_channel")
        for offset in range(0, self._short_bytes, 4):
            asm("str", "r5", f"[sp, #{buffer + offset}]")
        asm("add", "r6", "sp", f"#{buffer}")
        if steps.stride == 1:
            asm.add("r6", (steps.kernel - 1) // 2)
        else:
            asm("ldr", "r7", f"[r0, #{PAD_LEFT}]")
            asm("add", "r6", "r6", "r7")
        asm("mov", "r7", "r1")
        asm("mov", "r8", "r4")
        asm.place("short_copy")
        asm("ldrb", "r9", "[r7]")
        asm.add("r7", row)
        asm("strb", "r9", "[r6]", "#1")
        asm("subs", "r8", "r8", "#1")
        asm("bne", asm.label("short_copy"))
        asm("add", "r6", "sp", f"#{buffer}")
        asm("mov", "r7", "r2")
        if steps.stride == 1:
            asm("mov", "r8", "r4")
        else:
            asm("ldr", "r8", f"[r0, #{OUT_LENGTH}]")
        asm.place("short_output")
        asm("ldr", "r10", "[r3]", note="bias")
        asm("add", "r9", "r3", "#8")
        asm("mov", "r11", f"#{steps.kernel}")
        asm.place("short_tap")
        asm("ldrsh", "r12", "[r9]", "#2")
        asm("ldrsb", "lr", "[r6]", "#1")
        asm("smlabb", "r10", "r12", "lr", "r10")
        asm("subs", "r11", "r11", "#1")
        asm("bne", asm.label("short_tap"))
        asm.add("r6", steps.stride - steps.kernel)
        asm("ldr", "r9", "[r3, #4]", note="multiplier")
        asm.load("r11", "zero_point")
        asm("smmlar", "r10", "r10", "r9", "r11")
        asm("ssat", "r10", "#8", "r10")
        asm("strb", "r10", "[r7]")
        asm.add("r7", row)
        asm("subs", "r8", "r8", "#1")
        asm("bne", asm.label("short_output"))
        asm.add("r1", 1)
        asm.add("r2", 1)
        asm.add("r3", 4 * len(self.loop.packed))
        asm.count("r8", "channels", -1)
        asm("bne", asm.label("short_channel"))
        if self.filter.dilation > 1:
            asm.store("r1", "in")
            asm.store("r2", "out")
        asm("b", asm.label("next"))
