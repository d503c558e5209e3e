"""Operator figures: exact lines in the length, no dependence on data, and a sum that is what the whole program takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from unicorn.unicorn_const import UC_HOOK_CODE

from hwnas.errors import FirmwareError
from hwnas.firmware.build import kernel_set_hash, toolchain
from hwnas.firmware.cycles import CycleModel, step_cycles
from hwnas.firmware.machine import FLASH_BASE
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Graph, Input, Node
from hwnas.hardware.ops import OpKey, node_of
from hwnas.quantize.qgraph import QuantGraph

KEYS = [
    OpKey("pointwise", 1, 1, 16, 24),
    OpKey("pointwise", 1, 1, 5, 6),
    OpKey("conv1d", 7, 2, 1, 16),
    OpKey("conv1d", 5, 1, 1, 8),
    OpKey("conv1d", 5, 1, 8, 12),
    OpKey("conv1d", 3, 4, 4, 8),
    OpKey("conv1d", 1, 2, 8, 8),
    OpKey("depthwise_conv1d", 3, 1, 8, 8),
    OpKey("depthwise_conv1d", 5, 2, 12, 12),
    OpKey("depthwise_conv1d", 9, 1, 8, 8),
    OpKey("depthwise_conv1d", 7, 3, 6, 6),
    OpKey("depthwise_conv1d", 11, 2, 4, 4),
    OpKey("add", 1, 1, 8, 8),
    OpKey("global_avg_pool", 1, 1, 12, 12),
]


def least_length(key: OpKey) -> int:
    """From here on every kind of position (left edge, inside, right edge) exists, and only the inside grows."""
    return 2 * key.kernel + 6 * key.stride + 8


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_cycles_are_affine_in_the_length(key: OpKey, profiler: Profiler) -> None:
    period = 2 * key.stride
    start = least_length(key)
    for residue in range(period):
        cycles, stack = profiler.profile(key, start + residue)
        following = profiler.profile(key, start + residue + period)[0]
        for steps in (2, 7, 53):
            predicted = cycles + steps * (following - cycles)
            assert profiler.profile(key, start + residue + steps * period) == (predicted, stack)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_cycles_do_not_depend_on_data(
    key: OpKey, profiler: Profiler, quantized: Callable[[Graph, np.random.Generator], QuantGraph]
) -> None:
    length = 41
    node, source = node_of(key, length)
    graph = Graph((Node(Input(*source), (), source), node))
    expected = profiler.profile(key, length)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inputs = rng.integers(-128, 128, (len(node.inputs), length, source.channels)).astype(np.int8)
        assert profiler.run(quantized(graph, rng), 1, inputs)[1:] == expected


def test_repeated_profiles_are_equal(profiler: Profiler) -> None:
    key = OpKey("conv1d", 5, 2, 8, 8)
    assert profiler.profile(key, 100) == profiler.profile(key, 100)
    assert profiler.overheads() == profiler.overheads()


def test_large_shapes_cost_no_more_than_a_few_cycles_a_mac(profiler: Profiler) -> None:
    assert profiler.profile(OpKey("pointwise", 1, 1, 64, 64), 94)[0] < 1.5 * 94 * 64 * 64
    assert profiler.profile(OpKey("pointwise", 1, 1, 16, 32), 750)[0] < 2.0 * 750 * 16 * 32
    assert profiler.profile(OpKey("depthwise_conv1d", 5, 1, 32, 32), 375)[0] < 4.6 * 375 * 5 * 32


def test_shapes_larger_than_memory_are_refused(profiler: Profiler) -> None:
    with pytest.raises(FirmwareError, match="cannot be profiled"):
        profiler.profile(OpKey("pointwise", 1, 1, 1024, 4), 70_000)


def test_kernel_set_is_named_by_content() -> None:
    assert kernel_set_hash() == kernel_set_hash()
    assert len(kernel_set_hash()) == 16
    assert toolchain().startswith("zig 0.")


@pytest.mark.parametrize(("key", "length"), [(KEYS[0], 9), (KEYS[2], 40), (KEYS[8], 31), (KEYS[13], 6)], ids=str)
def test_counting_blocks_equals_walking_every_instruction(key: OpKey, length: int, profiler: Profiler) -> None:
    """The same rules, applied to the trace of single instructions, independent of blocks and edges."""
    machine = profiler._machine
    model = CycleModel(machine.program.flash, FLASH_BASE)
    trace: list[tuple[int, int]] = []
    hook = machine._uc.hook_add(UC_HOOK_CODE, lambda _uc, address, size, _data: trace.append((address, size)))
    machine._uc.ctl_flush_tb()
    try:
        expected, _ = profiler.profile(key, length)
    finally:
        machine._uc.hook_del(hook)
        machine._uc.ctl_flush_tb()
    total, before = 0, None
    for (address, size), following in zip(trace, [*(a for a, _ in trace[1:]), 0], strict=True):
        (step,) = model.steps(address, size)
        total += step_cycles(before, step)
        straight = following == address + size
        total += 0 if straight else step.refill or 0
        before = step if straight else None
    assert total == expected
    assert len(trace) > 100
