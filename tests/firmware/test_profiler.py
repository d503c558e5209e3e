"""Operator figures: exact lines in the length, no dependence on data, and the code that is paid for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from unicorn.unicorn_const import UC_HOOK_CODE

from hwnas.errors import FirmwareError, UsageError
from hwnas.export import depthwise
from hwnas.export.depthwise import Filter
from hwnas.firmware import build
from hwnas.firmware.build import code_bytes, kernel_object, kernel_set_hash, toolchain
from hwnas.firmware.cores import CORES, core
from hwnas.firmware.counting import Watch
from hwnas.firmware.cycles import CycleModel, step_cycles
from hwnas.firmware.profiler import Profiler
from hwnas.hardware.ops import OpKey, graph_of
from hwnas.quantize.arbitrary import arbitrary
from hwnas.resources import folder

CORTEX_M4 = core("cortex-m4")
KEYS = [
    OpKey("pointwise", 1, 1, 1, 16, 24, "int8"),
    OpKey("pointwise", 1, 1, 1, 16, 24, "int16"),
    OpKey("pointwise", 1, 1, 1, 5, 6, "int8"),
    OpKey("conv1d", 7, 2, 1, 1, 16, "int16"),
    OpKey("conv1d", 5, 1, 1, 1, 8, "int8"),
    OpKey("conv1d", 5, 1, 1, 8, 12, "int16"),
    OpKey("conv1d", 3, 4, 1, 4, 8, "int8"),
    OpKey("conv1d", 3, 1, 2, 6, 7, "int16"),
    OpKey("conv1d", 1, 2, 1, 8, 8, "int8"),
    OpKey("depthwise_conv1d", 3, 1, 1, 8, 8, "int16"),
    OpKey("depthwise_conv1d", 5, 2, 1, 12, 12, "int16"),
    OpKey("depthwise_conv1d", 9, 1, 1, 8, 8, "int16"),
    OpKey("depthwise_conv1d", 7, 3, 1, 6, 6, "int16"),
    OpKey("depthwise_conv1d", 11, 2, 1, 4, 4, "int16"),
    OpKey("depthwise_conv1d", 3, 1, 2, 5, 5, "int16"),
    OpKey("lstm", 1, 1, 1, 6, 10, "int8"),
    OpKey("lstm_last", 1, 1, 1, 7, 8, "int16"),
    OpKey("add", 1, 1, 1, 8, 8, "none"),
    OpKey("concat", 1, 1, 1, 8, 12, "none"),
    OpKey("concat", 1, 1, 1, 5, 8, "none"),
    OpKey("avg_pool1d", 3, 2, 1, 8, 8, "none"),
    OpKey("max_pool1d", 2, 2, 1, 6, 6, "none"),
    OpKey("split", 1, 1, 1, 4, 1, "none"),
    OpKey("join", 1, 1, 1, 8, 24, "none"),
    OpKey("join", 1, 1, 1, 3, 6, "none"),
    OpKey("global_avg_pool", 1, 1, 1, 12, 12, "none"),
]
DENSE = [OpKey("dense", 1, 1, 1, 30, 7, "int8"), OpKey("dense", 1, 1, 1, 32, 8, "int16")]


def period_and_start(key: OpKey) -> tuple[int, int]:
    """Lengths a period apart are blocked alike. From the start on every kind of position (edges, inside) exists; only the inside grows."""
    period, start = 8 * key.stride, 2 * key.kernel * key.dilation + 8 * key.stride + 8
    if key.operator == "depthwise_conv1d":
        own, shortest = depthwise.period(Filter(key.kernel, key.stride, key.dilation, key.in_channels))
        return math.lcm(period, own), max(start, shortest)
    return period, start


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_figures_are_affine_in_the_length(key: OpKey, profiler: Profiler) -> None:
    period, start = period_and_start(key)
    for residue in range(0, period, 5):
        first, second, far = (profiler.profile(key, start + residue + steps * period) for steps in (0, 1, 12))
        assert far.stack_bytes == first.stack_bytes
        for name in ("cycles", "flash_read_bytes", "fetch_lines"):
            value = getattr(first, name)
            assert getattr(far, name) == value + 12 * (getattr(second, name) - value), name


@pytest.mark.parametrize("key", [*KEYS, *DENSE], ids=str)
def test_figures_do_not_depend_on_data_and_no_access_is_unaligned(key: OpKey, profiler: Profiler) -> None:
    length = 1 if key.operator == "dense" else 41
    graph, index = graph_of(key, length)
    shapes = [graph.nodes[i].shape for i in graph.nodes[index].inputs]
    expected = profiler.profile(key, length)
    for seed, watch in enumerate((Watch.READS, Watch.READS, Watch.ALIGNMENT)):
        rng = np.random.default_rng(seed)
        x = [rng.integers(-128, 128, (s.rows, s.channels)).astype(np.int8) for s in shapes]
        # Of an unaligned access it would differ in `unaligned` and in cycles.
        assert profiler.run(arbitrary(graph, rng), index, x, key.weights, watch)[1] == expected


def test_repeated_profiles_are_equal(profiler: Profiler) -> None:
    key = OpKey("conv1d", 5, 2, 1, 8, 8, "int8")
    assert profiler.profile(key, 100) == profiler.profile(key, 100)
    assert profiler.overheads() == profiler.overheads()


def test_flash_is_read_at_least_once(profiler: Profiler) -> None:
    """Weights and parameters lie in flash, as in a student's program."""
    for key, constants in ((DENSE[0], 8 * 32), (DENSE[1], 8 * 32 * 2)):
        assert constants + 8 * 8 <= profiler.profile(key, 1).flash_read_bytes <= 2 * constants
    assert 0 < profiler.profile(KEYS[-1], 50).flash_read_bytes <= 64


def test_shapes_larger_than_memory_are_refused(profiler: Profiler) -> None:
    with pytest.raises(FirmwareError, match="cannot be profiled"):
        profiler.profile(OpKey("pointwise", 1, 1, 1, 1024, 4, "int8"), 70_000)


def test_a_filter_that_was_not_named_is_refused() -> None:
    profiler = Profiler(CORTEX_M4, [])
    own = OpKey("depthwise_conv1d", 5, 1, 1, 32, 32, "int16")
    with pytest.raises(FirmwareError, match=r"hwnas_depthwise_conv1d_k5_s1_d1_c32.*name its filter"):
        profiler.profile(own, 100)
    assert Profiler(CORTEX_M4, [Filter(5, 1, 1, 32)]).profile(own, 100).cycles > 0


@pytest.mark.parametrize("key", [*KEYS, *DENSE], ids=str)
def test_every_key_has_a_function_with_code(key: OpKey, profiler: Profiler) -> None:
    name, code = profiler.kernel(key)
    assert name.startswith("hwnas_")
    assert 0 < code < 8192 and code % 4 == 0


def test_kernels_call_nothing_outside_themselves() -> None:
    """So a student pays for the kernels that it uses, and for nothing that they drag in."""
    from elftools.elf.elffile import ELFFile

    bench = folder("firmware_bench")
    headers = sorted((bench / "include").glob("*.h"))
    for source in sorted((bench / "kernels").glob("*.c")):
        made = kernel_object(source, headers, CORTEX_M4)
        assert code_bytes(made, CORTEX_M4)
        with made.open("rb") as file:
            symbols = ELFFile(file).get_section_by_name(".symtab").iter_symbols()
            outside = [s.name for s in symbols if s.name and s["st_shndx"] == "SHN_UNDEF"]
        assert outside == [], source.name


def test_kernel_set_is_named_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {kernel_set_hash(part) for part in CORES.values()}
    assert len(names) == len(CORES)
    assert kernel_set_hash(CORTEX_M4) in names and len(kernel_set_hash(CORTEX_M4)) == 16
    monkeypatch.setattr(build, "toolchain", lambda core, compiler="zig": "another")
    assert kernel_set_hash(CORTEX_M4) not in names


def test_toolchain_says_name_version_and_flags() -> None:
    text = toolchain(CORTEX_M4)
    assert text.startswith("zig 0.") and "-mcpu=cortex_m4" in text and "-O2" in text and "\n" not in text


def test_cores_are_found_by_name() -> None:
    assert core("cortex-m4") is CORES["cortex-m4"]
    with pytest.raises(UsageError, match=r"unknown core 'cortex-m44'.*cortex-m4"):
        core("cortex-m44")


@pytest.mark.parametrize(("key", "length"), [(KEYS[0], 9), (KEYS[3], 40), (KEYS[10], 31), (KEYS[15], 4), (KEYS[-1], 6)], ids=str)
def test_counting_blocks_equals_walking_every_instruction(key: OpKey, length: int, profiler: Profiler) -> None:
    """The same rules, applied to the trace of single instructions, independent of blocks and edges."""
    machine = profiler._machine
    model = CycleModel(machine.program.flash, machine.program.flash_region[0])
    trace: list[tuple[int, int]] = []
    hook = machine._uc.hook_add(UC_HOOK_CODE, lambda _uc, address, size, _data: trace.append((address, size)))
    machine._uc.ctl_flush_tb()
    try:
        expected = profiler.profile(key, length)
    finally:
        machine._uc.hook_del(hook)
        machine._uc.ctl_flush_tb()
    total, lines, before, line = 0, 0, None, 0
    for (address, size), following in zip(trace, [*(a for a, _ in trace[1:]), 0], strict=True):
        (step,) = model.steps(address, size)
        total += step_cycles(before, step)
        for entered in (address >> 4, address + size - 1 >> 4):
            lines, line = lines + (entered != line), entered
        before, end = step, address + size
        # The trace leaves out what an IT instruction skips; the model lets it take as long as ever.
        while step.refill is None and end != following:
            size = 4 if machine.read(end, 2)[1] >= 0xE8 else 2
            (skipped,) = model.steps(end, size)
            total, end, before = total + step_cycles(before, skipped), end + size, skipped
        if end != following:
            total, before = total + (step.refill or 0), None
    assert (total, lines) == (expected.cycles, expected.fetch_lines)
    assert len(trace) > 100
