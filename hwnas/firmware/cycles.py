"""Cycles of Cortex-M4 code: each instruction decoded once, each executed edge between blocks costed by rule. Touches nothing.

The rules are those of the Arm Cortex-M4 Technical Reference Manual (DDI0439), section 3.3, at zero wait states:

- data processing, multiplies, SIMD, saturation, IT, NOP: 1; divide 2-12, taken as 7
- LDR 2, or 1 directly after another LDR whose result is not its address
- STR 1; with register offset 2, or 1 directly after LDR
- LDM, STM, PUSH, POP 1 + N; LDRD, STRD 3
- one more when a load or store's address register was written by the instruction just before
- branches 1, plus a refill of the pipeline when taken: 1 for an address in the instruction, 2 for one in a register or
  on the stack (TBB, TBH, LDR pc: 2 + 2)
- VMLA, VFMA 3; VDIV, VSQRT 14; VLDR, VSTR 2 (double 3); VLDM, VSTM, VPUSH, VPOP 1 + N; other VFP 1
- MRS, MSR 2; barriers 2

Left out: wait states of flash, unaligned accesses, data-dependent divide time, bus contention. So it is a lower bound.
A count comes from a program that was executed, but its cycles are modelled: never call them measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import capstone
from capstone import arm

from hwnas.errors import FirmwareError
from hwnas.firmware.decoding import Code

REFILL_DIRECT, REFILL_INDIRECT = 1, 2
DIVIDE_CYCLES = 7

_LOADS = {arm.ARM_INS_LDR, arm.ARM_INS_LDRB, arm.ARM_INS_LDRH, arm.ARM_INS_LDRSB, arm.ARM_INS_LDRSH}
_STORES = {arm.ARM_INS_STR, arm.ARM_INS_STRB, arm.ARM_INS_STRH}
_DOUBLES = {arm.ARM_INS_LDRD, arm.ARM_INS_STRD}
_MULTIPLES = {
    arm.ARM_INS_LDM,
    arm.ARM_INS_LDMDB,
    arm.ARM_INS_STM,
    arm.ARM_INS_STMDB,
    arm.ARM_INS_VLDMIA,
    arm.ARM_INS_VLDMDB,
    arm.ARM_INS_VSTMIA,
    arm.ARM_INS_VSTMDB,
}
_STACKS = {arm.ARM_INS_PUSH, arm.ARM_INS_POP, arm.ARM_INS_VPUSH, arm.ARM_INS_VPOP}
_DIRECT = {arm.ARM_INS_B, arm.ARM_INS_BL, arm.ARM_INS_CBZ, arm.ARM_INS_CBNZ}
_INDIRECT = {arm.ARM_INS_BX, arm.ARM_INS_BLX}
_TABLES = {arm.ARM_INS_TBB, arm.ARM_INS_TBH}
_FLOAT_MEMORY = {arm.ARM_INS_VLDR, arm.ARM_INS_VSTR}
_PLAIN = {
    arm.ARM_INS_SDIV: DIVIDE_CYCLES,
    arm.ARM_INS_UDIV: DIVIDE_CYCLES,
    **dict.fromkeys((arm.ARM_INS_VMLA, arm.ARM_INS_VMLS, arm.ARM_INS_VNMLA, arm.ARM_INS_VNMLS), 3),
    **dict.fromkeys((arm.ARM_INS_VFMA, arm.ARM_INS_VFMS, arm.ARM_INS_VFNMA, arm.ARM_INS_VFNMS), 3),
    **dict.fromkeys((arm.ARM_INS_VDIV, arm.ARM_INS_VSQRT), 14),
    **dict.fromkeys((arm.ARM_INS_MRS, arm.ARM_INS_MSR, arm.ARM_INS_DMB, arm.ARM_INS_DSB, arm.ARM_INS_ISB), 2),
}


@dataclass(frozen=True, slots=True)
class Step:
    """What the rules need to know of one instruction.

    Attributes:
        cycles: alone, not taken.
        cycles_after_load: directly after a single load whose result is not its address.
        is_load: a single load, which the next load or store may overlap.
        address: registers that form its address.
        writes: registers it writes.
        refill: cycles more when it leaves the straight line; None for an instruction that cannot.
    """

    cycles: int
    cycles_after_load: int
    is_load: bool
    address: frozenset[int]
    writes: frozenset[int]
    refill: int | None


class CycleModel:
    """Costs of executed blocks of one program.

    Args:
        code: machine code (Thumb) at `base`.
    """

    def __init__(self, code: bytes, base: int) -> None:
        self._code = Code(code, base, capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS, "Thumb", _decode)
        self.steps = self._code.steps
        self._cycles: dict[tuple[int, int, Step | None], int] = {}

    def block(self, address: int, size_bytes: int, before: Step | None = None) -> int:
        """Cycles of the block at `address`; `before` is the instruction that fell through into it, None after a taken branch."""
        key = (address, size_bytes, before)
        total = self._cycles.get(key)
        if total is None:
            total, previous = 0, before
            for step in self.steps(address, size_bytes):
                total += step_cycles(previous, step)
                previous = step
            self._cycles[key] = total
        return total

    def transition(self, address: int, size_bytes: int, following: int) -> tuple[int, Step | None]:
        """Refill cycles when the block at `address` is followed by `following`, and the step that falls through, if one does."""
        last = self.steps(address, size_bytes)[-1]
        if following == address + size_bytes:
            return 0, last
        if last.refill is None:
            raise FirmwareError(f"the program went from 0x{address:x} to 0x{following:x} without a branch: an exception was taken")
        return last.refill, None


def step_cycles(before: Step | None, step: Step) -> int:
    """Cycles of `step`, not taken, when `before` was executed just before it."""
    if before is None:
        return step.cycles
    wait = 1 if step.address & before.writes else 0
    return (step.cycles_after_load if before.is_load and not wait else step.cycles) + wait


def _decode(instruction: Any) -> Step:
    kind = instruction.id
    _, written = instruction.regs_access()
    writes = frozenset(written)
    to_pc = arm.ARM_REG_PC in writes
    if kind in _LOADS or kind in _STORES:
        return _single(instruction, writes, to_pc)
    if kind in _DOUBLES or kind in _FLOAT_MEMORY:
        return _step(3 if kind in _DOUBLES or _is_double(instruction) else 2, writes, _memory(instruction))
    if kind in _MULTIPLES:
        base = instruction.operands[0].reg
        return _step(len(instruction.operands), writes, {base}, REFILL_INDIRECT if to_pc else None)
    if kind in _STACKS:
        return _step(1 + len(instruction.operands), writes, {arm.ARM_REG_SP}, REFILL_INDIRECT if to_pc else None)
    if kind in _DIRECT:
        register = kind in (arm.ARM_INS_B, arm.ARM_INS_BL) and instruction.operands[0].type == arm.ARM_OP_REG
        return _step(1, writes, (), REFILL_INDIRECT if register else REFILL_DIRECT)
    if kind in _INDIRECT:
        return _step(1, writes, (), REFILL_INDIRECT)
    if kind in _TABLES:
        return _step(2, writes, _memory(instruction), REFILL_INDIRECT)
    return _step(_PLAIN.get(kind, 1), writes, (), REFILL_INDIRECT if to_pc else None)


def _single(instruction: Any, writes: frozenset[int], to_pc: bool) -> Step:
    load = instruction.id in _LOADS
    address = _memory(instruction)
    if load:
        return Step(2, 2 if to_pc else 1, not to_pc, address, writes, REFILL_INDIRECT if to_pc else None)
    register_offset = any(o.type == arm.ARM_OP_MEM and o.mem.index for o in instruction.operands)
    return Step(2 if register_offset else 1, 1, False, address, writes, None)


def _step(cycles: int, writes: frozenset[int], address: Any, refill: int | None = None) -> Step:
    return Step(cycles, cycles, False, frozenset(address), writes, refill)


def _memory(instruction: Any) -> frozenset[int]:
    """Registers of the memory operand; the program counter is no hazard."""
    memory = [o.mem for o in instruction.operands if o.type == arm.ARM_OP_MEM]
    return frozenset(r for m in memory for r in (m.base, m.index) if r not in (0, arm.ARM_REG_PC))


def _is_double(instruction: Any) -> bool:
    return bool(instruction.op_str.startswith("d"))
