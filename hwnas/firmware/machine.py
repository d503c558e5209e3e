"""A Cortex-M4 in memory: loads a program, calls its functions, counts modelled cycles. Uses Unicorn; touches no files.

Memory is that of the linker script: 1 MB flash, 192 KB SRAM, the system control page; anything else faults.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from unicorn import arm_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn import Uc, UcError

from hwnas.errors import FirmwareError
from hwnas.firmware.counting import BlockCounter, Call
from hwnas.firmware.cycles import CycleModel

FLASH_BASE, FLASH_BYTES = 0x08000000, 1 << 20
RAM_BASE, RAM_BYTES = 0x20000000, 192 << 10
SYSTEM_BASE, SYSTEM_BYTES = 0xE000E000, 0x1000
STACK_TOP = RAM_BASE + RAM_BYTES
STACK_PAINT = b"\xa5"
STACK_LIMIT_BYTES = 4096  # as painted by the start-up code

CALL_LIMIT_S = 60.0  # of emulation for one call; a window takes about a tenth of a second

OPERATORS = ("hwnas_conv1d", "hwnas_depthwise_conv1d", "hwnas_add", "hwnas_global_avg_pool")


@dataclass(frozen=True)
class Program:
    """An ELF file, read.

    Attributes:
        flash: bytes of flash from its start: code, constants, initial data.
        symbols: address of every function and variable, without the Thumb bit.
        sizes: size in bytes of each of them.
        flash_bytes, ram_bytes: sizes of what is loaded, and of .data and .bss.
    """

    flash: bytes
    symbols: dict[str, int]
    sizes: dict[str, int]
    flash_bytes: int
    ram_bytes: int

    def address(self, name: str) -> int:
        """Address of `name`; raises FirmwareError where the program has none."""
        if name not in self.symbols:
            raise FirmwareError(f"the program has no '{name}'; build it with `hwnas.firmware.build`")
        return self.symbols[name]


def read_elf(path: Path) -> Program:
    """Read the ELF file `path`.

    Raises:
        FirmwareError: missing, damaged, or not placed in this machine's flash.
    """
    try:
        elf = ELFFile(io.BytesIO(path.read_bytes()))
        if elf["e_machine"] != "EM_ARM":
            raise FirmwareError(f"{path}: a program for {elf['e_machine']}, not for Arm")
        flash = bytearray()
        for segment in elf.iter_segments():
            if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]:
                start = segment["p_paddr"] - FLASH_BASE
                end = start + segment["p_filesz"]
                if start < 0 or end > FLASH_BYTES:
                    raise FirmwareError(f"{path}: loads at 0x{segment['p_paddr']:x}, outside the flash of the target")
                flash.extend(bytes(max(end - len(flash), 0)))
                flash[start:end] = segment.data()
        table = [s for s in _symbols(elf) if s.name]
        sections = {s.name: s["sh_size"] for s in elf.iter_sections()}
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read ({error.strerror}); build the student's firmware first") from error
    except (ELFError, AttributeError, KeyError, ValueError) as error:
        raise FirmwareError(f"{path}: not a program of this project ({error}); build the student's firmware again") from error
    data = sections.get(".data", 0)
    return Program(
        bytes(flash),
        {s.name: s["st_value"] & ~1 for s in table},
        {s.name: s["st_size"] for s in table},
        sections.get(".text", 0) + sections.get(".rodata", 0) + data,
        data + sections.get(".bss", 0),
    )


def _symbols(elf: ELFFile) -> Any:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise ValueError("it has no symbols")
    return table.iter_symbols()


class Machine:
    """The processor with `program` in its flash.

    Args:
        extra: further RAM as (address, bytes), for profiling shapes that no real part could hold.
        limit_s: time after which a call counts as endless.
    """

    def __init__(self, program: Program, extra: tuple[int, int] | None = None, limit_s: float = CALL_LIMIT_S) -> None:
        self.program = program
        self._limit_us = int(limit_s * 1e6)
        self._counting = False
        self._model = CycleModel(program.flash, FLASH_BASE)
        self._operators = {program.symbols[name]: name for name in OPERATORS if name in program.symbols}
        self._uc: Any = Uc(const.UC_ARCH_ARM, const.UC_MODE_THUMB | const.UC_MODE_MCLASS)  # its stubs lack half of it
        self._uc.ctl_set_cpu_model(reg.UC_CPU_ARM_CORTEX_M4)
        self._uc.mem_map(FLASH_BASE, FLASH_BYTES, const.UC_PROT_READ | const.UC_PROT_EXEC)
        self._uc.mem_map(RAM_BASE, RAM_BYTES, const.UC_PROT_READ | const.UC_PROT_WRITE)
        self._uc.mem_map(SYSTEM_BASE, SYSTEM_BYTES, const.UC_PROT_READ | const.UC_PROT_WRITE)
        if extra:
            self._uc.mem_map(*extra, const.UC_PROT_READ | const.UC_PROT_WRITE)
        self._uc.mem_write(FLASH_BASE, program.flash)

    def read(self, address: int, size_bytes: int) -> bytes:
        """Memory at `address`."""
        return bytes(self._uc.mem_read(address, size_bytes))

    def write(self, address: int, content: bytes) -> None:
        """Set memory at `address`."""
        self._uc.mem_write(address, content)

    def paint_stack(self) -> None:
        """Paint the whole stack; `stack_bytes` then tells how deep later calls went."""
        self.write(STACK_TOP - STACK_LIMIT_BYTES, STACK_PAINT * STACK_LIMIT_BYTES)

    def stack_bytes(self) -> int:
        """High-water mark of the painted stack, in whole words.

        Raises:
            FirmwareError: the paint is gone to the last byte.
        """
        stack = self.read(STACK_TOP - STACK_LIMIT_BYTES, STACK_LIMIT_BYTES)
        untouched = (len(stack) - len(stack.lstrip(STACK_PAINT))) & ~3
        if not untouched:
            raise FirmwareError(f"the program used all of its {STACK_LIMIT_BYTES} bytes of stack")
        return STACK_LIMIT_BYTES - untouched

    def save(self) -> tuple[object, bytes]:
        """Registers and SRAM, for `restore`."""
        return self._uc.context_save(), self.read(RAM_BASE, RAM_BYTES)

    def restore(self, state: tuple[object, bytes]) -> None:
        """Registers and SRAM as `save` found them."""
        self._uc.context_restore(state[0])
        self.write(RAM_BASE, state[1])

    @property
    def link(self) -> int:
        """The link register: where the function that was just entered returns to."""
        return int(self._uc.reg_read(reg.UC_ARM_REG_LR)) & ~1

    def boot(self, stop: int) -> None:
        """Execute from reset until `stop`; raises as `call`."""
        self._uc.reg_write(reg.UC_ARM_REG_SP, STACK_TOP)
        self.go(self.program.address("Reset_Handler"), stop)

    def call(self, address: int, *arguments: int, count: bool = False) -> Call:
        """Call the function at `address` with words as arguments, and return when it does; cycles only with `count`.

        Raises:
            FirmwareError: a fault, a call that does not end, a jump out of the program.
        """
        for register, value in enumerate(arguments[:4], start=reg.UC_ARM_REG_R0):
            self._uc.reg_write(register, value)
        stacked = b"".join(value.to_bytes(4, "little") for value in arguments[4:])
        self.write(STACK_TOP - len(stacked), stacked)
        back = FLASH_BASE + FLASH_BYTES - 4  # never executed
        self._uc.reg_write(reg.UC_ARM_REG_SP, STACK_TOP - len(stacked))
        self._uc.reg_write(reg.UC_ARM_REG_LR, back | 1)
        return self.go(address, back, count=count)

    def go(self, start: int, stop: int, *, count: bool = False) -> Call:
        """Execute from `start` until `stop` is reached; see `call`."""
        if count != self._counting:
            self._uc.ctl_flush_tb()  # code translated without the hook would run past it unseen
            self._counting = count
        counter = BlockCounter(self._operators, stop, lambda: self.link)
        hook = self._uc.hook_add(const.UC_HOOK_BLOCK, counter.hook()) if count else None
        try:
            self._uc.emu_start(start | 1, stop, timeout=self._limit_us)
        except UcError as error:
            raise FirmwareError(f"{self._where(counter)}: fault at 0x{self._pc():x} ({error})") from error
        finally:
            if hook is not None:
                self._uc.hook_del(hook)
        if self._pc() != stop:
            raise FirmwareError(f"{self._where(counter)}: did not end; stopped at 0x{self._pc():x}")
        return counter.cycles(self._model) if count else Call(0, ())

    def _pc(self) -> int:
        return int(self._uc.reg_read(reg.UC_ARM_REG_PC))

    def _where(self, counter: BlockCounter) -> str:
        if counter.operators:
            return f"operator {len(counter.operators)} ({counter.operators[-1]})"
        pc = self._pc()
        in_flash = FLASH_BASE <= pc < FLASH_BASE + FLASH_BYTES
        below = {a: n for n, a in self.program.symbols.items() if in_flash and FLASH_BASE <= a <= pc and not n.startswith("$")}
        return f"function {below[max(below)]}" if below else "the program"
