"""A student as a program for Linux on AArch64, for a watch (`adb shell`) or qemu-aarch64. Runs the compiler and the program.

The program is one static file. It reads windows of int8 from standard input and writes their outputs to standard output:

    adb push student /data/local/tmp && adb shell /data/local/tmp/student < windows.bin > outputs.bin
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwnas.errors import FirmwareError
from hwnas.export.c import INCLUDE, KERNELS
from hwnas.firmware.build import zig
from hwnas.quantize.qgraph import Int8
from hwnas.resources import folder, write_bytes

TARGET = ("-target", "aarch64-linux-musl", "-mcpu=cortex_a53", "-static")
FLAGS = ("-std=c99", "-O2", "-fno-sanitize=all", "-g0", "-s")
RUN_S = 120.0


def build_linux(model_folder: Path, out_program: Path) -> None:
    """Build the exported C in `model_folder` into the Linux program `out_program`.

    Raises:
        FirmwareError: the compiler refuses; its message is in the error.
        RunError: `out_program` cannot be written.
    """
    sources = [*sorted(model_folder.glob("*.c")), *sorted((model_folder / KERNELS).glob("*.c"))]
    main = folder("firmware_bench") / "ports" / "linux" / "main.c"
    include = ("-I", str(model_folder / INCLUDE), "-I", str(model_folder))
    with tempfile.TemporaryDirectory(prefix="hwnas-build-") as work:
        made = Path(work) / "student"
        zig([*TARGET, *FLAGS, *include, *map(str, sources), str(main), "-o", str(made)], f"building {model_folder} for Linux")
        write_bytes(out_program, made.read_bytes())
    out_program.chmod(0o755)


def run_linux(command: Sequence[str], x: Int8, output_bytes: int) -> Int8:
    """Outputs int8 (N, K) of windows int8 (N, T, C) by `command`, such as ("qemu-aarch64", program) or ("adb", "shell", place).

    Raises:
        FirmwareError: the command cannot run, fails, or gives another number of bytes.
    """
    try:
        done = subprocess.run(list(command), input=x.tobytes(), capture_output=True, timeout=RUN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirmwareError(f"{command[0]} cannot run ({error})") from error
    if done.returncode or len(done.stdout) != len(x) * output_bytes:
        said = done.stderr.decode(errors="replace").strip()[:2000]
        raise FirmwareError(f"{' '.join(command)}: status {done.returncode}, {len(done.stdout)} bytes for {len(x)} windows; {said}")
    return np.frombuffer(done.stdout, np.int8).reshape(len(x), output_bytes)
