"""Builds the C of a student for Cortex-M4 with zig, and for this machine. Runs the compiler; writes a cache and the result.

The kernels are the same for every student, so their objects are kept in the user's cache folder by content; a build then compiles
one file of constants and a short main, and links.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from hwnas.errors import FirmwareError
from hwnas.export.c import INCLUDE, KERNELS
from hwnas.resources import folder, write_bytes

COMPILER_S = 120.0
MESSAGE_LIMIT = 2000  # characters of the compiler's own message in an error

# `-fno-builtin`: loops stay loops instead of becoming calls to memset and memcpy. `-g0`: nothing names this machine.
TARGET_FLAGS = (
    "-target",
    "thumb-freestanding-eabihf",
    "-mcpu=cortex_m4",
    "-std=c99",
    "-O2",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-sanitize=all",
    "-fomit-frame-pointer",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-g0",
)
HOST_FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")


def build(model_folder: Path, out_elf: Path) -> None:
    """Build the exported C in `model_folder` with the harness into the Cortex-M4 program `out_elf`.

    Raises:
        FirmwareError: the compiler or linker refuses; its message is in the error.
        RunError: `out_elf` cannot be written.
    """
    bench = folder("firmware_bench")
    port, harness = bench / "ports" / "cortex_m4", bench / "harness"
    include = ["-I", str(model_folder / INCLUDE), "-I", str(model_folder)]
    shared = [*sorted((model_folder / KERNELS).glob("*.c")), *sorted(port.glob("*.c"))]
    objects = _objects(shared, sorted((model_folder / INCLUDE).glob("*.h")))
    with tempfile.TemporaryDirectory(prefix="hwnas-build-") as work:
        elf = Path(work) / "firmware.elf"
        sources = [str(model_folder / "model.c"), str(harness / "main.c")]
        link = ["-nostdlib", "-Wl,-e,Reset_Handler", "-T", str(port / "cortex_m4.ld"), "-o", str(elf)]
        _zig([*TARGET_FLAGS, *include, *sources, *map(str, objects), *link], f"building {model_folder}")
        write_bytes(out_elf, elf.read_bytes())


def build_host(model_folder: Path, out_library: Path) -> None:
    """Build the exported C in `model_folder` as a shared library of this machine, with `cc` where there is one, else with zig.

    Raises:
        FirmwareError: the compiler refuses (warnings are errors).
        RunError: `out_library` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-build-") as work:
        library = Path(work) / "model.so"
        sources = [str(model_folder / "model.c"), *map(str, sorted((model_folder / KERNELS).glob("*.c")))]
        arguments = [*HOST_FLAGS, "-I", str(model_folder / INCLUDE), "-I", str(model_folder), *sources, "-o", str(library)]
        what = f"building {model_folder} for this machine"
        compiler = shutil.which("cc")
        if compiler:
            _run([compiler, *arguments], {}, what)
        else:
            _zig(arguments, what)
        write_bytes(out_library, library.read_bytes())


@cache
def toolchain() -> str:
    """Name and version of the compiler, for tables and reports."""
    return f"zig {version('ziglang')}"


def kernel_set_hash() -> str:
    """Content hash of what decides the kernels' machine code: sources, headers, harness, flags and compiler version."""
    bench = folder("firmware_bench")
    files = sorted(p for p in bench.rglob("*") if p.suffix in (".c", ".h", ".ld"))
    return _hash(files)


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


def _objects(sources: list[Path], headers: list[Path]) -> list[Path]:
    """Object files of `sources`, compiled at most once per content."""
    place = cache_folder() / f"objects-{_hash([*sources, *headers])}"
    objects = [place / f"{source.stem}.o" for source in sources]
    missing = [(s, o) for s, o in zip(sources, objects, strict=True) if not o.exists()]
    with tempfile.TemporaryDirectory(prefix="hwnas-build-") as work:
        for source, target in missing:
            made = Path(work) / target.name
            include = ["-I", str(headers[0].parent)] if headers else []
            _zig([*TARGET_FLAGS, *include, "-c", str(source), "-o", str(made)], f"compiling {source}")
            write_bytes(target, made.read_bytes())
    return objects


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256(repr((TARGET_FLAGS, toolchain(), [file.name for file in files])).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _zig(arguments: list[str], what: str) -> None:
    """zig keeps caches of its own: one folder of ours, and nothing of a single build."""
    with tempfile.TemporaryDirectory(prefix="hwnas-zig-") as local:
        environment = {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig"), "ZIG_LOCAL_CACHE_DIR": local}
        _run([sys.executable, "-m", "ziglang", "cc", *arguments], environment, what)


def _run(command: list[str], environment: dict[str, str], what: str) -> None:
    try:
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=COMPILER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirmwareError(f"{what}: the compiler cannot run ({error}); install the package again") from error
    if done.returncode:
        message = (done.stderr or done.stdout).strip()[:MESSAGE_LIMIT]
        raise FirmwareError(f"{what}: the compiler failed with status {done.returncode}:\n{message}")
