"""LSTM kernels: plain integers == int8 reference == portable C on this machine == the Cortex-M4 code, bit by bit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_rig import BENCH, CortexM4, Host, KernelCall, Sanitized
from plain_integers import node_output
from random_students import random_integers

from hwnas.export.packing import pack_node
from hwnas.graph import GraphBuilder, Input, Lstm
from hwnas.hardware.ops import Layout
from hwnas.hardware.weights import packed_bytes
from hwnas.memory import scratch_bytes
from hwnas.quantize import activation, reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, QuantGraph, QuantLstm

KERNELS = ["hwnas_lstm_int8", "hwnas_lstm_int16"]
LAYOUTS: tuple[Layout, ...] = ("int8", "int16")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(KERNELS, tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> CortexM4:
    return CortexM4(KERNELS, tmp_path_factory.mktemp("core"))


def lstm(rng: np.random.Generator, channels: int, units: int, length: int, *, last: bool = False, spread: bool = True) -> QuantGraph:
    builder = GraphBuilder()
    builder.add(Lstm(units, last), builder.add(Input(channels, length)))
    return (arbitrary if spread else random_integers)(builder.build(), rng)


def random_input(q: QuantGraph, rng: np.random.Generator) -> Int8:
    channels, length, _ = q.graph.input_shape
    if rng.random() < 0.2:
        return rng.choice([-128, 127], (length, channels)).astype(np.int8)
    return rng.integers(-128, 128, (length, channels)).astype(np.int8)


def call_of(q: QuantGraph, x: Int8, layout: Layout) -> KernelCall:
    node, source = q.graph.nodes[1], q.graph.input_shape
    packed = pack_node(q, 1, layout)
    assert packed.packed.nbytes == packed_bytes(node.op, source, layout)
    scratch = bytes([0xA5]) * scratch_bytes(node, source)
    return KernelCall(packed.kernel, tuple(packed.params.values()), packed.packed, x.tobytes(), scratch, node.shape.elements)


def expected(q: QuantGraph, x: Int8) -> Int8:
    """Python integers, held against the reference."""
    out = reference.run_node(q, 1, x[None])[0]
    assert out.tolist() == node_output(q, 1, x.tolist())
    return out


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 13), st.integers(1, 13), st.integers(1, 6)),
    last=st.booleans(),
    spread=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_kernels_agree(shape: tuple[int, int, int], last: bool, spread: bool, seed: int, host: Host, core: CortexM4) -> None:
    rng = np.random.default_rng(seed)
    q = lstm(rng, *shape, last=last, spread=spread)
    x = random_input(q, rng)
    want = expected(q, x).tobytes()
    for layout in LAYOUTS:
        assert host.run(call_of(q, x, layout)) == want
        assert core.run(call_of(q, x, layout)) == want


@pytest.mark.parametrize(("channels", "units", "length"), [(16, 64, 3), (1, 32, 8), (8, 12, 20), (4, 4, 30), (20, 6, 9)])
def test_common_shapes_reach_both_ends(channels: int, units: int, length: int, host: Host, core: CortexM4) -> None:
    rng = np.random.default_rng(7)
    values = []
    for _ in range(4):
        q = lstm(rng, channels, units, length)
        x = random_input(q, rng)
        want = expected(q, x)
        for layout in LAYOUTS:
            assert host.run(call_of(q, x, layout)) == want.tobytes()
            assert core.run(call_of(q, x, layout)) == want.tobytes()
        values.append(want.ravel())
    spread = np.concatenate(values)
    assert spread.min() == -128 and spread.max() == 127


@pytest.mark.parametrize("multiplier", [1, 2**24, 2**26 - 1, 2**31 - 1])
@pytest.mark.parametrize("hidden", [1, 2**24, 2**31 - 1])
def test_extreme_accumulators_and_multipliers(multiplier: int, hidden: int, host: Host, core: CortexM4) -> None:
    """Gates and cell states that saturate at both ends, up to |acc| = 2**25 - 1."""
    rng = np.random.default_rng(multiplier + hidden)
    q = lstm(rng, 3, 8, 6)
    edges = np.array([0, 1, -1, 2**24, -(2**24), 2**25 - 1, 1 - 2**25, 777], np.int64)
    bias = rng.choice(edges, (8, 4)).astype(np.int32)
    constants = QuantLstm(np.zeros((8, 4, 11), np.int8), bias, np.full((8, 4), multiplier, np.int32), hidden)
    small = replace(q.lstms[1], multiplier=constants.multiplier, hidden_multiplier=hidden)
    for lstms in ({1: constants}, {1: small}):
        changed = replace(q, lstms=lstms)
        x = random_input(changed, rng)
        want = expected(changed, x).tobytes()
        for layout in LAYOUTS:
            assert host.run(call_of(changed, x, layout)) == want
            assert core.run(call_of(changed, x, layout)) == want


def test_cell_states_saturate(host: Host, core: CortexM4) -> None:
    """Input and forget gates open for 40 steps: the cell state would reach 40, the format ends at 16."""
    rng = np.random.default_rng(0)
    q = lstm(rng, 1, 4, 40)
    bias = np.array([[2**20, 2**20, sign * 2**20, 2**20] for sign in (1, -1, 1, -1)], np.int32)
    constants = QuantLstm(np.zeros((4, 4, 5), np.int8), bias, np.full((4, 4), 2**21, np.int32), 2**24)
    q = replace(q, lstms={1: constants})
    x = random_input(q, rng)
    want = expected(q, x).tobytes()
    for layout in LAYOUTS:
        assert host.run(call_of(q, x, layout)) == want
        assert core.run(call_of(q, x, layout)) == want


def test_tables_are_those_of_the_reference() -> None:
    text = (BENCH / "include" / "hwnas_lstm.h").read_text()
    found = re.search(r"hwnas_lstm_curves\[[^]]*\] = \{([^}]*)\}", text)
    assert found
    assert [int(v) for v in found[1].split(",") if v.strip()] == [*activation.SIGMOID.tolist(), *activation.TANH.tolist()]


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    if not Sanitized.available(tmp_path):
        pytest.skip("no gcc with sanitizers")
    program = Sanitized(KERNELS, tmp_path)
    rng = np.random.default_rng(1)
    calls, wants = [], []
    for channels, units, length in [(1, 1, 1), (3, 5, 4), (4, 8, 3), (7, 2, 2), (16, 13, 3)]:
        for last in (False, True):
            q = lstm(rng, channels, units, length, last=last, spread=channels != 3)
            x = random_input(q, rng)
            for layout in LAYOUTS:
                calls.append(call_of(q, x, layout))
                wants.append(expected(q, x).tobytes())
    assert program.run(calls) == wants
