"""The exported folder as a product: it compiles with nothing else, tests itself, takes counts of a sensor and gives probabilities."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_c_compilers import everything

import hwnas
from hwnas.errors import ExportError, FirmwareError, QuantizationError, UsageError
from hwnas.export import c
from hwnas.export.c.model import ratio
from hwnas.firmware.build import build, build_host
from hwnas.firmware.cores import core
from hwnas.firmware.machine import Machine, read_elf
from hwnas.firmware.self_test import COMPILERS, RAM_ORIGIN, build_alone, run_self_test
from hwnas.graph import (
    Add,
    AvgPool1d,
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
from hwnas.hardware.profile import read
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.input_counts import input_steps, quantize_counts
from hwnas.quantize.probabilities import probabilities
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph
from hwnas.tasks.base import normalise

CORE, MEMORY = core("cortex-m4"), read("cortex-m4-192k").memory
TRAINED_INPUT = Quant(float(np.float32(1 / 127)), 0)
INT16 = np.iinfo(np.int16)


def conv(samples: int = 50) -> Graph:
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 2), builder.add(Input(1, samples)))
    x = builder.add(Conv1d(12), builder.add(DepthwiseConv1d(5, 2), x))
    builder.add(Dense(4), builder.add(GlobalAvgPool(), x))
    return builder.build()


def residual() -> Graph:
    builder = GraphBuilder()
    x = builder.add(MaxPool1d(2, 2), builder.add(Conv1d(8, 5), builder.add(Input(2, 41))))
    y = builder.add(Conv1d(8, 3, relu=False), builder.add(Conv1d(8, 3), x))
    builder.add(Dense(3), builder.add(GlobalAvgPool(), builder.add(Add(), x, y)))
    return builder.build()


def lstm() -> Graph:
    builder = GraphBuilder()
    x = builder.add(Lstm(6, last=True), builder.add(Conv1d(5, 5, 4), builder.add(Input(3, 64))))
    builder.add(Dense(5), x)
    return builder.build()


def modalities() -> Graph:
    """Of odd lengths, so that none of them begins where the one before ends."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(3, 5, 2), builder.add(Split(), builder.add(Input(3, 45))))
    x = builder.add(Add(), x, builder.add(DepthwiseConv1d(3), x))
    x = builder.add(MaxPool1d(2, 1), builder.add(AvgPool1d(3, 1), x))
    builder.add(Dense(4), builder.add(GlobalAvgPool(), builder.add(Conv1d(4), builder.add(Join(), x))))
    return builder.build()


GRAPHS = {f.__name__: f for f in (conv, residual, lstm, modalities)}


def windows(graph: Graph, count: int = 1, seed: int = 5) -> Int8:
    shape = (count, graph.input_shape.length, graph.input_shape.channels)
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def export(graph: Graph, place: Path, *, change: int = 0) -> QuantGraph:
    """A folder with a self-test; the expectation of output `change - 1` is made wrong where that is given."""
    q = arbitrary(graph, np.random.default_rng(1))
    x = windows(graph)
    expected = reference.run(q, x)[0]
    if change:
        expected[change - 1] ^= 1
    c.write(q, uniform(graph), place, weights_hash="f00d", self_test=(x[0], expected), signals=c.Signals(25))
    return q


def need(compiler: str) -> None:
    if not shutil.which(COMPILERS[compiler].command[0]):
        pytest.skip(f"{compiler} is not installed")


@pytest.mark.parametrize("compiler", ["gcc", "arm-none-eabi-gcc", "zig for cortex-m4", pytest.param("zig", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", GRAPHS)
def test_the_folder_alone_passes_its_own_test(name: str, compiler: str, tmp_path: Path) -> None:
    need(compiler)
    export(GRAPHS[name](), tmp_path / "model")
    assert run_self_test(tmp_path / "model", compiler) == 0


@pytest.mark.parametrize("compiler", ["gcc", "zig for cortex-m4"])
def test_the_self_test_names_the_first_wrong_output(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    export(conv(), tmp_path, change=3)
    assert run_self_test(tmp_path, compiler) == 3


def test_the_self_test_needs_a_window(tmp_path: Path) -> None:
    q = arbitrary(conv(), np.random.default_rng(0))
    c.write(q, uniform(q.graph), tmp_path, weights_hash="")
    with pytest.raises(FirmwareError, match=r"has no self_test\.c; export the student again"):
        run_self_test(tmp_path, "gcc")
    with pytest.raises(UsageError, match="unknown compiler 'gc'"):
        run_self_test(tmp_path, "gc")


def test_a_compiler_that_refuses_is_quoted(tmp_path: Path) -> None:
    need("gcc")
    export(conv(), tmp_path)
    (tmp_path / "kernels" / "run.c").write_text("#error broken in transit\n")
    with pytest.raises(FirmwareError, match=r"(?s)building .*gcc failed with status 1:.*broken in transit"):
        run_self_test(tmp_path, "gcc")


def test_a_self_test_of_another_shape_is_refused(tmp_path: Path) -> None:
    q = arbitrary(conv(), np.random.default_rng(0))
    x, y = windows(q.graph)[0], np.zeros(4, np.int8)
    for pair in ((x.T, y), (x, y[:3]), (x.astype(np.int16), y), (x, y.astype(np.uint8))):
        with pytest.raises(ExportError, match=r"this student takes int8 \(50, 1\) and gives int8 \(4,\)"):
            c.write(q, uniform(q.graph), tmp_path / "m", weights_hash="", self_test=pair)
    assert not (tmp_path / "m").exists()


def test_deployments_that_would_compute_nonsense_are_refused(tmp_path: Path) -> None:
    """Another graph with as many nodes, and tensors moved onto each other."""
    q, own = arbitrary(conv(), np.random.default_rng(0)), uniform(conv())
    moved = replace(own, plan=replace(own.plan, offsets=tuple(min(offset, 0) for offset in own.plan.offsets)))
    assert moved.plan != own.plan
    for other in (uniform(conv(54)), moved):
        with pytest.raises(ExportError, match="places tensors otherwise than the student's graph needs"):
            c.write(q, other, tmp_path / "m", weights_hash="")
    with pytest.raises(QuantizationError, match=r"the input has scale 0\.3"):
        c.write(replace(q, quants=(Quant(0.3, 0), *q.quants[1:])), own, tmp_path / "m", weights_hash="")
    assert not (tmp_path / "m").exists()


def test_what_the_c_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Layouts that an operator lacks, buffers beyond 32-bit offsets, more classes than the softmax can sum."""
    q, own = arbitrary(conv(), np.random.default_rng(0)), uniform(conv())
    long, wide = GraphBuilder(), GraphBuilder()
    long.add(Dense(2), long.add(GlobalAvgPool(), long.add(Conv1d(4), long.add(Input(1, 2**29)))))
    wide.add(Dense(2**15), wide.add(Input(1, 1)))
    cases = [(q, replace(own, weights=("none", *["int8"] * 5)), "no layout 'int8'")]
    for builder, message in ((long, r"needs a buffer of 21474836\d\d bytes"), (wide, "32768 outputs")):
        other = arbitrary(builder.build(), np.random.default_rng(0))
        cases.append((other, uniform(other.graph), message))
    for student, deployment, message in cases:
        with pytest.raises(ExportError, match=message):
            c.write(student, deployment, tmp_path / "m", weights_hash="")
    assert not (tmp_path / "m").exists()


def test_a_second_export_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    """But what is not hwnas's stays."""
    export(conv(), tmp_path / "both")
    (tmp_path / "both" / "CMakeLists.txt").write_text("mine")
    q = arbitrary(residual(), np.random.default_rng(0))
    for place in ("both", "alone"):
        c.write(q, uniform(q.graph), tmp_path / place, weights_hash="")
    names = [{str(p.relative_to(tmp_path / place)) for p in (tmp_path / place).rglob("*.*")} for place in ("both", "alone")]
    assert names[0] - names[1] == {"CMakeLists.txt"} and not names[1] - names[0]


@pytest.mark.parametrize("standard", [("c", "-std=c99"), ("c++", "-std=c++17", "-fno-exceptions")])
def test_nothing_is_undefined_on_cortex_m4(standard: tuple[str, ...], tmp_path: Path) -> None:
    """No C library and none of the compiler's: wide products and divisions are instructions, memory functions are the folder's own."""
    need("arm-none-eabi-gcc")
    export(everything(), tmp_path)
    sources = [str(p) for p in sorted(tmp_path.rglob("*.c"))]
    defines = ["-DHWNAS_NO_LIBC", "-DHWNAS_MODEL_SELF_TEST"]
    subprocess.run([*COMPILERS["arm-none-eabi-gcc"].command, "-x", *standard, "-O3", "-c", *defines, *sources], cwd=tmp_path, check=True)
    subprocess.run(["arm-none-eabi-ld", "-r", *(p.name for p in tmp_path.glob("*.o")), "-o", "all"], cwd=tmp_path, check=True)
    undefined = subprocess.run(["arm-none-eabi-nm", "-u", "all"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert undefined == ""


def test_the_folders_own_memory_functions(tmp_path: Path) -> None:
    """At -O3, where compilers turn loops that look like memset into calls of memset."""
    need("gcc")
    export(conv(), tmp_path)
    renamed = [f"-D{name}=own_{name}" for name in ("memcpy", "memmove", "memset")]
    library = tmp_path / "memory.so"
    command = ["gcc", "-O3", "-shared", "-fPIC", "-DHWNAS_NO_LIBC", *renamed, str(tmp_path / "hwnas_memory.c"), "-o", str(library)]
    subprocess.run(command, check=True)
    own = ctypes.CDLL(str(library))
    for name in ("own_memcpy", "own_memmove", "own_memset"):
        getattr(own, name).restype = ctypes.c_void_p
    rng = np.random.default_rng(0)
    for _ in range(200):
        memory = rng.integers(0, 256, 64).astype(np.uint8)
        to, source, count = (int(v) for v in rng.integers(0, 32, 3))
        at = memory.ctypes.data
        expected = memory.copy()
        expected[to : to + count] = memory[source : source + count]
        assert own.own_memmove(ctypes.c_void_p(at + to), ctypes.c_void_p(at + source), ctypes.c_size_t(count)) == at + to
        np.testing.assert_array_equal(memory, expected)
        expected[to : to + count] = 0xA5
        assert own.own_memset(ctypes.c_void_p(at + to), 0x1A5, ctypes.c_size_t(count)) == at + to
        np.testing.assert_array_equal(memory, expected)
        expected[:count] = memory[32 : 32 + count]
        own.own_memcpy(ctypes.c_void_p(at), ctypes.c_void_p(at + 32), ctypes.c_size_t(count))
        np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize("language", ["c", "c++"])
def test_weights_lie_where_the_linker_is_told(language: str, tmp_path: Path) -> None:
    need("arm-none-eabi-gcc")
    q = export(conv(), tmp_path)
    section = '-DHWNAS_MODEL_WEIGHTS_SECTION=__attribute__((section(".hwnas_weights")))'
    command = [*COMPILERS["arm-none-eabi-gcc"].command, "-x", language, section, "-c", "model.c", "-o", "model.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    text = subprocess.run(["arm-none-eabi-objdump", "-t", "model.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    # Mangled as C++: _ZL8packed_1 or the like.
    found = {name: where for where, name in re.findall(r" O (\S+)\s+[0-9a-f]+ \S*?((?:packed|params)_\d+)", text)}
    assert {name for name, where in found.items() if where == ".hwnas_weights"} == {f"packed_{i}" for i in q.constants}
    assert len(found) == len(q.constants) + len(q.graph.nodes) - 1


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_what_nobody_calls_takes_no_flash(compiler: str, tmp_path: Path) -> None:
    """The emulated program is the model alone, to the byte: what it costs was predicted."""
    if compiler == "gcc":
        need("arm-none-eabi-gcc")
    export(conv(), tmp_path / "m")
    build(tmp_path / "m", tmp_path / "with.elf", CORE, MEMORY, compiler=compiler)
    text = (tmp_path / "m" / "model.c").read_text()
    (tmp_path / "m" / "model.c").write_text(text[: text.index("const char *hwnas_model_version")])
    for name in ("input.c", "probabilities.c", "self_test.c", "hwnas_memory.c"):
        (tmp_path / "m" / name).unlink()
    build(tmp_path / "m", tmp_path / "without.elf", CORE, MEMORY, compiler=compiler)
    assert (tmp_path / "with.elf").read_bytes() == (tmp_path / "without.elf").read_bytes()


def test_the_version_can_be_found_in_a_binary(tmp_path: Path) -> None:
    q = export(conv(), tmp_path)
    build_host(tmp_path, tmp_path / "model.so")
    version = f"hwnas {hwnas.__version__} model {q.graph.hash} weights f00d".encode()
    function = ctypes.CDLL(str(tmp_path / "model.so")).hwnas_model_version
    function.restype = ctypes.c_char_p
    assert function() == version
    assert version + b"\0" in (tmp_path / "model.so").read_bytes()


@given(st.floats(2.0**-30, 2.0**20))
def test_scales_are_ratios_of_small_numbers(scale: float) -> None:
    found = ratio(scale)
    assert 1 <= found.numerator <= max(2**15, scale + 0.5) and abs(found / scale - 1) <= 2.0**-15
    assert ratio(TRAINED_INPUT.scale) == ratio(1 / 127) and ratio(1 / 127).denominator == 127


@given(st.floats(2.0**-31 * (1 + 2.0**-14), 2.0**-14))
def test_ratios_of_tiny_scales_fit_int32(scale: float) -> None:
    found = ratio(scale)
    assert 1 <= found.numerator <= 2**15 and found.denominator < 2**31 and abs(found / scale - 1) <= 2.0**-15


@pytest.mark.parametrize("scale", [0.8 * 2.0**-31, 2.0**-32, 2.0**-33, 2.0**-90])
def test_a_scale_that_no_ratio_comes_near_is_refused(scale: float, tmp_path: Path) -> None:
    q = trained(8, 1)
    q = replace(q, quants=(*q.quants[:-1], Quant(scale, q.output.zero_point)))
    with pytest.raises(ExportError, match=rf"the outputs have scale {re.escape(repr(scale))}.*2147483647"):
        c.write(q, uniform(q.graph), tmp_path, weights_hash="f00d")


# Counts of a sensor


def trained(length: int, channels: int, point: int = 0) -> QuantGraph:
    builder = GraphBuilder()
    builder.add(Dense(3), builder.add(GlobalAvgPool(), builder.add(Input(channels, length))))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    return replace(q, quants=(Quant(TRAINED_INPUT.scale, point), *q.quants[1:]))


def counts(rng: np.random.Generator, *shape: int) -> NDArray[np.int16]:
    """Windows anywhere in the range, of any span, the largest and 0 and 1 included."""
    low = rng.integers(INT16.min, INT16.max, (shape[0], 1, shape[2]))
    span = np.minimum(rng.choice([0, 1, 2, 127, 254, 255, 4095, 65535, *rng.integers(1, 65536, 8)], low.shape), INT16.max - low)
    return (low + np.floor(rng.random(shape) * (span + 1))).astype(np.int16)


def test_counts_become_the_input_of_training() -> None:
    """Equal but at exact halves, where the floats of training may be one step lower."""
    q, rng = trained(64, 2), np.random.default_rng(0)
    x = counts(rng, 4000, 64, 2)
    x[:8, 0], x[:8, 1] = INT16.min, INT16.max
    low, high = x.min(axis=1, keepdims=True).astype(np.int64), x.max(axis=1, keepdims=True).astype(np.int64)
    signal = (high > low).all(axis=(1, 2))
    span = np.broadcast_to(high - low, x.shape)[signal]
    rise = (x - low)[signal]
    ours, floats = quantize_counts(q, x)[signal], reference.quantize_input(q, normalise(x[signal].transpose(0, 2, 1)))
    difference = ours.astype(int) - floats
    halves = (508 * rise + span) % (2 * span) == 0
    assert halves.any() and set(np.unique(difference)) <= {0, 1}
    assert not difference[~halves].any()
    assert ours.min() == -127 and ours.max() == 127


def test_a_channel_without_signal_is_zero() -> None:
    q = trained(5, 2, point=-3)
    x = np.array([[[7, 0], [7, 10], [7, 20], [7, 10], [7, 5]]], np.int16)
    np.testing.assert_array_equal(quantize_counts(q, x)[0].T, [[-3] * 5, [-128, -3, 124, -3, -66]])


@pytest.mark.parametrize(("scale", "steps"), [(1 / 127, 127), (1.0, 1), (1 / 16384, 16384), (0.05, 20)])
def test_input_scales(scale: float, steps: int) -> None:
    q = trained(4, 1)
    assert input_steps(replace(q, quants=(Quant(float(np.float32(scale)), 0), *q.quants[1:]))) == steps


@pytest.mark.parametrize("scale", [1.5, 0.3, 1 / 127.4, 2.0**-15, 1e-30, 1e30, 0.0])
def test_input_scales_without_a_formula(scale: float) -> None:
    q = trained(4, 1)
    with pytest.raises(QuantizationError, match="must be 1/N"):
        input_steps(replace(q, quants=(Quant(scale, 0), *q.quants[1:])))


def test_counts_of_another_shape_are_refused() -> None:
    q = trained(8, 2)
    for x in (np.zeros((1, 2, 8), np.int16), np.zeros((1, 8, 2), np.int32), np.zeros((8, 2), np.int16)):
        with pytest.raises(QuantizationError, match=r"counts int16 \(N, 8, 2\)"):
            quantize_counts(q, x)


@pytest.mark.parametrize(
    ("length", "channels", "quant"),
    [(64, 3, TRAINED_INPUT), (33, 1, Quant(1.0, 100)), (10, 2, Quant(1 / 16384, -9)), (1, 4, TRAINED_INPUT)],
)
def test_counts_in_c_are_counts_in_python(length: int, channels: int, quant: Quant, tmp_path: Path) -> None:
    q = trained(length, channels)
    q = replace(q, quants=(quant, *q.quants[1:]))
    c.write(q, uniform(q.graph), tmp_path, weights_hash="")
    build_host(tmp_path, tmp_path / "model.so")
    function = ctypes.CDLL(str(tmp_path / "model.so")).hwnas_model_quantize_input
    x = counts(np.random.default_rng(1), 400, length, channels)
    x[:20, 0], x[:20, -1] = INT16.min, INT16.max
    found = np.full((len(x), length * channels + 1), 0x55, np.int8)
    for window, row in zip(x, found, strict=True):
        function(ctypes.c_void_p(window.ctypes.data), ctypes.c_void_p(row.ctypes.data))
    assert (found[:, -1] == 0x55).all()
    np.testing.assert_array_equal(found[:, :-1].reshape(x.shape), quantize_counts(q, x))


# Probabilities


@settings(max_examples=4, deadline=None)
@given(scale=st.sampled_from([0.003, 0.05, 0.31, 4.0]), classes=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_probabilities_in_c_are_probabilities_in_python(
    scale: float, classes: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    builder, rng, place = GraphBuilder(), np.random.default_rng(seed), tmp_path_factory.mktemp("m")
    builder.add(Dense(classes), builder.add(Input(2, 1)))
    q = arbitrary(builder.build(), rng)
    q = replace(q, quants=(*q.quants[:-1], Quant(scale, -7)))
    c.write(q, uniform(q.graph), place, weights_hash="")
    build_host(place, place / "model.so")
    function = ctypes.CDLL(str(place / "model.so")).hwnas_model_probabilities
    y = rng.integers(-128, 128, (300, classes)).astype(np.int8)
    y[0], y[1], y[2, 0] = -128, 127, 127
    found = np.full((len(y), classes + 1), 0x55, np.uint8)
    for logits, row in zip(y, found, strict=True):
        function(ctypes.c_void_p(logits.ctypes.data), ctypes.c_void_p(row.ctypes.data))
    assert (found[:, -1] == 0x55).all()
    np.testing.assert_array_equal(found[:, :-1], probabilities(q, y))


@pytest.mark.parametrize("compiler", ["arm-none-eabi-gcc", "zig for cortex-m4"])
def test_counts_and_probabilities_on_cortex_m4(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    q, rng = trained(33, 2), np.random.default_rng(2)
    x, y = windows(q.graph), rng.integers(-128, 128, (50, 3)).astype(np.int8)
    c.write(q, uniform(q.graph), tmp_path / "m", weights_hash="", self_test=(x[0], reference.run(q, x)[0]))
    functions = [f"-Wl,-u,hwnas_model_{name}" for name in ("quantize_input", "probabilities")]
    build_alone(tmp_path / "m", compiler, tmp_path / "m.elf", functions)
    program = read_elf(tmp_path / "m.elf", CORE)
    machine = Machine(program, CORE)
    source, target = RAM_ORIGIN, RAM_ORIGIN + 4096
    for window in counts(rng, 50, 33, 2):
        machine.write(source, window.tobytes())
        machine.call(program.address("hwnas_model_quantize_input"), source, target)
        assert machine.read(target, 66) == quantize_counts(q, window[None]).tobytes()
    for logits in y:
        machine.write(source, logits.tobytes())
        machine.call(program.address("hwnas_model_probabilities"), source, target)
        assert machine.read(target, 3) == probabilities(q, logits[None]).tobytes()


# What README.md says


def test_the_readme_is_of_this_student_and_its_lines_compile(tmp_path: Path) -> None:
    need("gcc")
    q = export(residual(), tmp_path / "model")
    readme = (tmp_path / "model" / "README.md").read_text()
    assert "@" not in readme
    assert "41 samples x 2 channels" in readme and "25 a second (1.64 s)" in readme
    assert all(text in readme for text in (q.graph.hash, "f00d", "`class0`, `class1`, `class2`"))
    listed = re.search(r"```c\n(.*?)```", readme, re.DOTALL)
    assert listed
    declarations, calls = listed[1].split("/* When `samples` is full: */\n")
    (tmp_path / "main.c").write_text(
        f"{declarations}int main(void)\n{{\n{calls}    return labels[0][0] != 'c' || probabilities[0] > 255;\n}}\n"
    )
    command = ["gcc", "-std=c99", "-Wall", "-Wno-type-limits", "-I", "model", "main.c"]
    subprocess.run([*command, *(str(p) for p in sorted((tmp_path / "model").rglob("*.c")))], cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "a.out")], check=False).returncode == 0


def test_the_commands_of_the_readme_work_in_the_folder(tmp_path: Path) -> None:
    export(conv(), tmp_path)
    block = re.search(r"```sh\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    assert block
    ran = 0
    for line in block[1].replace("\\\n", " ").strip().splitlines():
        if shutil.which(line.split()[0]):
            environment = {k: v for k, v in os.environ.items() if not k.endswith("PATH") or k == "PATH"}
            subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment, check=True)
            ran += 1
    assert ran


def test_the_lines_for_cmake_build_a_program(tmp_path: Path) -> None:
    """What Zephyr is told, in a project without it."""
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    export(conv(), tmp_path / "model")
    block = re.search(r"```cmake\n(file.*?)```", (tmp_path / "model" / "README.md").read_text(), re.DOTALL)
    assert block
    (tmp_path / "main.c").write_text('#include "model.h"\nint main(void) { return hwnas_model_version()[0] != 104; }\n')
    head = "cmake_minimum_required(VERSION 3.13)\nproject(sample C)\nadd_executable(app main.c)\n"
    (tmp_path / "CMakeLists.txt").write_text(head + block[1])
    for command in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build"], ["build/app"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_an_unnamed_rate_is_left_out(tmp_path: Path) -> None:
    q = arbitrary(conv(), np.random.default_rng(0))
    c.write(q, uniform(q.graph), tmp_path, weights_hash="")
    assert "RATE_HZ" not in (tmp_path / "model.h").read_text() and "a second" not in (tmp_path / "README.md").read_text()
    assert "exported without one" in (tmp_path / "README.md").read_text() and not (tmp_path / "self_test.c").exists()
