"""The exported C under every compiler at hand: no warning as C99 or C++17, and no undefined behaviour where sanitizers look."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.export import c
from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    Input,
    Join,
    Lstm,
    MaxPool1d,
    Split,
)
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import Layout
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror"]
ZIG = [sys.executable, "-m", "ziglang", "cc"]
COMPILERS = {
    "gcc": ["gcc"],
    "clang": ["clang"],
    "zig": ZIG,
    "zig for cortex-m4": [*ZIG, "-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-ffreestanding"],
    "zig for cortex-a53": [*ZIG, "-target", "aarch64-linux-musl", "-mcpu=cortex_a53"],
    "arm-none-eabi-gcc": ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-ffreestanding"],
}
EVERYTHING = ["-DHWNAS_MODEL_SELF_TEST", "-DHWNAS_NO_LIBC"]
STANDARDS = {"C99": ["-x", "c", "-std=c99"], "C++17": ["-x", "c++", "-std=c++17"]}


def everything() -> Graph:
    """One node of every operator, some with odd sizes."""
    builder = GraphBuilder()
    x = builder.add(Join(), builder.add(Conv1d(3, 7, 2), builder.add(Split(), builder.add(Input(2, 61)))))
    x = builder.add(Concat(), x, builder.add(Conv1d(5, 3, dilation=2, relu=False), x))
    x = builder.add(Add(), x, builder.add(DepthwiseConv1d(5), x))
    x = builder.add(DepthwiseConv1d(3, 3, dilation=2), x)
    x = builder.add(MaxPool1d(2, 1), builder.add(AvgPool1d(3, 1), builder.add(Conv1d(8), x)))
    x = builder.add(Lstm(6), x)
    builder.add(Dense(5), builder.add(GlobalAvgPool(), x))
    return builder.build()


def export(place: Path, layout: Layout, seed: int = 0, graph: Graph | None = None) -> None:
    q = arbitrary(graph or everything(), np.random.default_rng(seed))
    x = np.zeros((1, q.graph.input_shape.length, q.graph.input_shape.channels), np.int8)
    c.write(q, uniform(q.graph, layout), place, weights_hash="", self_test=(x[0], reference.run(q, x)[0]))


def compile_with(command: list[str], place: Path) -> None:
    """Run a compiler in `place`."""
    zig = {"ZIG_GLOBAL_CACHE_DIR": str(place / "zig"), "ZIG_LOCAL_CACHE_DIR": str(place / "zig-local")}
    done = subprocess.run(command, cwd=place, env=os.environ | zig, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]


@pytest.mark.parametrize("standard", STANDARDS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warning(compiler: str, standard: str, tmp_path: Path) -> None:
    command = COMPILERS[compiler]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    export(tmp_path / "int8", "int8")
    export(tmp_path / "int16", "int16")
    seen = {path.name for path in (tmp_path / "int8" / "kernels").iterdir()}
    sources = [path for path in sorted(tmp_path.rglob("*.c")) if path.parts[-3] != "int16" or path.name not in seen]
    for layout in ("int8", "int16"):
        place = tmp_path / layout
        own = [str(path) for path in sources if place in path.parents]
        compile_with([*command, *STANDARDS[standard], *WARNINGS, "-O2", *EVERYTHING, "-c", *own], place)


MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "model.h"

int main(void)
{
    int8_t *input = malloc(HWNAS_MODEL_INPUT_BYTES), *output = malloc(HWNAS_MODEL_OUTPUT_BYTES);
    void *arena = malloc(HWNAS_MODEL_ARENA_BYTES);
    while (fread(input, 1, HWNAS_MODEL_INPUT_BYTES, stdin) == HWNAS_MODEL_INPUT_BYTES) {
        hwnas_model_run(input, output, arena);
        fwrite(output, 1, HWNAS_MODEL_OUTPUT_BYTES, stdout);
    }
    free(input);
    free(output);
    free(arena);
    return 0;
}
"""


@pytest.mark.parametrize("layout", ["int8", "int16"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_sanitizers_find_nothing(compiler: str, layout: Layout, tmp_path: Path) -> None:
    """On the heap, where a byte read or written beside a tensor's buffer is seen."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    graph = everything()
    q = arbitrary(graph, np.random.default_rng(3))
    export(tmp_path / "m", layout, 3)
    (tmp_path / "main.c").write_text(MAIN)
    program = tmp_path / "program"
    sources = [str(p) for p in [tmp_path / "main.c", *sorted((tmp_path / "m").rglob("*.c"))]]
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compile_with([compiler, *flags, "-I", str(tmp_path / "m"), *sources, "-o", str(program)], tmp_path)
    x = np.random.default_rng(4).integers(-128, 128, (5, graph.input_shape.length, graph.input_shape.channels)).astype(np.int8)
    done = subprocess.run([program], input=x.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int8).reshape(len(x), -1), reference.run(q, x))
