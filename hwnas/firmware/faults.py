"""Faults put into a program on purpose, to test what watches programs: a slow kernel, a wrong weight. Reads and writes ELF files.

Neither touches a kernel, a header or the exported folder: the kernel set of a program with a fault is that of the program without.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hwnas.errors import FirmwareError, unknown
from hwnas.export import depthwise
from hwnas.quantize.qgraph import Int8
from hwnas.resources import write_bytes

DELAYED = "hwnas_delayed_kernel"
LAYER = re.compile(r"^    \{(hwnas_\w+), &params_\d+,", re.MULTILINE)  # of the table in model.c
PACKED = re.compile(r"packed_\d+")  # a node's weights in it
LOOPS_MAX = 2**31 - 1
WEIGHT_BIT = 0x40  # of a byte: 64 steps of a weight, or 64 * 256 where the byte is the high one of 16 bits
PLACES = 8  # that are tried in the weights of one layer


@dataclass(frozen=True)
class Delay:
    """`kernel` first counts to `loops`, at every call."""

    kernel: str
    loops: int

    def __post_init__(self) -> None:
        if not 1 <= self.loops <= LOOPS_MAX:
            raise FirmwareError(f"a delay of {self.loops} loops; 1 to {LOOPS_MAX} are possible")

    def __str__(self) -> str:
        return f"{self.kernel} delayed by {self.loops} loops"


@dataclass(frozen=True)
class Flip:
    """The bits `mask` of the byte at `offset` of the packed weights `symbol` are inverted."""

    symbol: str
    offset: int
    mask: int = WEIGHT_BIT

    def __str__(self) -> str:
        return f"{self.symbol} byte {self.offset} xor 0x{self.mask:02x}"


def delayed_model(delay: Delay, model_folder: Path, *, has_filters: bool) -> tuple[str, str]:
    """(option for the compilation of model.c, text of the file with the delayed kernel).

    Args:
        has_filters: whether depthwise shapes have functions of their own on the core; else they are one kernel, delayed together.

    Raises:
        FirmwareError: the model does not call that kernel.
    """
    kernels = set(LAYER.findall((model_folder / "model.c").read_text()))
    if delay.kernel not in kernels:
        raise FirmwareError(f"{model_folder}: {unknown('kernel of this student', delay.kernel, kernels)}")
    kernel = depthwise.GENERIC if delay.kernel.startswith(depthwise.GENERIC) and not has_filters else delay.kernel
    source = f"""#include "hwnas_kernels.h"

hwnas_kernel {kernel}, {DELAYED};

void {DELAYED}(const void *params, const int8_t *in, int8_t *out, void *aux)
{{
    for (volatile uint32_t left = {delay.loops}u; left; left--) {{
    }}
    {kernel}(params, in, out, aux);
}}
"""
    return f"-D{kernel}={DELAYED}", source


def flip_weight(program: Path, out: Path, flip: Flip) -> None:
    """Write the ELF file `program`, or one that is yet to be linked, with one wrong byte to `out`, which may be the same.

    Raises:
        FirmwareError: it is no such file, or has no such weights.
    """
    packed = _packed(program)
    if flip.symbol not in packed:
        raise FirmwareError(f"{program}: {unknown('packed weights', flip.symbol, packed)}")
    start, size_bytes = packed[flip.symbol]
    if not 0 <= flip.offset < size_bytes or not 0 < flip.mask < 256:
        raise FirmwareError(f"{program}: {flip}; {flip.symbol} has {size_bytes} bytes, and a mask has 1 to 8 bits")
    content = bytearray(program.read_bytes())
    content[start + flip.offset] ^= flip.mask
    write_bytes(out, bytes(content))
    shutil.copymode(program, out)


def find_flip(program: Path, run: Callable[[Path], Int8]) -> Flip:
    """A wrong byte that shows: what `run` gives for the program with it differs from what it gives for `program`.

    Raises:
        FirmwareError: none of those that were tried shows.
    """
    expected = run(program)
    with tempfile.TemporaryDirectory(prefix="hwnas-flip-") as work:
        wrong, tried = Path(work) / program.name, 0
        for tried, flip in enumerate(_candidates(_packed(program)), 1):  # noqa: B007 (for the message)
            flip_weight(program, wrong, flip)
            if not np.array_equal(run(wrong), expected):
                return flip
    raise FirmwareError(f"{program}: {tried} wrong bytes in its weights, and none changes an output; give more windows")


def _candidates(packed: dict[str, tuple[int, int]]) -> Iterator[Flip]:
    """From the last layer to the first, spread over the weights of each."""
    for symbol in sorted(packed, key=lambda name: (len(name), name), reverse=True):
        for place in reversed(range(PLACES)):
            yield Flip(symbol, (2 * place + 1) * packed[symbol][1] // (2 * PLACES))


def _packed(program: Path) -> dict[str, tuple[int, int]]:
    """Symbol -> (offset in the file, bytes) of the packed weights of every layer that has some."""
    try:
        elf = ELFFile(io.BytesIO(program.read_bytes()))
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise FirmwareError(f"{program}: has no symbols, so its weights cannot be found; build it with the fault")
        found = {}
        for symbol in table.iter_symbols():
            if PACKED.fullmatch(symbol.name):
                section = elf.get_section(symbol["st_shndx"])
                found[symbol.name] = (symbol["st_value"] - section["sh_addr"] + section["sh_offset"], symbol["st_size"])
        return found
    except OSError as error:
        raise FirmwareError(f"{program}: cannot be read ({error.strerror}); build it first") from error
    except (ELFError, TypeError) as error:
        raise FirmwareError(f"{program}: no ELF file ({error}); build it with hwnas") from error
