"""Builds the program that serves a student over the board link, for every port. Runs compilers; writes a cache and the image.

The kernels of a microcontroller's or a watch's image are the very objects that its lookup table was filled with. An image holds no path and
no date: the same student, port and compiler give the same bytes.
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from hwnas.errors import FirmwareError, UsageError, unknown
from hwnas.export.c import INCLUDE, KERNELS
from hwnas.export.c.model import quoted
from hwnas.firmware.build import (
    OPTIMISATION,
    compile_for,
    compile_here,
    compiler_here,
    delayed,
    headers,
    kernel_object,
    kernel_objects,
    link,
    port_folder,
    zig,
    zig_version,
)
from hwnas.firmware.core import Core
from hwnas.firmware.cortex_a53 import CORTEX_A53
from hwnas.firmware.cortex_a53_linux import FLAGS as LINUX_FLAGS
from hwnas.firmware.cortex_a53_linux import TARGET as LINUX_TARGET
from hwnas.firmware.cortex_m4 import CORTEX_M4
from hwnas.firmware.faults import Delay, Flip, find_flip, flip_weight
from hwnas.firmware.transports import BAUD
from hwnas.hardware.profile import Memory, read
from hwnas.resources import folder, write_bytes

__all__ = ["PORTS", "Delay", "Flip", "Image", "Port", "build_image", "find_flip", "find_port", "flip_weight"]

MODEL_FLAGS = ("-Dhwnas_run=hwnas_link_run",)  # so that board.c can time operator by operator
HERE_FLAGS = ("-std=c99", OPTIMISATION, "-Wall", "-Wextra", "-Werror", "-g0")
SMALL = "-Os"  # for what is round the model on a microcontroller: of it a call is timed, and no more


@dataclass(frozen=True)
class Port:
    """What an image is built for.

    Attributes:
        name: as users name it.
        place: folder with the port's C; below `firmware_bench/ports` where it is relative.
        core: whose kernels the image has; None: this machine's.
        runs_linux: whether the image is a Linux program; else it is all that runs on the part.
        profile: hardware profile whose memory the image is placed in if no other is given.
    """

    name: str
    place: Path
    core: Core | None
    runs_linux: bool = False
    profile: str | None = None

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return folder("firmware_bench") / "ports" / self.place


PORTS = {
    port.name: port
    for port in (
        Port("stm32f405", Path("stm32f405"), CORTEX_M4, profile="stm32f405"),
        Port("linux-aarch64", Path("linux_link"), CORTEX_A53, runs_linux=True),
        Port("host", Path("linux_link"), None, runs_linux=True),
    )
}


@dataclass(frozen=True)
class Image:
    """A program for a board.

    Attributes:
        path: its ELF file.
        flash_bytes: code, constants and initial data, those of link and port (and of the C library, on Linux) included.
        toolchain: compiler and options.
    """

    path: Path
    flash_bytes: int
    toolchain: str


def find_port(name: str) -> Port:
    """The port of that name, or the one in the folder `name`: C for a Cortex-M4 as `firmware_bench/ports/template` has it.

    Raises:
        UsageError: neither exists, or the folder holds no C.
    """
    if name in PORTS:
        return PORTS[name]
    place = Path(name)
    if not place.is_dir():
        raise UsageError(f"{unknown('port', name, PORTS)} Or give the folder of a port of your own")
    if not any(place.glob("*.c")):
        raise UsageError(f"--port {name}: the folder holds no C file; copy firmware_bench/ports/template/port.c into it and fill it in")
    return Port(place.resolve().name, place.resolve(), CORTEX_M4)


def build_image(
    model_folder: Path,
    out: Path,
    port: Port,
    *,
    kernel_set: str,
    memory: Memory | None = None,
    delay: Delay | None = None,
    flip: Flip | None = None,
    baud: int = BAUD,
) -> Image:
    """Build the exported C in `model_folder` with link and port into the program `out`.

    Args:
        kernel_set: what the image says of the kernels it holds: `kernel_set_hash` of their core, or "" where they belong to none.
        memory: where it is placed; that of the port's own profile if not given. Linux programs need none.
        delay, flip: faults to build in; the image's note then names them.
        baud: of a serial line.

    Raises:
        FirmwareError: the compiler or linker refuses, the program does not fit, or the model has no such kernel or weights.
        UsageError: `memory` is needed and not given.
        RunError: `out` cannot be written.
    """
    bare = None if port.core is None or port.runs_linux else (port.core, memory or _memory(port), _script(port, port.core))
    toolchain = _toolchain(port.core, port.runs_linux)
    identity = {"TOOLCHAIN": toolchain, "KERNEL_SET": kernel_set, "NOTE": "; ".join(str(fault) for fault in (delay, flip) if fault)}
    bench, what = folder("firmware_bench"), f"building {model_folder} for {port.name}"
    model = model_folder / "model.c"
    include = [word for place in (model_folder / INCLUDE, model_folder, bench / "link") for word in ("-I", str(place))]
    with tempfile.TemporaryDirectory(prefix="hwnas-image-") as place:
        work = Path(place)
        options = {source: [f"-DHWNAS_LINK_BAUD={baud}"] for source in sorted(port.folder.glob("*.c"))}
        options |= {bench / "link" / "link.c": [], model: list(MODEL_FLAGS)}
        options |= {bench / "link" / "board.c": [f"-DHWNAS_LINK_{name}={quoted(text)}" for name, text in identity.items()]}
        for source, added in delayed(model_folder, delay, work, has_filters=port.core is not None and port.core.has_filters).items():
            options[source] = [*options.get(source, []), *added]
        objects = []
        for number, (source, own) in enumerate(options.items()):  # a port may have files of the same names as link and model
            objects.append(work / f"{number}-{source.stem}.o")
            _compile(port, [*own, *include, "-c", str(source), "-o", str(objects[-1])], what)
            if flip and source == model:
                flip_weight(objects[-1], objects[-1], flip)
        image = work / "image"
        if port.core is None:
            kernels = [*sorted((model_folder / KERNELS).glob("*.c")), *sorted(model_folder.glob("depthwise.c"))]
            compile_here([*HERE_FLAGS, *include, *map(str, (*objects, *kernels)), "-o", str(image)], what)
        elif bare is None:
            kernels = kernel_objects(model_folder, port.core)
            zig([*LINUX_TARGET, *LINUX_FLAGS, *map(str, (*objects, *kernels)), "-o", str(image)], what)
        else:
            # The core's vectors stand before those of the port's interrupts.
            start = kernel_object(port_folder(port.core) / "startup.c", headers(model_folder), port.core)
            link([start, *objects, *kernel_objects(model_folder, port.core)], image, *bare, model_folder)
        write_bytes(out, image.read_bytes())
    out.chmod(0o755)
    return Image(out, _flash_bytes(out), toolchain)


def _compile(port: Port, arguments: list[str], what: str) -> None:
    if port.core is None:
        compile_here([*HERE_FLAGS, *arguments], what)
    elif port.runs_linux:
        zig([*LINUX_TARGET, *LINUX_FLAGS, *arguments], what)
    else:
        compile_for(port.core, [SMALL, *arguments], what)


def _toolchain(core: Core | None, runs_linux: bool) -> str:
    """Short enough for the identity of a board."""
    if core is None:
        return f"{compiler_here()} {OPTIMISATION}"
    return f"{zig_version()} {' '.join(LINUX_TARGET if runs_linux else core.target)} {OPTIMISATION}"


def _memory(port: Port) -> Memory:
    if port.profile is None:
        raise UsageError(f"port {port.name} does not say what memory the part has; name a hardware profile of it with --profile")
    return read(port.profile).memory


def _script(port: Port, core: Core) -> Path:
    """The linker script: the port's own if it has one, else that of the core."""
    own = sorted(port.folder.glob("*.ld"))
    if len(own) > 1:
        raise FirmwareError(f"{port.folder} holds {len(own)} linker scripts ({', '.join(path.name for path in own)}); leave one")
    return own[0] if own else port_folder(core) / f"{core.port}.ld"


def _flash_bytes(image: Path) -> int:
    with io.BytesIO(image.read_bytes()) as file:
        kept = [s for s in ELFFile(file).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_ALLOC and s["sh_type"] != "SHT_NOBITS"]
        return sum(section["sh_size"] for section in kept)
