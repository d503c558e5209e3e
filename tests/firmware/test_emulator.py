"""Whole programs: bit-exact outputs, figures equal to the sum of their parts, and faults that name the operator."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import FirmwareError
from hwnas.export import c
from hwnas.firmware.build import build, build_host
from hwnas.firmware.emulator import Emulator
from hwnas.firmware.machine import read_elf
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input
from hwnas.hardware.ops import op_key
from hwnas.memory import align, plan
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph

Quantized = Callable[[Graph, np.random.Generator], QuantGraph]


def network(rng: np.random.Generator) -> Graph:
    """Stem, a few random residual or strided blocks, head."""
    builder = GraphBuilder()
    x = builder.add(Input(int(rng.integers(1, 4)), int(rng.integers(60, 300))))
    x = builder.add(Conv1d(int(rng.choice([8, 12, 16])), int(rng.choice([3, 7])), 2), x)
    for _ in range(int(rng.integers(1, 4))):
        channels = builder.shape(x).channels
        y = builder.add(Conv1d(channels * int(rng.integers(1, 4))), x)
        stride = int(rng.integers(1, 3))
        y = builder.add(DepthwiseConv1d(int(rng.choice([3, 5, 9])), stride), y)
        y = builder.add(Conv1d(channels if stride == 1 else int(rng.choice([6, 16, 20])), relu=False), y)
        x = builder.add(Add(), x, y) if stride == 1 else y
    builder.add(Dense(int(rng.integers(1, 7))), builder.add(GlobalAvgPool(), x))
    return builder.build()


def windows(graph: Graph, rng: np.random.Generator, count: int) -> Int8:
    shape = graph.input_shape
    return rng.integers(-128, 128, (count, shape.length, shape.channels)).astype(np.int8)


def program(q: QuantGraph, place: Path) -> Path:
    c.write(q, plan(q.graph), place / "model", weights_hash="0123")
    build(place / "model", place / "firmware.elf")
    return place / "firmware.elf"


@pytest.mark.parametrize("seed", range(5))
def test_a_random_model_everywhere_gives_the_same_bits(seed: int, tmp_path: Path, quantized: Quantized, profiler: Profiler) -> None:
    rng = np.random.default_rng(seed)
    graph = network(rng)
    q = quantized(graph, rng)
    x = windows(graph, rng, 6)
    expected = reference.run(q, x)

    emulator = Emulator(program(q, tmp_path))
    np.testing.assert_array_equal(emulator.run(x), expected)
    measured = emulator.measure(x[3])
    np.testing.assert_array_equal(measured.output, expected[3])

    build_host(tmp_path / "model", tmp_path / "model.so")
    library = ctypes.CDLL(str(tmp_path / "model.so"))
    arena = np.full(max(plan(graph).arena_bytes, 4) // 4, 0x55555555, np.int32)
    for window, wanted in zip(x, expected, strict=True):
        window, out = np.ascontiguousarray(window), np.zeros(expected.shape[1], np.int8)
        library.hwnas_model_run(*(ctypes.c_void_p(b.ctypes.data) for b in (window, out, arena)))
        np.testing.assert_array_equal(out, wanted)

    # The figures are those of the parts, exactly.
    parts = [profiler.profile(op_key(n.op, graph.in_shape(n), n.shape), graph.in_shape(n).length) for n in graph.nodes[1:]]
    extra = profiler.overheads()
    assert [cycles for _, cycles in measured.per_operator] == [cycles for cycles, _ in parts]
    assert measured.cycles == sum(cycles for cycles, _ in parts) + len(parts) * extra.call_cycles + extra.frame_cycles
    assert measured.stack_bytes == max(stack for _, stack in parts) + extra.frame_stack_bytes
    buffers = align(graph.input_shape.elements) + align(graph.output_shape.elements) + plan(graph).arena_bytes
    assert measured.ram_bytes == buffers + extra.static_bytes + measured.stack_bytes
    sizes = read_elf(tmp_path / "firmware.elf").sizes
    constants = sum(size for name, size in sizes.items() if name.startswith(("layers", "params_", "packed_")))
    assert measured.flash_bytes == extra.code_bytes + constants


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, quantized: Quantized) -> tuple[QuantGraph, Path]:
    """A model of one sum, whose kernel tests replace."""
    builder = GraphBuilder()
    first = builder.add(Input(4, 8))
    pooled = builder.add(GlobalAvgPool(), builder.add(Add(), first, first))
    builder.add(Dense(3), pooled)
    q = quantized(builder.build(), np.random.default_rng(0))
    place = tmp_path_factory.mktemp("small")
    program(q, place)
    return q, place


def with_kernel(small: tuple[QuantGraph, Path], tmp_path: Path, body: str) -> Path:
    q, _ = small
    c.write(q, plan(q.graph), tmp_path / "model", weights_hash="")
    head = '#include "hwnas_kernels.h"\nvoid hwnas_add(const void *params, const int8_t *in, int8_t *out, void *aux)\n'
    (tmp_path / "model" / "kernels" / "add.c").write_text(head + "{(void)params; (void)in; (void)out; (void)aux;" + body + "}\n")
    build(tmp_path / "model", tmp_path / "firmware.elf")
    return tmp_path / "firmware.elf"


def test_windows_do_not_influence_each_other(small: tuple[QuantGraph, Path]) -> None:
    q, place = small
    x = windows(q.graph, np.random.default_rng(1), 5)
    emulator = Emulator(place / "firmware.elf")
    forward, first = emulator.run(x), emulator.measure(x[0])
    np.testing.assert_array_equal(emulator.run(x[::-1])[::-1], forward)
    again = emulator.measure(x[0])
    assert (again.cycles, again.per_operator, again.stack_bytes) == (first.cycles, first.per_operator, first.stack_bytes)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("*(volatile int *)0x20030000 = 1;", "fault"),
        ("*(volatile int *)0x08000000 = 1;", "fault"),
        ("(void)*(volatile int *)4;", "fault"),
        ('for (;;) __asm__ volatile("");', "did not end"),
        ('__asm__ volatile("udf #0");', "fault"),
        ("((void (*)(void))0x20000001)();", "fault"),
    ],
)
def test_broken_firmware_is_reported(small: tuple[QuantGraph, Path], tmp_path: Path, body: str, message: str) -> None:
    q, _ = small
    emulator = Emulator(with_kernel(small, tmp_path, body), limit_s=0.3)
    x = windows(q.graph, np.random.default_rng(1), 2)
    with pytest.raises(FirmwareError, match=f"operator 1 \\(hwnas_add\\).*{message}"):
        emulator.measure(x[0])
    with pytest.raises(FirmwareError, match=f"window 0.*{message}"):
        emulator.run(x)


def test_stack_that_runs_out_is_reported(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    body = "volatile char deep[5000]; for (int i = 0; i < 5000; i++) deep[i] = 1;"
    q, _ = small
    emulator = Emulator(with_kernel(small, tmp_path, body))
    with pytest.raises(FirmwareError, match="stack"):
        emulator.measure(windows(q.graph, np.random.default_rng(1), 1)[0])


def test_compiler_message_is_in_the_error(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match="undeclared_thing"):
        with_kernel(small, tmp_path, "undeclared_thing = 1;")
    assert not (tmp_path / "firmware.elf").exists()


def test_a_model_larger_than_ram_does_not_link(tmp_path: Path, quantized: Quantized) -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(64), builder.add(Input(1, 4000)))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    with pytest.raises(FirmwareError, match=r"192 KB of SRAM|RAM.*overflow|will not fit"):
        program(quantized(builder.build(), np.random.default_rng(0)), tmp_path)


def test_wrong_windows_are_refused(small: tuple[QuantGraph, Path]) -> None:
    q, place = small
    emulator = Emulator(place / "firmware.elf")
    x = windows(q.graph, np.random.default_rng(1), 1)
    for bad in (x[:, 1:], x.astype(np.float32)):
        with pytest.raises(FirmwareError, match="the program reads int8 of 32"):
            emulator.run(bad)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not an elf at all" * 10])
def test_damaged_programs_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "firmware.elf"
    with pytest.raises(FirmwareError, match="cannot be read"):
        Emulator(path)
    path.write_bytes(content)
    with pytest.raises(FirmwareError, match=r"firmware\.elf"):
        Emulator(path)


def test_truncated_programs_are_refused(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    whole = (small[1] / "firmware.elf").read_bytes()
    for size in range(16, len(whole), len(whole) // 40):
        (tmp_path / "cut.elf").write_bytes(whole[:size])
        with pytest.raises(FirmwareError):
            Emulator(tmp_path / "cut.elf", limit_s=0.2)


@pytest.mark.slow
def test_two_hundred_windows_of_a_million_macs_take_seconds(tmp_path: Path, quantized: Quantized) -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(16, 7, 2), builder.add(Input(1, 1000)))
    for channels in (32, 32, 48):
        x = builder.add(Conv1d(channels), builder.add(DepthwiseConv1d(5, 2 if channels == 48 else 1), x))
    builder.add(Dense(6), builder.add(GlobalAvgPool(), x))
    rng = np.random.default_rng(0)
    q = quantized(builder.build(), rng)
    assert q.graph.macs > 1_000_000
    x_int8 = windows(q.graph, rng, 200)
    np.testing.assert_array_equal(Emulator(program(q, tmp_path)).run(x_int8), reference.run(q, x_int8))
