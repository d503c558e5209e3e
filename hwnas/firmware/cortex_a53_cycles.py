"""Cycles of Cortex-A53 code: a static model of its in-order dual issue over decoded basic blocks. Touches nothing.

Static and uncalibrated: about a factor of two either way (`UNCERTAINTY_FACTOR`). No figure from here was measured on a watch.

Two instructions may issue in a cycle, in program order, when their units are free and their operands are there:

- one load or store a cycle, one integer multiply, one branch, two of plain integer arithmetic
- NEON and floating point share two 64-bit lanes: two 64-bit operations a cycle or one 128-bit operation; narrowing shifts take one lane
- vector loads take the load unit and one lane for one cycle per 64 bits, so no 128-bit operation starts beside them; pairs, three and four
  registers likewise, one more cycle where three or four are de-interleaved; stores one cycle per 128 bits, without a lane
- latencies: integer 1, shifts and shifted operands 2, multiply 3 (64-bit 4), load 3 (bytes, halfwords and pairs 4), vector load 3 + its
  issue cycles; NEON logic 1, add, shift, permute, widen 2, widening or rounding add 3, multiply, saturating narrow, max across 4, float 4,
  fused multiply-add 8; lane to register 3, register to lane 2
- a multiply-accumulate takes the sum of the one before it after 1 cycle (float 4, absolute differences and pairwise 2, integer 2)
- an integer result is an address one cycle later than an operand; the data of a store may come one cycle late
- a taken branch costs 2 cycles more, through a register 4; branches do not wait for what they test
- divide 8, single-precision float divide and root 18 (busy 14)

Throughputs and latencies are those that a public micro-benchmark measured on a Raspberry Pi 3 (github.com/ocxtal/insn_bench_aarch64,
results/raspberry-pi-3_cortex-a53.md); pairing of vector loads follows ncnn's notes on the A53; what neither says follows the scheduling
models of LLVM (AArch64SchedA53.td) and GCC (cortex-a53.md). LLVM's newest model lets a 128-bit multiply take two cycles where the
micro-benchmark has one; gemmlowp's published kernel speeds on a Cortex-A53 (Nexus 5X) need at most 1.3, so it is one here.

After a branch a new cycle begins. Results and units still busy at the end of a block delay the next one; what was busy before that block
began is forgotten, and so is everything at a call or return through a register: an operator costs the same wherever it is called from.

Left out: mispredicted branches (9 cycles each), the first-level instruction cache, unaligned accesses (one cycle each), misses in
caches and page tables (a profile adds the stream of weights from memory, `weight_stream`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import capstone
from capstone import arm64

from hwnas.errors import FirmwareError
from hwnas.firmware.decoding import Code

UNCERTAINTY_FACTOR = 2.0

TAKEN, TAKEN_INDIRECT = 2, 4
PAGE_BYTES = 4096  # of the emulator
PIECE_BYTES = 128  # before the border of a page: what was issued earlier is done

# How many of each there are.
_UNITS = {"issue": 2, "memory": 1, "multiply": 1, "divide": 1, "branch": 1, "lane": 2}

_BRANCHES = dict.fromkeys(("b", "bl", "cbz", "cbnz", "tbz", "tbnz", "ret"), TAKEN) | dict.fromkeys(("br", "blr"), TAKEN_INDIRECT)
_INDIRECT = ("ret", "br", "blr")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHIFTS = _names("lsl lsr asr ror sxtb sxth sxtw uxtb uxth ubfx sbfx ubfiz sbfiz ubfm sbfm bfi bfxil bfm bfc extr rev rev16 rev32 rbit")
_INSERTS = _names("bfi bfxil bfm bfc")
_MULTIPLIES = _names("mul mneg madd msub smull umull smaddl umaddl smsubl umsubl smnegl umnegl")
_HIGH_MULTIPLIES = _names("smulh umulh")
_SLOW_LOADS = ("ldrb", "ldrh", "ldrs", "ldurb", "ldurh", "ldurs", "ldp", "ldnp")

# NEON; a trailing 2 (upper half) is stripped before. Whatever is missing takes 2 cycles, float arithmetic 4.
_NARROWS = _names("xtn shrn rshrn sqxtn uqxtn sqxtun sqshrn uqshrn sqshrun sqrshrn uqrshrn sqrshrun")
_CHAINS = dict.fromkeys(_names("mla mls smlal umlal smlsl umlsl"), 1) | dict.fromkeys(_names("fmla fmls fmadd fmsub fnmadd fnmsub"), 4)
_PAIRWISE = _names("saba uaba sabal uabal sadalp uadalp")
_TWICE = _PAIRWISE | _names("raddhn rsubhn srsra ursra")
_DIVIDES = _names("fdiv fsqrt")
_BY_LATENCY = {
    1: _names("and orr orn eor bic mvn not movi mvni fcmp fcmpe fccmp"),
    2: _names("fcsel fmov"),
    3: _names(
        "abs saddl uaddl ssubl usubl saddw uaddw ssubw usubw saddlp uaddlp saddlv uaddlv addp addv addhn subhn sabd uabd sabdl uabdl sqadd "
        "uqadd sqsub uqsub suqadd usqadd sqneg srshr urshr srshl urshl ssra usra rshrn cls cmtst pmul pmull"
    ),
    4: _names(
        "mul smull umull mla mls smlal umlal smlsl umlsl sqdmulh sqrdmulh sqdmull sqdmlal sqdmlsl sqxtn uqxtn sqxtun sqshrn uqshrn sqshrun "
        "sqrshrn uqrshrn sqrshrun smaxv sminv umaxv uminv sqabs sqshl uqshl sqshlu sqrshl uqrshl scvtf ucvtf"
    )
    | _TWICE,
    8: _names("fmla fmls fmadd fmsub fnmadd fnmsub"),
    18: _DIVIDES,
}
_LATENCIES = {name: latency for latency, names in _BY_LATENCY.items() for name in names}
_BUSY = dict.fromkeys(_TWICE, 2) | dict.fromkeys(_DIVIDES, 14)
_FULL = frozenset((arm64.ARM64_VAS_16B, arm64.ARM64_VAS_8H, arm64.ARM64_VAS_4S, arm64.ARM64_VAS_2D, arm64.ARM64_VAS_1Q))


class Result(NamedTuple):
    """Cycle from which a register can be an operand, an address, and the sum of a multiply-accumulate of class `chain`."""

    operand: int
    address: int
    sum: int
    chain: str


@dataclass(frozen=True, slots=True)
class Step:
    """What the rules need to know of one instruction.

    Attributes:
        needs: (unit, how many, cycles) besides its place in the issue; latency: until its result is an operand.
        operands, addresses, stored, sums: registers read, by how early they must be there.
        results: registers written; based: the one of them that is an address counted on.
        chain: class of multiply-accumulates that hand their sums to each other; chain_cycles: after so many.
        taken: cycles more when it leaves the straight line; None for an instruction that cannot.
        drains: whether nothing is under way once it has.
    """

    needs: tuple[tuple[str, int, int], ...]
    latency: int
    operands: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()
    sums: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    based: frozenset[str] = frozenset()
    chain: str = ""
    chain_cycles: int = 0
    taken: int | None = None
    drains: bool = False


@dataclass(frozen=True, slots=True)
class Flight:
    """What is under way when a block begins: results by register, units with the cycles until each is free.

    Cycle 0 is that of the last instruction before; the next one may share it only where that was no branch.
    """

    results: tuple[tuple[str, Result], ...] = ()
    units: tuple[tuple[str, tuple[int, ...]], ...] = (("issue", (1, 1)),)


class CycleModel:
    """Costs of executed blocks of one program.

    Args:
        code: machine code (A64) at `base`.
    """

    def __init__(self, code: bytes, base: int) -> None:
        self._code = Code(code, base, capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM, "A64", _decode)
        self.steps = self._code.steps
        self._costs: dict[tuple[int, int, Flight], int] = {}
        self._ends: dict[tuple[int, int], Flight] = {}

    def block(self, address: int, size_bytes: int, before: Flight | None = None) -> int:
        """Cycles of the block at `address`; `before` is what was under way when it began."""
        key = (address, size_bytes, before or Flight())
        if key not in self._costs:
            self._costs[key] = issue(self.steps(address, size_bytes), key[2])[0]
        return self._costs[key]

    def transition(self, address: int, size_bytes: int, following: int) -> tuple[int, Flight]:
        """Cycles of going on from the block at `address` to `following`, and what is then under way."""
        last = self.steps(address, size_bytes)[-1]
        under_way = self._end(address, size_bytes)
        if following == address + size_bytes:
            return 0, under_way if last.taken is None else _branched(0, under_way)
        if last.taken is None:
            raise FirmwareError(f"the program went from 0x{address:x} to 0x{following:x} without a branch: an exception was taken")
        return last.taken, Flight() if last.drains else _branched(last.taken, under_way)

    def _end(self, address: int, size_bytes: int) -> Flight:
        """What is under way at the end of a block. The emulator cuts blocks where a page begins: then with the piece before."""
        key = (address, size_bytes)
        if key not in self._ends:
            piece = min(address - self._code.base, PIECE_BYTES) if address % PAGE_BYTES == 0 else 0
            before: list[Step] = []
            for step in self.steps(address - piece, piece) if piece else ():
                before = [] if step.taken is not None else [*before, step]
            self._ends[key] = issue((*before, *self.steps(address, size_bytes)), Flight())[1]
        return self._ends[key]


def issue(steps: tuple[Step, ...], before: Flight) -> tuple[int, Flight]:
    """Cycles until the last of `steps` has issued, and what is under way then."""
    ready = dict(before.results)
    free = {unit: (0,) * count for unit, count in _UNITS.items()} | dict(before.units)
    now = 0
    for step in steps:
        needs = (("issue", 1, 1), *step.needs)
        now = max(now, *(free[unit][count - 1] for unit, count, _ in needs), *_operands(step, ready))
        for unit, count, cycles in needs:
            free[unit] = tuple(sorted((*free[unit][count:], *(now + cycles,) * count)))
        late = now + step.latency
        plain = not step.needs
        for register in step.results:
            ready[register] = Result(late, late + plain, now + step.chain_cycles if step.chain else late, step.chain)
        for register in step.based:
            ready[register] = Result(now + 1, now + 1, now + 1, "")
    return now, _later(now, Flight(tuple(ready.items()), tuple(free.items())))


def _operands(step: Step, ready: dict[str, Result]) -> list[int]:
    """Cycles from which each operand of `step` is there."""
    times = [ready[r].operand for r in step.operands if r in ready]
    times += [ready[r].address for r in step.addresses if r in ready]
    times += [ready[r].operand - 1 for r in step.stored if r in ready]
    for register in step.sums & ready.keys():
        result = ready[register]
        times.append(result.sum if result.chain == step.chain else result.operand)
    return times


def _later(cycles: int, under_way: Flight) -> Flight:
    """What is still under way `cycles` later."""
    left = [(r, Result(max(t[0] - cycles, 0), max(t[1] - cycles, 0), max(t[2] - cycles, 0), t.chain)) for r, t in under_way.results]
    busy = [(unit, tuple(max(time - cycles, 0) for time in times)) for unit, times in under_way.units]
    return Flight(
        tuple(sorted((register, result) for register, result in left if any(result[:3]))),
        tuple(sorted((unit, times) for unit, times in busy if any(times))),
    )


def _branched(cycles: int, under_way: Flight) -> Flight:
    """What is under way `cycles` after a branch: nothing issues in the cycle that it left."""
    left = _later(cycles, under_way)
    return Flight(left.results, tuple(sorted({**dict(left.units), "issue": (1, 1)}.items())))


def _decode(instruction: Any) -> Step:
    name: str = instruction.mnemonic
    plain = name.split(".")[0]
    if plain in _BRANCHES:
        writes = _registers(instruction, instruction.regs_access()[1])
        return Step((("branch", 1, 1),), 1, results=writes, taken=_BRANCHES[plain], drains=plain in _INDIRECT)
    if any(o.type == arm64.ARM64_OP_MEM for o in instruction.operands):
        return _memory(instruction, name)
    if any(_is_vector(r) for r in _used(instruction)):
        return _vector(instruction, name)
    return _integer(instruction, name)


def _integer(instruction: Any, name: str) -> Step:
    reads, writes = (_registers(instruction, registers) for registers in instruction.regs_access())
    if name in _MULTIPLIES or name in _HIGH_MULTIPLIES:
        wide = instruction.reg_name(instruction.operands[1].reg).startswith("x")
        latency, busy = (6, 4) if name in _HIGH_MULTIPLIES else (4, 2) if wide else (3, 1)
        sums = _registers(instruction, [o.reg for o in instruction.operands[3:]])
        return Step((("multiply", 1, busy),), latency, reads - sums, sums=sums, results=writes, chain="multiply", chain_cycles=2)
    if name in ("sdiv", "udiv"):
        return Step((("divide", 1, 8),), 8, reads, results=writes)
    if name in _SHIFTS:
        if name not in _INSERTS:  # capstone lists the result among the operands
            reads = _registers(instruction, [o.reg for o in instruction.operands[1:] if o.type == arm64.ARM64_OP_REG])
        immediate = instruction.operands[-1].type == arm64.ARM64_OP_IMM or len(instruction.operands) < 3
        return Step((), 2 if immediate else 1, reads, results=writes)
    shifted = any(o.shift.type or o.ext for o in instruction.operands if o.type == arm64.ARM64_OP_REG)
    return Step((), 2 if shifted else 1, reads, results=writes)


def _vector(instruction: Any, name: str) -> Step:
    reads, writes = (_registers(instruction, registers) for registers in instruction.regs_access())
    name = name.removesuffix("2")
    full = any(o.vas in _FULL and o.vector_index < 0 for o in instruction.operands)
    latency = _LATENCIES.get(name, 4 if name.startswith("f") and not name.startswith(("fcm", "fac")) else 2)
    busy = _BUSY.get(name, 1)
    registers = _used(instruction)
    if not _is_vector(registers[0]):
        latency = 3
    elif any(r[0] in "wx" for r in registers):
        latency = 2
    elif name == "mov":
        latency = 1 if full else 2
    elif name in ("tbl", "tbx"):
        tables = len(registers) - 2
        latency, busy = (tables + 1, tables) if name == "tbl" else (tables + 2, tables + 1)
        if name == "tbl":  # capstone lists the result among the operands
            reads = frozenset(_plain(r) for r in registers[1:])
    lanes = ("lane", 2 if (full and name not in _NARROWS) or name in _DIVIDES else 1, busy)
    if name in _CHAINS or name in _PAIRWISE:
        tied = instruction.operands[3 if name.startswith(("fmadd", "fmsub", "fnm")) else 0].reg
        sums = _registers(instruction, [tied])
        chain = "pairwise" if name in _PAIRWISE else "float" if name.startswith("f") else "integer"
        return Step((lanes,), latency, reads - sums, sums=sums, results=writes, chain=chain, chain_cycles=_CHAINS.get(name, 2))
    return Step((lanes,), latency, reads, results=writes)


def _memory(instruction: Any, name: str) -> Step:
    data = [instruction.reg_name(o.reg) for o in instruction.operands if o.type == arm64.ARM64_OP_REG]
    place = next(o.mem for o in instruction.operands if o.type == arm64.ARM64_OP_MEM)
    structure = name[:2] in ("ld", "st") and name[2:3].isdigit()
    if structure:  # the increment of a structure's address may be a register
        data = [r for r in data if _is_vector(r)]
    addresses = _registers(instruction, [r for r in (place.base, place.index) if r])
    based = _registers(instruction, [place.base] if instruction.writeback else [])
    registers = frozenset(_plain(r) for r in data) - {"zr"}
    cycles = _memory_cycles(instruction, name, data)
    if name.startswith("st"):
        return Step((("memory", 1, cycles),), 1, addresses=addresses, stored=registers, based=based)
    if not name.startswith("ld"):  # prefetches
        return Step((("memory", 1, 1),), 1, addresses=addresses)
    if data and _is_vector(data[0]):
        merged = registers if any(o.vector_index >= 0 for o in instruction.operands) else frozenset[str]()
        needs = (("memory", 1, cycles), ("lane", 1, cycles))
        return Step(needs, 3 + cycles, merged, addresses, results=registers, based=based)
    latency = 4 if name.startswith(_SLOW_LOADS) else 3
    return Step((("memory", 1, cycles),), latency, addresses=addresses, results=registers, based=based)


def _memory_cycles(instruction: Any, name: str, data: list[str]) -> int:
    """Cycles that a load or store keeps the load unit: 64 bits a cycle loaded, 128 stored."""
    store = name.startswith("st")
    if name[2:3].isdigit():
        woven = int(name[2])
        if name.endswith("r") or instruction.operands[0].vector_index >= 0:
            return (woven + 1) // 2
        words = len(data) * (2 if instruction.operands[0].vas in _FULL else 1)
        return (-(-words // 2) if store else words) + (woven >= 3)
    words = len(data) * (2 if data and data[0].startswith("q") else 1)
    return max(-(-words // 2) if store else words, 1)


def _used(instruction: Any) -> list[str]:
    return [instruction.reg_name(o.reg) for o in instruction.operands if o.type == arm64.ARM64_OP_REG]


def _registers(instruction: Any, registers: list[int]) -> frozenset[str]:
    return frozenset(_plain(instruction.reg_name(r)) for r in registers) - {"zr"}


def _is_vector(name: str) -> bool:
    return name[0] in "bhsdqv" and name[1:].isdigit()


def _plain(name: str) -> str:
    """One name for all views of a register."""
    if name[1:] == "zr":
        return "zr"
    if _is_vector(name):
        return f"v{name[1:]}"
    return {"fp": "x29", "lr": "x30", "wsp": "sp"}.get(name, f"x{name[1:]}" if name[0] == "w" and name[1:].isdigit() else name)
