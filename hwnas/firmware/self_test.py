"""Compiles an exported folder of C with nothing but itself, as its README says, and runs the self-test in it. Runs compilers and Unicorn.

Programs of this machine are executed. Those of a Cortex-M4 are called in Unicorn; they consist of the folder's own code alone, without
start-up code and without a C library.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import FirmwareError, lookup
from hwnas.export.c import KERNELS, SELF_TEST
from hwnas.firmware.build import cache_folder
from hwnas.firmware.cortex_m4 import CORTEX_M4
from hwnas.firmware.machine import Machine, read_elf
from hwnas.resources import write_text

RUN_S = 120.0
ZIG = (sys.executable, "-m", "ziglang", "cc")
FLAGS = ("-std=c99", "-O2", "-DHWNAS_MODEL_SELF_TEST")
BARE_FLAGS = ("-ffreestanding", "-ffunction-sections", "-fdata-sections", "-DHWNAS_NO_LIBC", "-nostdlib", "-Wl,--gc-sections")
LINK_FLAGS = ("-T", "memory.ld", "-Wl,-e,hwnas_self_test_main")
MESSAGE_LIMIT = 2000

FLASH_ORIGIN, FLASH_BYTES = 0x08000000, 16 << 20
RAM_ORIGIN, RAM_BYTES, STACK_BYTES = 0x20000000, 32 << 20, 4096

HOST_MAIN = """
#include <stdio.h>

static uint32_t arena[HWNAS_MODEL_ARENA_BYTES / 4];

int main(void)
{
    printf("%d", hwnas_model_self_test(arena));
    return 0;
}
"""

# What is not in the folder: somewhere to put the result.
BARE_MAIN = """
void hwnas_self_test_main(int32_t *result, void *arena);

void hwnas_self_test_main(int32_t *result, void *arena)
{
    *result = hwnas_model_self_test(arena);
}
"""

# The model has constants only: data that would need start-up code ends the link.
SCRIPT = f"""
__flash_origin = {FLASH_ORIGIN:#x};
__flash_bytes = {FLASH_BYTES:#x};
__ram_origin = {RAM_ORIGIN:#x};
__ram_bytes = {RAM_BYTES:#x};
__stack_bytes = {STACK_BYTES:#x};
__stack_limit = {RAM_ORIGIN + RAM_BYTES - STACK_BYTES:#x};
ENTRY(hwnas_self_test_main)
PHDRS {{ code PT_LOAD; }}
SECTIONS
{{
    .text __flash_origin : {{ *(.text*) *(.rodata*) *(.hwnas*) . = ALIGN(4); }} : code
    .data : {{ *(.data*) *(.bss*) *(COMMON) }}
    ASSERT(SIZEOF(.data) == 0, "the model has data that needs start-up code")
    /DISCARD/ : {{ *(.ARM.exidx*) *(.ARM.extab*) *(.comment) *(.ARM.attributes) }}
}}
"""


@dataclass(frozen=True)
class _Compiler:
    """A command, and whether its programs run in Unicorn as bare code of a Cortex-M4."""

    command: tuple[str, ...]
    bare: bool = False


COMPILERS: Mapping[str, _Compiler] = {
    "gcc": _Compiler(("gcc",)),
    "clang": _Compiler(("clang",)),
    "zig": _Compiler(ZIG),
    "zig for cortex-m4": _Compiler((*ZIG, *CORTEX_M4.target, "-fno-sanitize=all"), bare=True),
    "arm-none-eabi-gcc": _Compiler(CORTEX_M4.gcc, bare=True),
}


def run_self_test(folder: Path, compiler: str, options: Sequence[str] = ()) -> int:
    """What `hwnas_model_self_test` of the exported `folder` returns: 0, or 1 + the index of the first wrong output.

    Args:
        compiler: one of COMPILERS.
        options: of the compiler, besides those of the folder's README.

    Raises:
        UsageError: an unknown compiler.
        FirmwareError: no self-test in the folder, the compiler cannot run or refuses, or the program faults.
    """
    chosen = lookup(COMPILERS, compiler, "compiler")
    if not (folder / SELF_TEST).is_file():
        raise FirmwareError(f"{folder} has no {SELF_TEST}; export the student again with a window for it")
    with tempfile.TemporaryDirectory(prefix="hwnas-self-test-") as work:
        program = Path(work) / "program"
        build_alone(folder, compiler, program, options)
        if not chosen.bare:
            return int(_run([str(program)], Path(work), f"the self-test of {folder}"))
        read = read_elf(program, CORTEX_M4)
        machine = Machine(read, CORTEX_M4)
        machine.call(read.address("hwnas_self_test_main"), RAM_ORIGIN, RAM_ORIGIN + 4)
        return int.from_bytes(machine.read(RAM_ORIGIN, 4), "little", signed=True)


def build_alone(folder: Path, compiler: str, out_program: Path, options: Sequence[str] = ()) -> None:
    """Build the exported `folder` into a program that runs its self-test; arguments and errors as of `run_self_test`."""
    chosen = lookup(COMPILERS, compiler, "compiler")
    with tempfile.TemporaryDirectory(prefix="hwnas-self-test-") as place:
        work = Path(place)
        # Only the caller is told where the model's header is: the folder's own sources find theirs.
        write_text(work / "main.c", f'#include "{folder.resolve() / "model.h"}"\n' + (BARE_MAIN if chosen.bare else HOST_MAIN))
        write_text(work / "memory.ld", SCRIPT)
        flags = [*FLAGS, *((*BARE_FLAGS, *LINK_FLAGS) if chosen.bare else ()), *options]
        sources = [*sorted(folder.resolve().glob("*.c")), *sorted((folder / KERNELS).resolve().glob("*.c")), work / "main.c"]
        _run([*chosen.command, *flags, *map(str, sources), "-o", str(out_program.resolve())], work, f"building {folder}")


def _run(command: list[str], work: Path, what: str) -> str:
    """What `command` prints; it runs in `work`, so that nothing else is found by accident."""
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig"), "ZIG_LOCAL_CACHE_DIR": str(work / "zig")}
    try:
        done = subprocess.run(command, cwd=work, env=os.environ | caches, capture_output=True, text=True, timeout=RUN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirmwareError(f"{what}: {command[0]} cannot run ({error})") from error
    if done.returncode:
        message = (done.stderr or done.stdout).strip()[:MESSAGE_LIMIT]
        raise FirmwareError(f"{what}: {command[0]} failed with status {done.returncode}:\n{message}")
    return done.stdout
