"""Whole programs: figures equal to the sum of their parts, the memory of the target and no more, and faults that name the operator."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assembled import assemble
from random_networks import random_modalities, random_network

from hwnas.errors import FirmwareError
from hwnas.export import c
from hwnas.firmware.build import STACK_BYTES, build
from hwnas.firmware.cores import core
from hwnas.firmware.counting import Watch
from hwnas.firmware.cycles import CycleModel, Step
from hwnas.firmware.emulator import Emulator, emulate
from hwnas.firmware.machine import read_elf
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import calls, table_key
from hwnas.hardware.profile import Memory, Region
from hwnas.hardware.weights import flash_bytes
from hwnas.memory import align
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, QuantGraph

CORTEX_M4 = core("cortex-m4")


def memory(flash_origin: int, flash_bytes: int, ram_origin: int, ram_bytes: int) -> Memory:
    return Memory(flash=Region(origin=flash_origin, bytes=flash_bytes), sram=Region(origin=ram_origin, bytes=ram_bytes))


# Maps of an STM32F405 (and QEMU's netduinoplus2), STM32L4R5, nRF52840, Apollo3, and one with more flash than a branch can cross.
MAPS = [
    memory(0x08000000, 1 << 20, 0x20000000, 192 << 10),
    memory(0x08000000, 2 << 20, 0x20000000, 640 << 10),
    memory(0, 1 << 20, 0x20000000, 256 << 10),
    memory(0xC000, 960 << 10, 0x10000000, 384 << 10),
]
NETWORKS = [random_network(np.random.default_rng(seed), longest=150) for seed in range(4)]
NETWORKS += [random_modalities(np.random.default_rng(seed), longest=150) for seed in range(4)]


@pytest.fixture(scope="module")
def parts() -> Profiler:
    """A profiler that holds the filters of the networks."""
    return Profiler(CORTEX_M4, {f for graph in NETWORKS for f in c.instances(graph)})


def windows(graph: Graph, rng: np.random.Generator, count: int) -> Int8:
    shape = graph.input_shape
    return rng.integers(-128, 128, (count, shape.length, shape.channels)).astype(np.int8)


@pytest.mark.parametrize("seed", range(len(NETWORKS)))
def test_figures_of_a_program_are_those_of_its_parts(seed: int, tmp_path: Path, parts: Profiler) -> None:
    rng = np.random.default_rng(seed)
    graph = NETWORKS[seed]
    q, deployment = arbitrary(graph, rng), uniform(graph, ("int8", "int16")[seed % 2])
    x = windows(graph, rng, 3)
    c.write(q, deployment, tmp_path / "m", weights_hash="0123")
    emulator = emulate(tmp_path / "m", CORTEX_M4, MAPS[seed % len(MAPS)])
    expected = reference.run(q, x)
    np.testing.assert_array_equal(emulator.run(x), expected)
    # Watching every access costs time and finds nothing: no kernel makes an unaligned one.
    quick, measured, exact = (emulator.measure(x[1], watch) for watch in (Watch.CYCLES, Watch.READS, Watch.ALIGNMENT))
    for run in (quick, measured, exact):
        np.testing.assert_array_equal(run.output, expected[1])
    assert (quick.cycles, quick.fetch_lines, quick.flash_read_bytes) == (measured.cycles, measured.fetch_lines, 0)
    assert exact.unaligned == 0
    assert (exact.cycles, exact.per_operator) == (measured.cycles, measured.per_operator)

    called = [
        (*table_key(n.op, graph.in_shape(n), n.shape, w), calls(n.op, graph.in_shape(n)))
        for n, w in zip(graph.nodes[1:], deployment.weights[1:], strict=True)
    ]
    runs = [parts.profile(key, length) for key, length, times in called for _ in range(times)]
    kernels = [parts.kernel(key) for key, _, times in called for _ in range(times)]
    extra = parts.overheads()
    count = len(runs)
    assert measured.per_operator == tuple((name, run) for (name, _), run in zip(kernels, runs, strict=True))
    nodes = measured.per_node(graph)
    assert [(name, run.cycles) for name, run in nodes] == [
        (parts.kernel(key)[0], times * parts.profile(key, length).cycles) for key, length, times in called
    ]
    assert max(run.stack_bytes for _, run in nodes) == max(run.stack_bytes for _, run in measured.per_operator)
    assert measured.cycles == sum(r.cycles for r in runs) + count * extra.call_cycles + extra.frame_cycles
    reads = sum(r.flash_read_bytes for r in runs) + count * extra.call_read_bytes + extra.frame_read_bytes
    assert measured.flash_read_bytes == reads
    assert measured.fetch_lines == sum(r.fetch_lines for r in runs) + count * extra.call_lines + extra.frame_lines
    assert measured.stack_bytes == max(r.stack_bytes for r in runs) + extra.frame_stack_bytes
    buffers = align(graph.input_shape.elements) + align(graph.output_shape.elements) + max(deployment.plan.arena_bytes, 4)
    assert measured.ram_bytes == buffers + extra.static_bytes + measured.stack_bytes
    assert measured.flash_bytes == extra.code_bytes + sum(dict(kernels).values()) + flash_bytes(graph, deployment.weights)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[QuantGraph, Path]:
    """A student of three operators, exported."""
    builder = GraphBuilder()
    first = builder.add(Input(4, 8))
    pooled = builder.add(GlobalAvgPool(), builder.add(Add(), first, first))
    builder.add(Dense(3), pooled)
    q = arbitrary(builder.build(), np.random.default_rng(0))
    place = tmp_path_factory.mktemp("small") / "model"
    c.write(q, uniform(q.graph), place, weights_hash="")
    build(place, place.parent / "firmware.elf", CORTEX_M4, MAPS[0])
    return q, place


def test_operators_of_another_graph_are_refused(small: tuple[QuantGraph, Path]) -> None:
    q, place = small
    measured = Emulator(place.parent / "firmware.elf", CORTEX_M4).measure(windows(q.graph, np.random.default_rng(1), 1)[0])
    assert [name for name, _ in measured.per_node(q.graph)] == ["hwnas_add", "hwnas_global_avg_pool", "hwnas_dense_int8"]
    with pytest.raises(FirmwareError, match=r"calls 3 kernels, graph \w+ needs"):
        measured.per_node(NETWORKS[0])


def test_windows_do_not_influence_each_other(small: tuple[QuantGraph, Path]) -> None:
    q, place = small
    x = windows(q.graph, np.random.default_rng(1), 5)
    emulator = Emulator(place.parent / "firmware.elf", CORTEX_M4)
    forward, first = emulator.run(x), emulator.measure(x[0])
    np.testing.assert_array_equal(emulator.run(x[::-1])[::-1], forward)
    again = emulator.measure(x[0])
    np.testing.assert_array_equal(again.output, first.output)
    assert replace(again, output=first.output) == first


FAULTS = {
    "a_store_above_ram": ("movs r3, #0; movt r3, #0x2003; str r3, [r3]", "fault"),
    "a_store_below_ram": ("movw r3, #0xfffc; movt r3, #0x1fff; str r3, [r3]", "fault"),
    "a_store_into_flash": ("movs r3, #0; movt r3, #0x0800; str r3, [r3]", "fault"),
    "a_load_of_nothing": ("movs r3, #4; ldr r3, [r3]", "fault"),
    "a_load_above_flash": ("movs r3, #0; movt r3, #0x0810; ldr r3, [r3]", "fault"),
    "an_endless_loop": ("1: b 1b", "did not end"),
    "an_undefined_instruction": ("udf #0", "fault"),
    "code_in_ram": ("movs r3, #1; movt r3, #0x2000; bx r3", "fault"),
    "all_of_the_stack": (f"mov r2, sp; sub.w r3, sp, #{2 * STACK_BYTES}; 1: str r0, [r2, #-4]!; cmp r2, r3; bne 1b; bx lr", "stack"),
}


@pytest.fixture(scope="module")
def faults() -> dict[str, bytes]:
    return assemble({name: body for name, (body, _) in FAULTS.items()})


def patched(program: Path, function: str, code: bytes, place: Path) -> Path:
    """`program` with `code` in place of the first bytes of `function`."""
    parsed = read_elf(program, CORTEX_M4)
    start = parsed.symbols[function] - parsed.flash_region[0]
    own, content = parsed.flash[start : start + max(len(code), 32)], program.read_bytes()
    assert content.count(own) == 1
    (place / "patched.elf").write_bytes(content.replace(own, code + own[len(code) :]))
    return place / "patched.elf"


@pytest.mark.parametrize(("function", "operator"), [("hwnas_add", 1), ("hwnas_dense_int8", 3)])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_the_operator(
    name: str, function: str, operator: int, small: tuple[QuantGraph, Path], faults: dict[str, bytes], tmp_path: Path
) -> None:
    q, place = small
    emulator = Emulator(patched(place.parent / "firmware.elf", function, faults[name], tmp_path), CORTEX_M4, limit_s=0.1)
    x = windows(q.graph, np.random.default_rng(1), 2)
    with pytest.raises(FirmwareError, match=rf"the window: operator {operator} \({function}\): .*{FAULTS[name][1]}"):
        emulator.measure(x[0])
    if name != "all_of_the_stack":  # without watching, only the operators' own results tell
        with pytest.raises(FirmwareError, match=rf"window 0: operator {operator} \({function}\): .*{FAULTS[name][1]}"):
            emulator.run(x)


def test_a_program_that_does_not_boot_is_refused(small: tuple[QuantGraph, Path], faults: dict[str, bytes], tmp_path: Path) -> None:
    broken = patched(small[1].parent / "firmware.elf", "main", faults["an_undefined_instruction"], tmp_path)
    with pytest.raises(FirmwareError, match="function main: fault"):
        Emulator(broken, CORTEX_M4)


def test_compiler_message_is_in_the_error(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    shutil.copytree(small[1], tmp_path / "m")
    (tmp_path / "m" / "kernels" / "add.c").write_text("int broken = undeclared_thing;\n")
    with pytest.raises(FirmwareError, match="undeclared_thing"):
        build(tmp_path / "m", tmp_path / "firmware.elf", CORTEX_M4, MAPS[0])
    assert not (tmp_path / "firmware.elf").exists()


def test_a_program_has_the_memory_of_its_target_and_no_more(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    """It fits to the byte, and what does not fit is told by the byte."""
    q, place = small
    x = windows(q.graph, np.random.default_rng(1), 1)[0]
    figures = Emulator(place.parent / "firmware.elf", CORTEX_M4).measure(x)
    ram_bytes = figures.ram_bytes - figures.stack_bytes + STACK_BYTES
    out = tmp_path / "tight.elf"
    build(place, out, CORTEX_M4, memory(0, figures.flash_bytes, 0x20000000, ram_bytes))
    assert read_elf(out, CORTEX_M4).ram_region == (0x20000000, ram_bytes)
    out.unlink()
    for lacking, tight in (
        ("12 bytes more flash than its", memory(0, figures.flash_bytes - 12, 0x20000000, 1 << 16)),
        ("8 bytes more RAM than its", memory(0, 1 << 20, 0x20000000, ram_bytes - 8)),
        ("100 bytes more flash than its [0-9]+ and 8 bytes more RAM", memory(0, figures.flash_bytes - 100, 0x20000000, ram_bytes - 8)),
    ):
        with pytest.raises(FirmwareError, match=f"does not fit the target: it needs {lacking}"):
            build(place, out, CORTEX_M4, tight)
        assert not out.exists()


def test_memory_that_cannot_be_emulated_is_refused(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    build(small[1], tmp_path / "odd.elf", CORTEX_M4, memory(0, 1 << 20, 0x20000000, 10_000))
    with pytest.raises(FirmwareError, match="not made of whole pages"):
        Emulator(tmp_path / "odd.elf", CORTEX_M4)


def test_wrong_windows_are_refused(small: tuple[QuantGraph, Path]) -> None:
    q, place = small
    emulator = Emulator(place.parent / "firmware.elf", CORTEX_M4)
    x = windows(q.graph, np.random.default_rng(1), 1)
    for bad in (x[:, 1:], x.astype(np.float32)):
        with pytest.raises(FirmwareError, match="the program reads int8 of 32"):
            emulator.run(bad)


def test_programs_of_another_core_are_refused(small: tuple[QuantGraph, Path]) -> None:
    with pytest.raises(FirmwareError, match="a program for EM_ARM, not for cortex-a53"):
        Emulator(small[1].parent / "firmware.elf", core("cortex-a53"))


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not an elf at all" * 10])
def test_damaged_programs_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "firmware.elf"
    with pytest.raises(FirmwareError, match="cannot be read"):
        Emulator(path, CORTEX_M4)
    path.write_bytes(content)
    with pytest.raises(FirmwareError, match=r"firmware\.elf"):
        Emulator(path, CORTEX_M4)


def test_truncated_programs_are_refused(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    whole = (small[1].parent / "firmware.elf").read_bytes()
    for size in range(16, len(whole), len(whole) // 40):
        (tmp_path / "cut.elf").write_bytes(whole[:size])
        with pytest.raises(FirmwareError):
            Emulator(tmp_path / "cut.elf", CORTEX_M4, limit_s=0.2)


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")
def test_the_second_compiler_gives_the_same_bits(tmp_path: Path) -> None:
    graph, rng = NETWORKS[1], np.random.default_rng(1)
    q, x = arbitrary(graph, rng), windows(graph, rng, 2)
    c.write(q, uniform(graph, "int16"), tmp_path / "m", weights_hash="")
    build(tmp_path / "m", tmp_path / "gcc.elf", CORTEX_M4, MAPS[0], compiler="gcc")
    np.testing.assert_array_equal(Emulator(tmp_path / "gcc.elf", CORTEX_M4).run(x), reference.run(q, x))


def test_a_core_without_a_second_compiler_says_so(small: tuple[QuantGraph, Path], tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match="no second compiler for cortex-a53"):
        build(small[1], tmp_path / "gcc.elf", core("cortex-a53"), MAPS[0], compiler="gcc")


class Instructions:
    """A cost model that counts instructions."""

    def __init__(self, code: bytes, base: int) -> None:
        self._decoded = CycleModel(code, base)

    def block(self, address: int, size_bytes: int, before: Step | None = None) -> int:
        return len(self._decoded.steps(address, size_bytes))

    def transition(self, address: int, size_bytes: int, following: int) -> tuple[int, None]:
        return 0, None


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="needs qemu-system-arm")
def test_qemu_executes_as_many_instructions(tmp_path: Path) -> None:
    """The blocks and edges that Unicorn shows are complete: QEMU, one instruction at a time, counts the same."""
    builder = GraphBuilder()
    x = builder.add(DepthwiseConv1d(5), builder.add(Conv1d(8, 7, 2), builder.add(Input(1, 60))))
    builder.add(Dense(3), builder.add(GlobalAvgPool(), builder.add(Conv1d(12), x)))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    c.write(q, uniform(q.graph, "int16"), tmp_path / "m", weights_hash="")
    elf = tmp_path / "m.elf"
    build(tmp_path / "m", elf, CORTEX_M4, MAPS[0])
    counted = Emulator(elf, replace(CORTEX_M4, cost_model=Instructions)).measure(np.zeros((60, 1), np.int8), Watch.CYCLES).cycles

    wait = read_elf(elf, CORTEX_M4).address("hwnas_harness_wait")
    command = ["qemu-system-arm", "-M", "netduinoplus2", "-display", "none", "-monitor", "none", "-serial", "none"]
    # One line a translation block, each of one instruction: "Trace 0: 0x7f... [flags/pc/...] function".
    command += [*one_instruction_at_a_time(), "-d", "exec,nochain", "-D", "/dev/stdout", "-kernel", str(elf)]
    visits, count = 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as qemu:
        assert qemu.stdout is not None
        for line in qemu.stdout:
            if found := re.match(r"Trace \d+: \S+ \[\w+/(\w+)/", line):
                visits += int(found[1], 16) == wait
                count += visits == 1
                if visits == 2:
                    break
        qemu.kill()
    assert visits == 2
    assert count - 1 == counted  # but for the return of the waiting function
    assert counted > 10_000


def one_instruction_at_a_time() -> list[str]:
    """The option's name changed between versions of QEMU."""
    version = subprocess.run(["qemu-system-arm", "--version"], capture_output=True, text=True, check=True).stdout
    major = int(re.findall(r"version (\d+)", version)[0])
    return ["-singlestep"] if major < 8 else ["-accel", "tcg,one-insn-per-tb=on"]


@pytest.mark.slow
def test_two_hundred_windows_of_a_million_macs(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(16, 7, 2), builder.add(Input(1, 1000)))
    for channels in (32, 32, 48):
        x = builder.add(Conv1d(channels), builder.add(DepthwiseConv1d(5, 2 if channels == 48 else 1), x))
    builder.add(Dense(6), builder.add(GlobalAvgPool(), x))
    rng = np.random.default_rng(0)
    q = arbitrary(builder.build(), rng)
    assert q.graph.macs > 1_000_000
    c.write(q, uniform(q.graph, "int16"), tmp_path / "m", weights_hash="")
    x_int8 = windows(q.graph, rng, 200)
    np.testing.assert_array_equal(emulate(tmp_path / "m", CORTEX_M4, MAPS[0]).run(x_int8), reference.run(q, x_int8))
