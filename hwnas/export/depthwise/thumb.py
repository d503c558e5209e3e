"""Text of a Thumb-2 function: instructions, words of the stack frame, constants that do not all fit the registers. Text only; no files."""

from __future__ import annotations

REGISTERS = (*(f"r{i}" for i in range(13)), "lr")  # all that a function may use
OFFSET_MAX = 4095  # of a load or store, and of an addition
WRITEBACK_MAX = 255


class OutOfRegisters(Exception):
    """More values live at once than there are registers left for them."""


class Thumb:
    """Instructions of one function, in order. `prefix` keeps its labels apart from those of other functions."""

    def __init__(self, prefix: str) -> None:
        self.lines: list[tuple[str, str]] = []  # instruction or label, comment
        self._prefix = prefix
        self._slots: dict[str, int] = {}

    def __call__(self, name: str, *operands: str, note: str = "") -> None:
        """Append an instruction."""
        self.lines.append((f"{name} {', '.join(operands)}".rstrip(), note))

    def label(self, name: str) -> str:
        """What instructions call the place `name`."""
        return f".L{self._prefix}_{name}"

    def place(self, name: str, note: str = "") -> None:
        """`name` is here."""
        self.lines.append((f"{self.label(name)}:", note))

    def reserve(self, *names: str) -> None:
        """Give each of `names` a word of the stack frame."""
        for name in names:
            self._slots.setdefault(name, 4 * len(self._slots))

    @property
    def frame_bytes(self) -> int:
        return 4 * len(self._slots)

    def slot(self, name: str) -> str:
        """The word `name` of the stack frame as an operand."""
        return f"[sp, #{self._slots[name]}]"

    def load(self, register: str, name: str) -> None:
        """Read a word of the stack frame."""
        self("ldr", register, self.slot(name), note=name)

    def store(self, register: str, name: str) -> None:
        """Write a word of the stack frame."""
        self("str", register, self.slot(name), note=name)

    def add(self, register: str, amount: int) -> None:
        """Add a constant of either sign. The flags are lost."""
        if amount:
            name = "add" if amount > 0 else "sub"
            self(name + "s" * _is_narrow(register, amount), register, register, f"#{abs(amount)}")

    def move(self, moves: dict[str, str], scratch: str) -> None:
        """Move registers all at once: `moves` is destination -> source."""
        left = {to: source for to, source in moves.items() if to != source}
        while left:
            to = next((to for to in left if to not in left.values()), "")
            if to:
                self("mov", to, left.pop(to))
            else:  # only cycles are left: free one register
                to = next(iter(left))
                self("mov", scratch, to)
                left = {t: scratch if s == to else s for t, s in left.items()}

    def set(self, register: str, value: int) -> None:
        """Write a constant of up to 32 bits. The flags are lost."""
        if _is_narrow(register, value):
            self("movs", register, f"#{value}")
            return
        self("movw", register, f"#{value & 0xFFFF}")
        if value >> 16:
            self("movt", register, f"#{value >> 16}")

    def divide(self, register: str, by: int, scratch: str) -> None:
        """Unsigned quotient by a constant, in place."""
        if by & (by - 1):
            self.set(scratch, by)
            self("udiv", register, register, scratch)
        elif by > 1:
            self("lsr", register, register, f"#{by.bit_length() - 1}")

    def remainder(self, to: str, register: str, by: int, scratch: str) -> None:
        """Unsigned remainder by a constant."""
        if by & (by - 1):
            self.set(scratch, by)
            self("udiv", to, register, scratch)
            self("mls", to, to, scratch, register)
        else:
            self("and", to, register, f"#{by - 1}")

    def count(self, register: str, slot: str, amount: int) -> None:
        """Add to a word of the stack frame; `register` then holds it, and the flags compare it with zero."""
        self.load(register, slot)
        self("adds" if amount > 0 else "subs", register, register, f"#{abs(amount)}")
        self.store(register, slot)

    def branch_by(self, index: str, places: list[str], base: str) -> None:
        """Go to one of `places`; `base` becomes a label."""
        self("tbh", f"[pc, {index}, lsl #1]")
        self.place(base)
        for name in places:
            self(".hword", f"({self.label(name)} - {self.label(base)}) / 2")


def _is_narrow(register: str, value: int) -> bool:
    """Whether an instruction of two bytes has room for both."""
    return register in REGISTERS[:8] and abs(value) < 256


class Constants:
    """Constants of a piece of straight-line code: some live in registers, the others are read from the frame when they are due.

    Loads that follow each other take one cycle instead of two, so a load brings those due next with it, while registers are free.

    Args:
        resident: constant -> register.
        uses: names in the order of their use.
        free: registers to load into; others may take from it and give to it.
    """

    def __init__(self, asm: Thumb, resident: dict[str, str], uses: list[str], free: list[str]) -> None:
        self._asm, self._resident, self._uses, self._free = asm, resident, uses, free
        self._held: dict[str, str] = {}

    def fetch(self) -> None:
        """Load those due next."""
        for name in self._uses:
            if self._free and name not in self._resident and name not in self._held:
                self._load(name)

    def use(self, *names: str) -> list[str]:
        """Registers of operands of the next instruction; their last use frees them, so that its result may go there."""
        registers = [self._register(name) for name in names]
        for name in names:
            self._uses.remove(name)
            if name in self._held and name not in self._uses:
                self._free.append(self._held.pop(name))
        return registers

    def _register(self, name: str) -> str:
        if name in self._resident:
            return self._resident[name]
        if name not in self._held:
            self._load(name)
            self.fetch()
        return self._held[name]

    def _load(self, name: str) -> None:
        self._held[name] = take(self._free)
        self._asm.load(self._held[name], name)


def take(free: list[str]) -> str:
    """The register that was freed last.

    Raises:
        OutOfRegisters: none is free.
    """
    if not free:
        raise OutOfRegisters
    return free.pop()


def cycles(lines: list[tuple[str, str]]) -> int:
    """Cycles of straight-line code of arithmetic, single loads and stores."""
    total, after_load = 0, False
    for text, _ in lines:
        is_load = text.startswith("ldr")
        total += 2 if is_load and not after_load else 1
        after_load = is_load
    return total
