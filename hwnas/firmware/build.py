"""Builds the C of a student for a processor core, and for this machine. Runs a compiler; writes a cache and the result.

The kernels are the same for every student, so their objects are kept in the user's cache folder by content; a build then compiles
the constants and a short main, and links. The linker drops functions that the student does not call.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from hwnas.errors import FirmwareError
from hwnas.export import depthwise
from hwnas.export.c import INCLUDE, KERNELS
from hwnas.firmware.core import Core
from hwnas.firmware.faults import Delay, delayed_model
from hwnas.hardware.profile import STACK_BYTES, Memory
from hwnas.resources import folder, write_bytes, write_text

Compiler = Literal["zig", "gcc"]

COMPILER_S = 120.0
MESSAGE_LIMIT = 2000  # characters of the compiler's own message in an error
CODE_ALIGNMENT_BYTES = 16  # of sections, as the linker scripts say

# `-fno-builtin`: loops stay loops instead of becoming calls to memset and memcpy. `-g0`: nothing names this machine.
FLAGS = (
    "-std=c99",
    "-ffreestanding",
    "-fno-builtin",
    "-fomit-frame-pointer",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
    "-g0",
)
OWN_FLAGS: dict[Compiler, tuple[str, ...]] = {"zig": ("-fno-sanitize=all",), "gcc": ("-fno-tree-loop-distribute-patterns",)}
OPTIMISATION = "-O2"
# Core -> file -> what serves it better than -O2, as `benchmarks/kernel_flags.py` finds.
KERNEL_FLAGS = {
    "cortex-m4": dict.fromkeys(("startup.c", "lstm_int8.c", "lstm_int16.c", "avg_pool1d.c", "max_pool1d.c", "transpose.c"), "-Os")
}
HOST_FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")


def build(
    model_folder: Path,
    out_elf: Path,
    core: Core,
    memory: Memory,
    *,
    compiler: Compiler = "zig",
    keep: Sequence[str] = (),
    kernel_flags: Mapping[str, str] | None = None,
    delay: Delay | None = None,
) -> None:
    """Build the exported C in `model_folder` with the harness into `out_elf`, a program of `core` placed in `memory`.

    Args:
        keep: functions that stay though nothing calls them.
        kernel_flags: optimisation by file name, where it is not -O2; `KERNEL_FLAGS` of the core if not given.
        delay: a fault to build in.

    Raises:
        FirmwareError: the compiler or linker refuses (its message is in the error), the delayed kernel is none of the model's, or the
            program does not fit `memory` (says by how many bytes).
        RunError: `out_elf` cannot be written.
    """
    port, harness = port_folder(core), folder("firmware_bench") / "harness"
    objects = kernel_objects(model_folder, core, compiler, kernel_flags)
    objects += [kernel_object(source, headers(model_folder), core, compiler, kernel_flags) for source in sorted(port.glob("*.c"))]
    with tempfile.TemporaryDirectory(prefix="hwnas-build-") as place:
        work = Path(place)
        sources: dict[Path, list[str]] = {model_folder / "model.c": [], harness / "main.c": []}
        sources |= delayed(model_folder, delay, work, has_filters=core.has_filters)
        for source, options in sources.items():
            objects.append(work / f"{source.stem}.o")
            include = ("-I", str(model_folder / INCLUDE), "-I", str(model_folder))
            arguments = [OPTIMISATION, *include, *options, "-c", str(source), "-o", str(objects[-1])]
            compile_for(core, arguments, f"building {model_folder}", compiler)
        link(objects, out_elf, core, memory, port / f"{core.port}.ld", model_folder, compiler=compiler, keep=keep)


def kernel_objects(model_folder: Path, core: Core, compiler: Compiler = "zig", kernel_flags: Mapping[str, str] | None = None) -> list[Path]:
    """The object files of the kernels that the exported C in `model_folder` brings along."""
    kernels = [*sorted((model_folder / KERNELS).glob("*.c")), *sorted(model_folder.glob("depthwise.c"))]
    return [kernel_object(source, headers(model_folder), core, compiler, kernel_flags) for source in kernels]


def delayed(model_folder: Path, delay: Delay | None, work: Path, *, has_filters: bool) -> dict[Path, list[str]]:
    """Source -> options for its compilation, of what a delay changes: model.c, and a file written into the folder `work`."""
    if delay is None:
        return {}
    option, text = delayed_model(delay, model_folder, has_filters=has_filters)
    write_text(work / "delayed.c", text)
    return {model_folder / "model.c": [option], work / "delayed.c": []}


def link(
    objects: Sequence[Path],
    out_elf: Path,
    core: Core,
    memory: Memory,
    script: Path,
    model_folder: Path,
    *,
    compiler: Compiler = "zig",
    keep: Sequence[str] = (),
) -> None:
    """Link `objects` into the program `out_elf`, placed in `memory` by the linker script `script`.

    Raises:
        FirmwareError: the linker refuses, or the program of `model_folder` does not fit.
        RunError: `out_elf` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-link-") as work:
        elf, memory_map = Path(work) / "firmware.elf", Path(work) / "memory.ld"
        write_text(memory_map, _memory_map(memory, script, keep))
        arguments = [OPTIMISATION, "-nostdlib", "-Wl,--gc-sections", "-Wl,-e,Reset_Handler", "-T", str(memory_map), "-o", str(elf)]
        try:
            compile_for(core, [*map(str, objects), *arguments], f"linking {model_folder}", compiler)
        except FirmwareError as error:
            raise _overflow(str(error), model_folder, memory) or error from error
        write_bytes(out_elf, elf.read_bytes())


def build_host(model_folder: Path, out_library: Path) -> None:
    """Build the exported C in `model_folder` as a shared library of this machine, with `cc` where there is one, else with zig.

    Raises:
        FirmwareError: the compiler refuses (warnings are errors).
        RunError: `out_library` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-build-") as work:
        library = Path(work) / "model.so"
        sources = [*sorted(model_folder.glob("*.c")), *sorted((model_folder / KERNELS).glob("*.c"))]
        arguments = [*HOST_FLAGS, "-I", str(model_folder / INCLUDE), "-I", str(model_folder), *map(str, sources), "-o", str(library)]
        compile_here(arguments, f"building {model_folder} for this machine")
        write_bytes(out_library, library.read_bytes())


def compile_here(arguments: Sequence[str], what: str) -> None:
    """Call this machine's `cc`, or zig where there is none; raises FirmwareError."""
    compiler = shutil.which("cc")
    if compiler:
        _run([compiler, *arguments], {}, what)
    else:
        zig(arguments, what)


@cache
def compiler_here() -> str:
    """Name and version of what `compile_here` calls."""
    compiler = shutil.which("cc")
    return _run([compiler, "--version"], {}, f"asking for {compiler}").splitlines()[0].strip() if compiler else zig_version()


def kernel_object(
    source: Path, headers: Sequence[Path], core: Core, compiler: Compiler = "zig", kernel_flags: Mapping[str, str] | None = None
) -> Path:
    """The object file of one kernel or start-up file, compiled at most once per content.

    Args:
        headers: all headers of the one folder that `source` includes from.
        kernel_flags: as of `build`.
    """
    optimisation = (_kernel_flags(core) if kernel_flags is None else kernel_flags).get(source.name, OPTIMISATION)
    place = cache_folder() / "objects" / f"{source.stem}-{_hash([source, *headers], toolchain(core, compiler), optimisation)}.o"
    if not place.exists():
        with tempfile.TemporaryDirectory(prefix="hwnas-build-") as work:
            made = Path(work) / place.name
            include = ("-I", str(headers[0].parent)) if headers else ()
            compile_for(core, [optimisation, *include, "-c", str(source), "-o", str(made)], f"compiling {source}", compiler)
            write_bytes(place, made.read_bytes())
    return place


def code_bytes(object_file: Path, core: Core) -> dict[str, int]:
    """Bytes of flash that each section of an object takes in a program that uses all of it."""
    with io.BytesIO(object_file.read_bytes()) as file:
        sections = {}
        for section in ELFFile(file).iter_sections():
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"] and not section.name.startswith(".ARM."):
                unit = CODE_ALIGNMENT_BYTES if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR else core.constant_bytes
                sections[section.name] = -(-section["sh_size"] // unit) * unit
        return sections


@cache
def toolchain(core: Core, compiler: Compiler = "zig") -> str:
    """Name and version of the compiler and its flags, for tables and reports."""
    own = " ".join((*_target(core, compiler), *FLAGS, *OWN_FLAGS[compiler], OPTIMISATION))
    exceptions = "".join(f", {name} {flag}" for name, flag in sorted(_kernel_flags(core).items()))
    return f"{_version(core, compiler)} {own}{exceptions}"


def kernel_set_hash(core: Core) -> str:
    """Content hash of what decides the kernels' machine code: sources, headers, harness, generator, flags and compiler version."""
    bench = folder("firmware_bench")
    files = (f for part in (KERNELS, INCLUDE, "harness", f"ports/{core.port}") for f in (bench / part).iterdir())
    sources = sorted(f for f in files if f.suffix in (".c", ".h", ".ld"))
    return _hash([*sources, *sorted(Path(depthwise.__file__).parent.glob("*.py"))], toolchain(core))


def cache_folder() -> Path:
    """A folder for compiled kernels that survives: the user's cache, or a temporary one where that cannot be written."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    try:
        return _writable(Path(home) / "hwnas")
    except OSError:
        pass
    place = Path(tempfile.gettempdir()) / f"hwnas-cache-{os.getuid()}"
    try:
        return _writable(place)
    except OSError as error:
        raise FirmwareError(f"no folder for compiled kernels can be written ({error}); set XDG_CACHE_HOME to one that can") from error


def _writable(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    if place.stat().st_uid != os.getuid():
        raise PermissionError(f"{place} is another user's")
    with tempfile.TemporaryFile(dir=place):
        return place


def _kernel_flags(core: Core) -> Mapping[str, str]:
    return KERNEL_FLAGS.get(core.name, {})


def port_folder(core: Core) -> Path:
    """Where the start-up code and the linker script of a core are."""
    return folder("firmware_bench") / "ports" / core.port


def headers(model_folder: Path) -> list[Path]:
    """The headers that the kernels of an exported folder include."""
    return sorted((model_folder / INCLUDE).glob("*.h"))


def _memory_map(memory: Memory, script: Path, keep: Iterable[str]) -> str:
    """Text of the linker script: the memory of the target, then `script`."""
    symbols = {
        "__flash_origin": memory.flash.origin,
        "__flash_bytes": memory.flash.bytes,
        "__ram_origin": memory.sram.origin,
        "__ram_bytes": memory.sram.bytes,
        "__stack_bytes": STACK_BYTES,
    }
    lines = [f"{name} = 0x{value:x};" for name, value in symbols.items()]
    lines += [f"EXTERN({name})" for name in keep]
    return "\n".join([*lines, f'INCLUDE "{script}"', ""])


def _overflow(message: str, model_folder: Path, memory: Memory) -> FirmwareError | None:
    """The sentence for a program larger than its target, if that is what the linker's `message` says."""
    found = re.findall(r"region ['`](\w+)'[^\n]*overflowed by (\d+) bytes", message)
    lacks = {name: max(int(count) for other, count in found if other == name) for name, _ in found}
    if not lacks:
        return None
    has = {"FLASH": ("flash", memory.flash.bytes), "RAM": ("RAM", memory.sram.bytes)}
    parts = [f"{lacks[region]} bytes more {word} than its {size}" for region, (word, size) in has.items() if region in lacks]
    return FirmwareError(f"{model_folder} does not fit the target: it needs {' and '.join(parts)}; choose a smaller student")


def _hash(files: Sequence[Path], *texts: str) -> str:
    digest = hashlib.sha256(repr((texts, [file.name for file in files])).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _target(core: Core, compiler: Compiler) -> tuple[str, ...]:
    if compiler == "zig":
        return core.target
    if not core.gcc:
        raise FirmwareError(f"there is no second compiler for {core.name}; build with zig")
    return core.gcc[1:]


def zig_version() -> str:
    """Name and version of the compiler that is always there."""
    return f"zig {version('ziglang')}"


@cache
def _version(core: Core, compiler: Compiler) -> str:
    target = _target(core, compiler)
    if compiler == "zig":
        return zig_version()
    return f"{core.gcc[0]} {_run([core.gcc[0], *target, '-dumpfullversion'], {}, f'asking for {core.gcc[0]}').strip()}"


def compile_for(core: Core, arguments: Sequence[str], what: str, compiler: Compiler = "zig") -> None:
    """Call the compiler of a core with the flags that its kernels are compiled with, and `arguments`; raises FirmwareError."""
    arguments = [*_target(core, compiler), *FLAGS, *OWN_FLAGS[compiler], *arguments]
    if compiler == "zig":
        zig(arguments, what)
    else:
        _run([core.gcc[0], *arguments], {}, what)


def zig(arguments: Sequence[str], what: str) -> None:
    """zig keeps caches of its own: one folder of ours, and nothing of a single build."""
    with tempfile.TemporaryDirectory(prefix="hwnas-zig-") as local:
        environment = {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig"), "ZIG_LOCAL_CACHE_DIR": local}
        _run([sys.executable, "-m", "ziglang", "cc", *arguments], environment, what)


def _run(command: list[str], environment: dict[str, str], what: str) -> str:
    """What the compiler prints."""
    try:
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=COMPILER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirmwareError(f"{what}: the compiler cannot run ({error}); install it again") from error
    if done.returncode:
        message = (done.stderr or done.stdout).strip()[:MESSAGE_LIMIT]
        raise FirmwareError(f"{what}: the compiler failed with status {done.returncode}:\n{message}")
    return done.stdout
