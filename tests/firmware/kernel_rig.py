"""Runs single kernels three ways: portable C on this machine, the same under sanitizers, and the Cortex-M4 code in Unicorn.

On the emulated core every access is watched: aligned, and inside the tensors that the kernel was given.
"""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from numpy.typing import NDArray
from unicorn import arm_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn import Uc

BENCH = Path(__file__).resolve().parents[2] / "firmware_bench"
GUARD_BYTES = 32
PAINT = 0x55
FLASH, CONSTANTS, RAM, STACK = 0x08000000, 0x08100000, 0x20000000, 0x30000000  # one region each
REGION_BYTES = {FLASH: 1 << 18, CONSTANTS: 1 << 20, RAM: 1 << 20, STACK: 1 << 12}
BACK = FLASH + (1 << 18) - 4
SAVED = range(reg.UC_ARM_REG_R4, reg.UC_ARM_REG_R4 + 8)

TARGET_FLAGS = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-std=c99", "-O2", "-ffreestanding", "-fno-builtin"]
TARGET_FLAGS += ["-fno-sanitize=all", "-fomit-frame-pointer", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
TARGET_FLAGS += ["-ffunction-sections", "-g0", "-nostdlib"]
STRICT = ["-O2", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

LINKER_SCRIPT = """
SECTIONS
{
    . = 0x08000000;
    .text : SUBALIGN(4) { KEEP(*(.text*)) *(.rodata*) }
    /DISCARD/ : { *(.ARM.*) *(.comment) }
}
"""

# Reads calls (see `Sanitized.run`), gives each tensor a heap block of its exact size, writes the outputs.
DRIVER = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hwnas_kernels.h"
static hwnas_kernel *const kernels[] = {%s};
static void *block(uint32_t size)
{
    void *p = malloc(size ? size : 1);
    if (size && fread(p, 1, size, stdin) != size)
        exit(2);
    return p;
}
int main(void)
{
    uint32_t head[7]; /* kernel, bytes of params, packed, in, aux, out; 0 apart, 1 out is in, 2 out is aux */
    while (fread(head, sizeof head, 1, stdin) == 1) {
        char *params = block(head[1]), *packed = block(head[2]), *in = block(head[3]), *aux = block(head[4]), *out = block(head[5]);
        char *target = head[6] == 1 ? in : head[6] == 2 ? aux : out;
        if (head[2])
            memcpy(params, &packed, sizeof packed);
        kernels[head[0]](params, (const int8_t *)in, (int8_t *)target, aux);
        fwrite(target, 1, head[5], stdout);
        free(params), free(packed), free(in), free(aux), free(out);
    }
    return 0;
}
"""


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel.

    Attributes:
        kernel: name of the C function.
        params: int32 members of its structure, in order, without `packed`.
        packed: packed weights, or empty.
        source: the (first) input, int8.
        aux: the second input, or scratch of any content.
        out_bytes: size of the output.
        place: where the output lies: in a place of its own ("apart"), or over "source" or "aux".
    """

    kernel: str
    params: tuple[int, ...]
    packed: NDArray[np.uint32]
    source: bytes
    aux: bytes
    out_bytes: int
    place: str = "apart"


def include() -> list[str]:
    return ["-I", str(BENCH / "include")]


def source_of(kernel: str) -> Path:
    return BENCH / "kernels" / f"{kernel.removeprefix('hwnas_')}.c"


def zig(arguments: Sequence[str]) -> None:
    compile_with([sys.executable, "-m", "ziglang", "cc", *arguments])


def compile_with(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


class Host:
    """The portable kernels in a shared library."""

    def __init__(self, kernels: Sequence[str], folder: Path) -> None:
        library = folder / "kernels.so"
        sources = [str(source_of(k)) for k in kernels]
        flags = ["-std=c99", *STRICT, "-shared", "-fPIC", *include(), *sources, "-o", str(library)]
        compiler = shutil.which("cc")
        if compiler:
            compile_with([compiler, *flags])
        else:
            zig(flags)
        self._library = ctypes.CDLL(str(library))

    def run(self, call: KernelCall) -> bytes:
        """The output; what stands around every tensor must be untouched."""
        head = struct.pack("<Q", call.packed.ctypes.data) if call.packed.size else b""
        params = ctypes.create_string_buffer(head + struct.pack(f"<{len(call.params)}i", *call.params))
        buffers = [np.frombuffer(_guarded(b), np.uint8).copy() for b in (call.source, call.aux, bytes(call.out_bytes))]
        source, aux, out = (b.ctypes.data + GUARD_BYTES for b in buffers)
        target = {"apart": out, "source": source, "aux": aux}[call.place]
        function = getattr(self._library, call.kernel)
        function.restype = None
        function(params, *(ctypes.c_void_p(a) for a in (source, target, aux)))
        for buffer in buffers:
            assert (buffer[:GUARD_BYTES] == PAINT).all() and (buffer[-GUARD_BYTES:] == PAINT).all()
        return bytes(ctypes.string_at(target, call.out_bytes))


class Sanitized:
    """The portable kernels in a program with AddressSanitizer and UndefinedBehaviorSanitizer."""

    def __init__(self, kernels: Sequence[str], folder: Path) -> None:
        self._kernels = list(kernels)
        self._program = folder / "sanitized"
        driver = folder / "driver.c"
        driver.write_text(DRIVER % ", ".join(kernels))
        sources = [str(driver), *(str(source_of(k)) for k in kernels)]
        compile_with(["gcc", "-std=c99", "-O1", *SANITIZERS, *include(), *sources, "-o", str(self._program)])

    @staticmethod
    def available(folder: Path) -> bool:
        """Whether gcc with its sanitizers is here."""
        probe = folder / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        if not shutil.which("gcc"):
            return False
        built = subprocess.run(["gcc", *SANITIZERS, str(probe), "-o", str(folder / "probe")], capture_output=True, check=False)
        return built.returncode == 0 and subprocess.run([str(folder / "probe")], capture_output=True, check=False).returncode == 0

    def run(self, calls: Sequence[KernelCall]) -> list[bytes]:
        """The outputs; any finding of a sanitizer fails the test."""
        stream = b""
        for call in calls:
            params = bytes(8 if call.packed.size else 0) + struct.pack(f"<{len(call.params)}i", *call.params)
            parts = (params, call.packed.tobytes(), call.source, call.aux, bytes(call.out_bytes))
            place = ("apart", "source", "aux").index(call.place)
            stream += struct.pack("<7I", self._kernels.index(call.kernel), *map(len, parts), place) + b"".join(parts)
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run([str(self._program)], input=stream, capture_output=True, timeout=60, check=False, env=environment)
        assert done.returncode == 0, done.stderr.decode()
        ends = np.cumsum([0, *(c.out_bytes for c in calls)])
        assert len(done.stdout) == ends[-1]
        return [done.stdout[a:b] for a, b in pairwise(ends)]


class CortexM4:
    """The kernels' Cortex-M4 code in Unicorn, tensors in places of their own."""

    def __init__(self, kernels: Sequence[str], folder: Path) -> None:
        script, program = folder / "kernels.ld", folder / "kernels.elf"
        script.write_text(LINKER_SCRIPT)
        sources = [str(source_of(k)) for k in kernels]
        zig([*TARGET_FLAGS, *include(), *sources, "-T", str(script), f"-Wl,-e,{kernels[0]}", "-o", str(program)])
        elf = ELFFile(io.BytesIO(program.read_bytes()))
        self._code: bytes = elf.get_section_by_name(".text").data()
        self._entries = {s.name: s["st_value"] for s in elf.get_section_by_name(".symtab").iter_symbols() if s.name in kernels}
        self._allowed: list[tuple[int, int, bool]] = []
        self._faults: list[str] = []

    def run(self, call: KernelCall) -> bytes:
        """The output. Asserts that accesses are aligned and inside the tensors, and that the calling convention is kept."""
        uc, target = self._machine(call)
        uc.hook_add(const.UC_HOOK_MEM_READ | const.UC_HOOK_MEM_WRITE, self._watch)
        uc.emu_start(self._entries[call.kernel] | 1, BACK, timeout=60_000_000)
        assert not self._faults, f"{call.kernel}: {self._faults[:5]}"
        assert uc.reg_read(reg.UC_ARM_REG_PC) == BACK
        assert uc.reg_read(reg.UC_ARM_REG_SP) == STACK + REGION_BYTES[STACK]
        assert all(uc.reg_read(r) == r * 0x01010101 for r in SAVED)
        return bytes(uc.mem_read(target, call.out_bytes))

    def _machine(self, call: KernelCall) -> tuple[Any, int]:
        """A machine about to make the call, and where the output will be."""
        uc: Any = Uc(const.UC_ARCH_ARM, const.UC_MODE_THUMB | const.UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(reg.UC_CPU_ARM_CORTEX_M4)
        for base, size_bytes in REGION_BYTES.items():
            uc.mem_map(base, size_bytes)
        uc.mem_write(FLASH, self._code)
        packed = call.packed.tobytes()
        constants = packed + struct.pack(f"<{len(call.params) + 1}I", CONSTANTS, *(p & 0xFFFFFFFF for p in call.params))
        uc.mem_write(CONSTANTS, constants)
        params = CONSTANTS + len(packed) + (0 if packed else 4)
        source = RAM
        aux = source + _room(call.source)
        out = aux + _room(call.aux)
        for address, content in ((source, call.source), (aux, call.aux), (out, bytes([PAINT] * call.out_bytes))):
            uc.mem_write(address, _guarded(content))
        source, aux, out = (a + GUARD_BYTES for a in (source, aux, out))
        target = {"apart": out, "source": source, "aux": aux}[call.place]
        sp = STACK + REGION_BYTES[STACK]
        self._allowed = [
            (FLASH, FLASH + len(self._code), False),
            (CONSTANTS, CONSTANTS + len(constants), False),
            (source, source + len(call.source), call.place == "source"),
            (aux, aux + len(call.aux), (call.kernel != "hwnas_add" and call.kernel != "hwnas_concat") or call.place == "aux"),
            (out, out + call.out_bytes, True),
            (STACK, sp, True),
        ]
        self._faults = []
        for register, value in enumerate((params, source, target, aux), start=reg.UC_ARM_REG_R0):
            uc.reg_write(register, value)
        for register in SAVED:
            uc.reg_write(register, register * 0x01010101)
        uc.reg_write(reg.UC_ARM_REG_SP, sp)
        uc.reg_write(reg.UC_ARM_REG_LR, BACK | 1)
        return uc, target

    def _watch(self, _uc: object, access: int, address: int, size_bytes: int, _value: int, _data: object) -> None:
        writes = access == const.UC_MEM_WRITE
        if address % size_bytes:
            self._faults.append(f"unaligned access of {size_bytes} bytes at 0x{address:x}")
        if not any(a <= address and address + size_bytes <= b and (may_write or not writes) for a, b, may_write in self._allowed):
            self._faults.append(f"{'write' if writes else 'read'} of {size_bytes} bytes at 0x{address:x} outside the tensors")


def _guarded(content: bytes) -> bytes:
    guard = bytes([PAINT] * GUARD_BYTES)
    return guard + content + guard


def _room(content: bytes) -> int:
    """Bytes of a guarded tensor, in whole words."""
    return (len(content) + 2 * GUARD_BYTES + 3) & ~3
