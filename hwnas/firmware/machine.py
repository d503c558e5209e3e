"""A processor core in memory: loads a program, calls its functions, counts modelled cycles. Uses Unicorn; reads the ELF file.

Memory is that of the program's own linker script: flash, RAM and a page of system registers; anything else faults.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from unicorn import unicorn_const as const
from unicorn.unicorn import Uc, UcError

from hwnas.errors import FirmwareError
from hwnas.firmware.core import Core
from hwnas.firmware.counting import Call, Counter, Watch

STACK_PAINT = b"\xa5"
CALL_LIMIT_S = 60.0  # of emulation for one call; a window takes about a tenth of a second
PAGE_BYTES = 4096  # memory is mapped in whole pages

DISTURBANCE_BYTES = 16  # code before a block that may matter to it

# Functions of a program that are no operators although they carry the project's prefix.
FRAME_FUNCTIONS = ("hwnas_run", "hwnas_model_run", "hwnas_harness_wait")
READ_WRITE = const.UC_PROT_READ | const.UC_PROT_WRITE


@dataclass(frozen=True)
class Program:
    """An ELF file, read.

    Attributes:
        flash: bytes of flash from its start: code, constants, initial data.
        symbols: address of every function and variable, without the entry bit.
        sizes: size in bytes of each of them.
        kernels: entry address -> name of the functions that are operators.
        flash_bytes, ram_bytes: sizes of what is loaded, and of .data and .bss.
    """

    flash: bytes
    symbols: dict[str, int]
    sizes: dict[str, int]
    kernels: dict[int, str]
    flash_bytes: int
    ram_bytes: int

    def address(self, name: str) -> int:
        """Address of `name`; raises FirmwareError where the program has none."""
        if name not in self.symbols:
            raise FirmwareError(f"the program has no '{name}'; build it with `hwnas.firmware.build`")
        return self.symbols[name]

    @property
    def flash_region(self) -> tuple[int, int]:
        """(origin, bytes) of the flash of the target."""
        return self.symbols["__flash_origin"], self.symbols["__flash_bytes"]

    @property
    def ram_region(self) -> tuple[int, int]:
        """(origin, bytes) of the RAM of the target."""
        return self.symbols["__ram_origin"], self.symbols["__ram_bytes"]

    @property
    def stack_region(self) -> tuple[int, int]:
        """(origin, bytes) of the stack, which ends where RAM ends."""
        return self.symbols["__stack_limit"], self.symbols["__stack_bytes"]


def read_elf(path: Path, core: Core) -> Program:
    """Read the program `path` of `core`.

    Raises:
        FirmwareError: missing, damaged, for another core, or without the memory map of a target.
    """
    try:
        elf = ELFFile(io.BytesIO(path.read_bytes()))
        if elf["e_machine"] != core.elf_machine:
            raise FirmwareError(f"{path}: a program for {elf['e_machine']}, not for {core.name} ({core.elf_machine})")
        table = [s for s in _symbols(elf) if s.name]
        functions = {s.name: s["st_value"] & ~core.entry_bit for s in table if s["st_info"]["type"] == "STT_FUNC"}
        symbols = {s.name: s["st_value"] for s in table} | functions
        flash = _flash(elf, symbols["__flash_origin"], symbols["__flash_bytes"], path)
        sections = {s.name: s["sh_size"] for s in elf.iter_sections()}
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read ({error.strerror}); build the student's firmware first") from error
    except (ELFError, AttributeError, KeyError, ValueError) as error:
        raise FirmwareError(f"{path}: not a program of this project ({error}); build the student's firmware again") from error
    shared = {s.name for s in table if s["st_info"]["bind"] == "STB_GLOBAL"}
    kernels = {a: n for n, a in functions.items() if n.startswith("hwnas_") and n in shared and n not in FRAME_FUNCTIONS}
    data = sections.get(".data", 0)
    return Program(
        flash,
        symbols,
        {s.name: s["st_size"] for s in table},
        kernels,
        sections.get(".text", 0) + sections.get(".rodata", 0) + data,
        data + sections.get(".bss", 0),
    )


def _symbols(elf: ELFFile) -> Any:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise ValueError("it has no symbols")
    return table.iter_symbols()


def _flash(elf: ELFFile, origin: int, size_bytes: int, path: Path) -> bytes:
    """What the segments of `elf` put into flash."""
    flash = bytearray()
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]:
            start = segment["p_paddr"] - origin
            end = start + segment["p_filesz"]
            if start < 0 or end > size_bytes:
                raise FirmwareError(f"{path}: loads at 0x{segment['p_paddr']:x}, outside the flash of its target")
            flash.extend(bytes(max(end - len(flash), 0)))
            flash[start:end] = segment.data()
    return bytes(flash)


class Machine:
    """The processor with `program` in its flash.

    Args:
        limit_s: time after which a call counts as endless.

    Raises:
        FirmwareError: the program's memory is not made of whole pages, or regions overlap.
    """

    def __init__(self, program: Program, core: Core, limit_s: float = CALL_LIMIT_S) -> None:
        self.program = program
        self._core = core
        self._limit_us = int(limit_s * 1e6)
        self._translated = Watch.NOTHING  # what the translated code is watched for
        self._deepest = self._entry = 0
        self._flash_origin, self._flash_bytes = program.flash_region
        self._ram_origin, self._ram_bytes = program.ram_region
        self._stack_limit, self._stack_bytes = program.stack_region
        self._stack_top = self._stack_limit + self._stack_bytes
        self._model = core.cost_model(program.flash, self._flash_origin)
        self._uc: Any = Uc(core.arch, core.mode)  # its stubs lack half of it
        self._uc.ctl_set_cpu_model(core.cpu)
        self._map(program.flash_region, const.UC_PROT_READ | const.UC_PROT_EXEC)
        self._map(program.ram_region, READ_WRITE)
        if core.system:
            self._map(core.system, READ_WRITE)
        self._uc.mem_write(self._flash_origin, program.flash)

    def _map(self, region: tuple[int, int], rights: int) -> None:
        if any(number % PAGE_BYTES for number in region):
            raise FirmwareError(f"memory at 0x{region[0]:x} of {region[1]} bytes is not made of whole pages of {PAGE_BYTES} bytes")
        try:
            self._uc.mem_map(*region, rights)
        except UcError as error:
            raise FirmwareError(f"memory at 0x{region[0]:x} of {region[1]} bytes cannot be emulated ({error})") from error

    def read(self, address: int, size_bytes: int) -> bytes:
        """Memory at `address`."""
        return bytes(self._uc.mem_read(address, size_bytes))

    def write(self, address: int, content: bytes) -> None:
        """Set memory at `address`."""
        self._uc.mem_write(address, content)

    def paint_stack(self) -> None:
        """Paint the whole stack; `stack_bytes` then tells how deep later calls went."""
        self._deepest = 0
        self.write(self._stack_limit, STACK_PAINT * self._stack_bytes)

    def stack_bytes(self) -> int:
        """High-water mark of the painted stack, in whole words.

        Raises:
            FirmwareError: the paint is gone to the last byte.
        """
        stack = self.read(self._stack_limit, self._stack_bytes)
        untouched = (len(stack) - len(stack.lstrip(STACK_PAINT))) & ~3
        if not untouched:
            raise FirmwareError(f"the program used all of its {self._stack_bytes} bytes of stack")
        return max(self._deepest, self._stack_bytes - untouched)

    def _settle(self, address: int, size_bytes: int) -> bool:
        """Repair what a memory hook disturbs when it is called from this block; False where it disturbs nothing."""
        start = max(address - self._flash_origin - DISTURBANCE_BYTES, 0)
        if not self._core.repair or not self._core.is_disturbed(self.program.flash[start : address - self._flash_origin + size_bytes]):
            return False
        self._core.repair(self._uc)
        return True

    def _entered(self) -> None:
        """An operator begins: what it takes of the stack is painted anew."""
        self._deepest = self.stack_bytes()
        self._entry = int(self._uc.reg_read(self._core.stack))
        self.write(self._stack_limit, STACK_PAINT * (self._entry - self._stack_limit))

    def _left(self) -> int:
        """Bytes of stack that the operator took which ends."""
        deepest, self._deepest = self._deepest, 0
        depth = self.stack_bytes()
        self._deepest = max(depth, deepest)
        return max(depth - (self._stack_top - self._entry), 0)

    def save(self) -> tuple[object, bytes]:
        """Registers and RAM, for `restore`."""
        return self._uc.context_save(), self.read(self._ram_origin, self._ram_bytes)

    def restore(self, state: tuple[object, bytes]) -> None:
        """Registers and RAM as `save` found them."""
        self._deepest = 0
        self._uc.context_restore(state[0])
        self.write(self._ram_origin, state[1])

    @property
    def link(self) -> int:
        """The link register: where the function that was just entered returns to."""
        return int(self._uc.reg_read(self._core.link)) & ~self._core.entry_bit

    def boot(self, stop: int) -> None:
        """Execute from reset until `stop`; raises as `call`."""
        self._uc.reg_write(self._core.stack, self._stack_top)
        self.go(self.program.address("Reset_Handler"), stop)

    def call(self, address: int, *arguments: int, watch: Watch = Watch.NOTHING) -> Call:
        """Call the function at `address` with words as arguments, on a stack of its own, and return when it does.

        Raises:
            FirmwareError: a fault, a call that does not end, a jump out of the program.
        """
        core, registers = self._core, len(self._core.arguments)
        self.paint_stack()
        for register, value in zip(core.arguments, arguments, strict=False):
            self._uc.reg_write(register, value)
        stacked = b"".join(value.to_bytes(core.pointer_bytes, "little") for value in arguments[registers:])
        stack = self._stack_top - (len(stacked) + 15 & ~15)
        self.write(stack, stacked)
        back = self._flash_origin + self._flash_bytes - 4  # never executed
        self._uc.reg_write(core.stack, stack)
        self._uc.reg_write(core.link, back | core.entry_bit)
        return self.go(address, back, watch=watch)

    def go(self, start: int, stop: int, *, watch: Watch = Watch.NOTHING) -> Call:
        """Execute from `start` until `stop` is reached; see `call`."""
        if watch != self._translated:
            self._uc.ctl_flush_tb()  # code translated without the hooks would run past them unseen
            self._translated = watch
        counter = Counter(self.program.kernels, stop, lambda: self.link, self._settle, self._entered, self._left)
        hooks = self._hooks(counter, watch)
        try:
            self._uc.emu_start(start | self._core.entry_bit, stop, timeout=self._limit_us)
        except UcError as error:
            raise FirmwareError(f"{self._where(counter)}: fault at 0x{self._pc():x} ({error})") from error
        except FirmwareError as error:
            raise FirmwareError(f"{self._where(counter)}: {error}") from error
        finally:
            for hook in hooks:
                self._uc.hook_del(hook)
        if self._pc() != stop:
            raise FirmwareError(f"{self._where(counter)}: did not end; stopped at 0x{self._pc():x}")
        return counter.call(self._model, self.stack_bytes) if watch else Call()

    def _hooks(self, counter: Counter, watch: Watch) -> list[int]:
        hooks = []
        if watch >= Watch.CYCLES:
            hooks.append(self._uc.hook_add(const.UC_HOOK_BLOCK, counter.block_hook()))
        if watch >= Watch.READS:
            end = self._flash_origin + self._flash_bytes - 1
            hooks.append(self._uc.hook_add(const.UC_HOOK_MEM_READ, counter.read_hook(), begin=self._flash_origin, end=end))
        if watch >= Watch.ALIGNMENT:
            accesses = const.UC_HOOK_MEM_READ | const.UC_HOOK_MEM_WRITE
            hooks.append(self._uc.hook_add(accesses, counter.access_hook(self._core.unaligned_cycles)))
        return hooks

    def _pc(self) -> int:
        return int(self._uc.reg_read(self._core.counter))

    def _where(self, counter: Counter) -> str:
        if counter.where:
            return counter.where
        pc = self._pc()
        in_flash = 0 <= pc - self._flash_origin < self._flash_bytes
        below = {a: n for n, a in self.program.symbols.items() if in_flash and self._flash_origin <= a <= pc and not n.startswith("$")}
        return f"function {below[max(below)]}" if below else "the program"
