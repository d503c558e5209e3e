"""Machine code of Cortex-M4 assembly text, and a program made of it. Runs zig."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from elftools.elf.elffile import ELFFile

from hwnas.firmware.machine import Program

FLASH, RAM, SIZE_BYTES, STACK_BYTES = 0x08000000, 0x20000000, 1 << 16, 1024
PREFIX = "hwnas_"


def assemble(functions: Mapping[str, str]) -> dict[str, bytes]:
    """Machine code of each function; each is assembled at a multiple of 16 bytes."""
    text = ".syntax unified\n.thumb\n" + "".join(
        f'.section .text.{name},"ax",%progbits\n.p2align 4\n{body}\n' for name, body in functions.items()
    )
    with tempfile.TemporaryDirectory() as work:
        source, made = Path(work) / "text.s", Path(work) / "text.o"
        source.write_text(text)
        target = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-c", str(source), "-o", str(made)]
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *target], check=True, capture_output=True, timeout=60)
        with made.open("rb") as file:
            elf = ELFFile(file)
            return {name: bytes(elf.get_section_by_name(f".text.{name}").data()) for name in functions}


def program(code: Mapping[str, bytes]) -> Program:
    """A program whose operators are `hwnas_` and the names of `code`."""
    flash, symbols = bytearray(256), {}
    for name, content in code.items():
        flash.extend(bytes(-len(flash) % 16))
        symbols[PREFIX + name] = FLASH + len(flash)
        flash.extend(content)
    memory = {"__flash_origin": FLASH, "__flash_bytes": SIZE_BYTES, "__ram_origin": RAM, "__ram_bytes": SIZE_BYTES}
    stack = {"__stack_limit": RAM + SIZE_BYTES - STACK_BYTES, "__stack_bytes": STACK_BYTES}
    return Program(bytes(flash), symbols | memory | stack, {}, {a: n for n, a in symbols.items()}, len(flash), 0)
