"""The Cortex-A53: issue rules counted by hand, the model beside published kernel speeds, and NEON kernels against the int8 reference."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from random_networks import random_modalities, random_network, random_operator
from random_students import random_integers

from hwnas.errors import FirmwareError
from hwnas.export import c
from hwnas.firmware.build import build, cache_folder
from hwnas.firmware.cortex_a53 import CORTEX_A53, UNCERTAINTY_FACTOR
from hwnas.firmware.cortex_a53_cycles import CycleModel, Flight
from hwnas.firmware.cortex_a53_linux import build_linux, run_linux
from hwnas.firmware.emulator import Emulator
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import Layout
from hwnas.hardware.profile import Memory, Region
from hwnas.hardware.weights import layouts
from hwnas.quantize import reference

BASE = 0x40000000
MEMORY = Memory(flash=Region(origin=BASE, bytes=1 << 20), sram=Region(origin=0x50000000, bytes=1 << 20))

# Assembled by zig cc.
CODE = {
    "add x0, x1, x2": "2000028b",
    "add x3, x4, x5": "8300058b",
    "add x6, x0, x1": "0600018b",
    "add x0, x1, x2, lsl #3": "200c028b",
    "lsl x0, x1, #3": "20f07dd3",
    "subs x7, x7, #1": "e70400f1",
    "mul w0, w1, w2": "207c021b",
    "madd w3, w4, w5, w0": "8300051b",
    "mul x0, x1, x2": "207c029b",
    "smulh x0, x1, x2": "207c429b",
    "udiv w0, w1, w2": "2008c21a",
    "ldr x0, [x1]": "200040f9",
    "ldr x2, [x3]": "620040f9",
    "ldr x4, [x0]": "040040f9",
    "ldrsb w0, [x1]": "2000c039",
    "ldp x0, x2, [x1]": "200840a9",
    "ldr x4, [x1], #8": "248440f8",
    "str x0, [x3]": "600000f9",
    "str x5, [x3]": "650000f9",
    "stp x5, x6, [x3]": "651800a9",
    "nop": "1f2003d5",
    "smlal v0.4s, v1.4h, v2.h[0]": "2020420f",
    "smlal v3.4s, v1.4h, v2.h[1]": "2320520f",
    "smull v0.4s, v1.4h, v2.4h": "20c0620e",
    "fmla v0.4s, v1.4s, v2.s[0]": "2010824f",
    "fmla v3.4s, v1.4s, v2.s[1]": "2310a24f",
    "add v0.4s, v1.4s, v2.4s": "2084a24e",
    "add v0.2s, v1.2s, v2.2s": "2084a20e",
    "add v3.2s, v4.2s, v5.2s": "8384a50e",
    "add v6.4s, v0.4s, v1.4s": "0684a14e",
    "and v0.16b, v1.16b, v2.16b": "201c224e",
    "sshll v1.8h, v0.8b, #0": "01a4080f",
    "rshrn v4.2s, v5.2d, #32": "a48c200f",
    "rshrn2 v4.4s, v6.2d, #32": "c48c204f",
    "sqxtn v0.4h, v4.4s": "8048610e",
    "sadalp v0.4s, v1.8h": "2068604e",
    "ldr d1, [x1]": "210040fd",
    "ldr q1, [x1]": "2100c03d",
    "ld1 {v1.16b, v2.16b}, [x1]": "21a0404c",
    "ld2 {v1.8h, v2.8h}, [x1]": "2184404c",
    "ld4 {v1.8b, v2.8b, v3.8b, v4.8b}, [x1]": "2100400c",
    "ld1r {v1.4s}, [x1]": "21c8404d",
    "st1 {v0.16b}, [x3]": "6070004c",
    "stp q0, q1, [x3]": "600400ad",
    "umov w0, v0.b[0]": "003c010e",
    "dup v1.4s, w0": "010c044e",
    "fmul v0.4s, v1.4s, v2.4s": "20dc226e",
    "fdiv s0, s1, s2": "2018221e",
    "tbl v0.16b, {v1.16b}, v2.16b": "2000024e",
    "b": "10000014",
    "b.ne": "01020054",
    "cbz x0": "000200b4",
    "bl": "10000094",
    "blr x3": "60003fd6",
    "ret": "c0035fd6",
    "add v0.4s, v4.4s, v5.4s": "8084a54e",
}


def count(*lines: str) -> int:
    code = bytes.fromhex("".join(CODE[line] for line in lines))
    return CycleModel(code, BASE).block(BASE, len(code))


def latency(line: str, user: str) -> int:
    """Cycles from the issue of `line` to that of `user`, which needs its result."""
    return count(line, user) - 1


def throughput(line: str, times: int = 8) -> float:
    """Cycles of one more `line` among independent ones."""
    return (count(*[line] * 2 * times) - count(*[line] * times)) / times


@pytest.mark.parametrize(
    ("line", "cycles"),
    [
        ("nop", 0.5),
        ("add x0, x1, x2", 0.5),
        ("add x0, x1, x2, lsl #3", 0.5),
        ("lsl x0, x1, #3", 0.5),
        ("mul w0, w1, w2", 1),
        ("mul x0, x1, x2", 2),
        ("smulh x0, x1, x2", 4),
        ("udiv w0, w1, w2", 8),
        ("ldr x0, [x1]", 1),
        ("ldr x4, [x1], #8", 1),
        ("ldrsb w0, [x1]", 1),
        ("ldp x0, x2, [x1]", 2),
        ("str x0, [x3]", 1),
        ("stp x5, x6, [x3]", 1),
        ("smull v0.4s, v1.4h, v2.4h", 1),
        ("smlal v0.4s, v1.4h, v2.h[0]", 1),
        ("fmla v0.4s, v1.4s, v2.s[0]", 4),  # its own sum
        ("sadalp v0.4s, v1.8h", 2),
        ("add v0.4s, v1.4s, v2.4s", 1),
        ("add v0.2s, v1.2s, v2.2s", 0.5),
        ("and v0.16b, v1.16b, v2.16b", 1),
        ("sshll v1.8h, v0.8b, #0", 1),
        ("rshrn v4.2s, v5.2d, #32", 0.5),
        ("sqxtn v0.4h, v4.4s", 0.5),
        ("tbl v0.16b, {v1.16b}, v2.16b", 1),
        ("fmul v0.4s, v1.4s, v2.4s", 1),
        ("fdiv s0, s1, s2", 14),
        ("ldr d1, [x1]", 1),
        ("ldr q1, [x1]", 2),
        ("ld1 {v1.16b, v2.16b}, [x1]", 4),
        ("ld2 {v1.8h, v2.8h}, [x1]", 4),
        ("ld4 {v1.8b, v2.8b, v3.8b, v4.8b}, [x1]", 5),
        ("ld1r {v1.4s}, [x1]", 1),
        ("st1 {v0.16b}, [x3]", 1),
        ("stp q0, q1, [x3]", 2),
    ],
)
def test_throughput(line: str, cycles: float) -> None:
    assert throughput(line) == cycles


@pytest.mark.parametrize(
    ("line", "user", "cycles"),
    [
        ("add x0, x1, x2", "add x6, x0, x1", 1),
        ("add x0, x1, x2, lsl #3", "add x6, x0, x1", 2),
        ("lsl x0, x1, #3", "add x6, x0, x1", 2),
        ("mul w0, w1, w2", "add x6, x0, x1", 3),
        ("mul x0, x1, x2", "add x6, x0, x1", 4),
        ("smulh x0, x1, x2", "add x6, x0, x1", 6),
        ("udiv w0, w1, w2", "add x6, x0, x1", 8),
        ("ldr x0, [x1]", "add x6, x0, x1", 3),
        ("ldrsb w0, [x1]", "add x6, x0, x1", 4),
        ("ldp x0, x2, [x1]", "add x6, x0, x1", 4),
        ("umov w0, v0.b[0]", "add x6, x0, x1", 3),
        ("add x0, x1, x2", "dup v1.4s, w0", 1),
        ("dup v1.4s, w0", "add v6.4s, v0.4s, v1.4s", 2),
        ("and v0.16b, v1.16b, v2.16b", "add v6.4s, v0.4s, v1.4s", 1),
        ("add v0.4s, v1.4s, v2.4s", "add v6.4s, v0.4s, v1.4s", 2),
        ("sshll v1.8h, v0.8b, #0", "add v6.4s, v0.4s, v1.4s", 2),
        ("sqxtn v0.4h, v4.4s", "add v6.4s, v0.4s, v1.4s", 4),
        ("rshrn v4.2s, v5.2d, #32", "sqxtn v0.4h, v4.4s", 3),
        ("smull v0.4s, v1.4h, v2.4h", "add v6.4s, v0.4s, v1.4s", 4),
        ("smlal v0.4s, v1.4h, v2.h[0]", "add v6.4s, v0.4s, v1.4s", 4),
        ("fmul v0.4s, v1.4s, v2.4s", "add v6.4s, v0.4s, v1.4s", 4),
        ("fmla v0.4s, v1.4s, v2.s[0]", "add v6.4s, v0.4s, v1.4s", 8),
        ("tbl v0.16b, {v1.16b}, v2.16b", "add v6.4s, v0.4s, v1.4s", 2),
        ("ldr d1, [x1]", "add v6.4s, v0.4s, v1.4s", 4),
        ("ldr q1, [x1]", "add v6.4s, v0.4s, v1.4s", 5),
        ("ld2 {v1.8h, v2.8h}, [x1]", "add v6.4s, v0.4s, v1.4s", 7),
    ],
)
def test_latency(line: str, user: str, cycles: int) -> None:
    assert latency(line, user) == cycles


def test_independent_instructions_of_two_kinds_share_a_cycle() -> None:
    assert count("add x0, x1, x2", "ldr x2, [x3]") == 1
    assert count("smlal v0.4s, v1.4h, v2.h[0]", "ldr x2, [x3]") == 1
    assert count("smlal v0.4s, v1.4h, v2.h[0]", "subs x7, x7, #1") == 1
    assert count("add x3, x4, x5", "b.ne") == 1
    assert count("add v0.2s, v1.2s, v2.2s", "add v3.2s, v4.2s, v5.2s") == 1
    assert count("nop", "nop", "nop") == 2


def test_what_needs_one_unit_does_not_share_it() -> None:
    assert count("ldr x2, [x3]", "str x5, [x3]") == 2
    assert count("smlal v0.4s, v1.4h, v2.h[0]", "smlal v3.4s, v1.4h, v2.h[1]") == 2
    assert count("mul w0, w1, w2", "mul w0, w1, w2") == 2


def test_no_full_vector_operation_starts_beside_a_vector_load() -> None:
    assert count("ldr d1, [x1]", "smlal v3.4s, v1.4h, v2.h[1]") == 1 + 4
    assert count("ldr q1, [x1]", "fmla v3.4s, v1.4s, v2.s[1]") == 1 + 5
    assert count("smlal v0.4s, v1.4h, v2.h[0]", "ldr q1, [x1]", "and v0.16b, v1.16b, v2.16b") == 1 + 1 + 5
    assert count("ldr d1, [x1]", "add v3.2s, v4.2s, v5.2s") == 1
    assert count("ldr d1, [x1]", "add v0.4s, v4.4s, v5.4s") == 2


def test_operations_stay_in_order() -> None:
    assert count("ldr x0, [x1]", "add x6, x0, x1", "add x3, x4, x5") == 1 + 3
    assert count("ldr x0, [x1]", "add x3, x4, x5", "add x6, x0, x1") == 1 + 3


def test_sums_are_handed_to_the_next_multiply_accumulate() -> None:
    assert latency("smlal v0.4s, v1.4h, v2.h[0]", "smlal v0.4s, v1.4h, v2.h[0]") == 1
    assert latency("fmla v0.4s, v1.4s, v2.s[0]", "fmla v0.4s, v1.4s, v2.s[0]") == 4
    assert latency("sadalp v0.4s, v1.8h", "sadalp v0.4s, v1.8h") == 2
    assert latency("mul w0, w1, w2", "madd w3, w4, w5, w0") == 2
    # Of another kind, or as a factor: the whole latency.
    assert latency("smull v0.4s, v1.4h, v2.4h", "smlal v0.4s, v1.4h, v2.h[0]") == 4
    assert latency("smlal v0.4s, v1.4h, v2.h[0]", "fmla v0.4s, v1.4s, v2.s[0]") == 4


def test_addresses_are_needed_early_and_data_of_stores_late() -> None:
    assert latency("add x0, x1, x2", "ldr x4, [x0]") == 2
    assert latency("ldr x0, [x1]", "ldr x4, [x0]") == 3
    assert latency("ldr x4, [x1], #8", "ldr x4, [x1], #8") == 1
    assert latency("ldr x0, [x1]", "str x0, [x3]") == 2
    assert latency("add x0, x1, x2", "str x0, [x3]") == 0
    assert latency("sqxtn v0.4h, v4.4s", "st1 {v0.16b}, [x3]") == 3


@pytest.mark.parametrize(("line", "taken"), [("b", 2), ("b.ne", 2), ("cbz x0", 2), ("bl", 2), ("ret", 2), ("blr x3", 4)])
def test_branches_cost_more_only_when_taken(line: str, taken: int) -> None:
    code = bytes.fromhex(CODE[line])
    model = CycleModel(code, BASE)
    assert model.block(BASE, 4) == 1
    assert model.transition(BASE, 4, BASE + 0x100)[0] == taken
    assert model.transition(BASE, 4, BASE + 4)[0] == 0


def test_results_under_way_delay_the_next_block() -> None:
    code = bytes.fromhex(CODE["ldr q1, [x1]"] + CODE["b.ne"] + CODE["add v6.4s, v0.4s, v1.4s"])
    model = CycleModel(code, BASE)
    cost, under_way = model.transition(BASE, 8, BASE + 8)
    assert cost == 0
    assert model.block(BASE, 8) + model.block(BASE + 8, 4, under_way) == 1 + 5
    # A taken branch hides two cycles of it.
    code = bytes.fromhex(CODE["b"] + CODE["add v6.4s, v0.4s, v1.4s"] + CODE["ldr q1, [x1]"] + CODE["b"])
    model = CycleModel(code, BASE)
    taken, under_way = model.transition(BASE + 8, 8, BASE + 4)
    assert taken + model.block(BASE + 4, 4, under_way) == 5
    assert model.block(BASE + 4, 4) == 1
    # After a return through a register nothing is left of it.
    code = bytes.fromhex(CODE["ldr q1, [x1]"] + CODE["ret"])
    assert CycleModel(code, BASE).transition(BASE, 8, BASE + 0x40) == (2, Flight())


def test_a_block_split_in_two_costs_what_it_cost_whole() -> None:
    lines = [
        "ldr q1, [x1]",
        "add x0, x1, x2",
        "smlal v0.4s, v1.4h, v2.h[0]",
        "nop",
        "add v6.4s, v0.4s, v1.4s",
        "ldr x4, [x0]",
        "nop",
        "nop",
    ]
    code = bytes.fromhex("".join(CODE[line] for line in lines))
    whole = CycleModel(code, BASE).block(BASE, len(code))
    for cut in range(4, len(code), 4):
        model = CycleModel(code, BASE)
        cost, under_way = model.transition(BASE, cut, BASE + cut)
        assert cost == 0
        assert model.block(BASE, cut) + model.block(BASE + cut, len(code) - cut, under_way) == whole


def test_a_piece_of_a_block_that_begins_a_page_knows_what_was_issued_before() -> None:
    lines = ["nop"] * 1022 + ["b", "ldr q1, [x1]", "nop", "b"]
    model = CycleModel(bytes.fromhex("".join(CODE[line] for line in lines)), BASE)
    cut, whole = (model.transition(address, BASE + 4104 - address, BASE)[1] for address in (BASE + 4096, BASE + 4092))
    assert cut == whole != model.transition(BASE + 4100, 4, BASE)[1]


def test_a_jump_without_a_branch_is_refused() -> None:
    model = CycleModel(bytes.fromhex(CODE["nop"]), BASE)
    with pytest.raises(FirmwareError, match="without a branch"):
        model.transition(BASE, 4, BASE + 0x40)


@pytest.mark.parametrize(("address", "size"), [(BASE + 64, 4), (BASE - 4, 4), (0x20000000, 4), (BASE, 64), (BASE, 2)])
def test_code_outside_the_program_is_refused(address: int, size: int) -> None:
    with pytest.raises(FirmwareError, match="no A64 code"):
        CycleModel(bytes.fromhex(CODE["nop"]), BASE).block(address, size)


def loop_cycles(lines: list[str], place: Path) -> int:
    """Cycles of one turn of a loop that counts x9 down."""
    source, out = place / "loop.s", place / "loop.o"
    source.write_text("\n".join(["1:", *lines, "subs x9, x9, #1", "b.ne 1b", ""]))
    arguments = ["-target", "aarch64-freestanding-none", "-mcpu=cortex_a53", "-c", str(source), "-o", str(out)]
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig"), "ZIG_LOCAL_CACHE_DIR": str(place)}
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *arguments], env=environment, check=True)
    code = ELFFile(io.BytesIO(out.read_bytes())).get_section_by_name(".text").data()
    model = CycleModel(code, BASE)
    taken, under_way = model.transition(BASE, len(code), BASE)
    return model.block(BASE, len(code), under_way) + taken


def outer_product(rows: int, columns: int, vector: str, load: list[str], multiply: str) -> list[str]:
    """One step of a matrix product held in registers: `rows` values of v0.. by `columns` values of v5.. in fours, sums from v8 on."""
    lines, total = list(load), 8
    for column in range(columns // 4):
        for row in range(rows):
            lines.append(multiply.format(sum=total, column=5 + column, row=row // 4, lane=row % 4))
            total += 1
    return lines


def test_the_model_is_near_published_speeds_of_a_real_core(tmp_path: Path) -> None:
    """gemmlowp's kernel benchmark on a Cortex-A53 (Nexus 5X, 1.44 GHz) gives 6.03 Gop/s for its float kernel that multiplies by lanes and
    9.37 Gop/s for its kernel of widened bytes, two operations a multiply-accumulate: 0.478 and 0.307 cycles each."""
    load = ["ld1 {v5.4s, v6.4s}, [x1], #32", "ld1 {v0.4s, v1.4s, v2.4s}, [x0], #48"]
    floats = outer_product(12, 8, "4s", load, "fmla v{sum}.4s, v{column}.4s, v{row}.s[{lane}]")
    assert 0.478 / 1.3 < loop_cycles(floats, tmp_path) / (12 * 8) < 0.478 * 1.3
    load = ["ld1 {v5.8b}, [x1], #8", "ldr d0, [x0], #8", "ldr s2, [x0], #4"]
    load += [
        "ushll v5.8h, v5.8b, #0",
        "ushll v0.8h, v0.8b, #0",
        "ushll v2.8h, v2.8b, #0",
        "ext v6.16b, v5.16b, v5.16b, #8",
        "ext v1.16b, v0.16b, v0.16b, #8",
    ]
    bytes_ = outer_product(12, 8, "4s", load, "umlal v{sum}.4s, v{column}.4h, v{row}.h[{lane}]")
    assert 0.307 / 1.3 < loop_cycles(bytes_, tmp_path) / (12 * 8) < 0.307 * 1.3


def test_a_plain_loop_is_within_the_stated_factor_of_a_whole_published_network(tmp_path: Path) -> None:
    """XNNPACK's MobileNet v1 in float takes 1.13 core-cycles a multiply-accumulate on four Cortex-A53 at 1.4 GHz, memory included."""
    load = ["ldr q5, [x1], #16", "ldr q0, [x0], #16"]
    plain = outer_product(4, 4, "4s", load, "fmla v{sum}.4s, v{column}.4s, v{row}.s[{lane}]")
    assert 1.13 / UNCERTAINTY_FACTOR < loop_cycles(plain, tmp_path) / (4 * 4) < 1.13 * UNCERTAINTY_FACTOR


@pytest.mark.parametrize("count", [100, pytest.param(1500, marks=pytest.mark.slow)])
def test_random_operators_are_exact(count: int) -> None:
    graphs = [random_operator(np.random.default_rng(seed)) for seed in range(count)]
    profiler = Profiler(CORTEX_A53, sorted({f for graph in graphs for f in c.instances(graph)}))
    for seed, graph in enumerate(graphs):
        rng = np.random.default_rng(seed)
        q, node = random_integers(graph, rng), graph.nodes[-1]
        source = graph.input_shape
        x = rng.integers(-128, 128, (source.length, source.channels)).astype(np.int8)
        expected = reference.run(q, x[None])[0]
        for weights in layouts(node.op, source):
            output, run = profiler.run(q, len(graph.nodes) - 1, [x] * len(node.inputs), weights)
            np.testing.assert_array_equal(output.ravel(), expected.ravel(), err_msg=f"seed {seed}: {node.op} {weights}")
            assert run.cycles > 0 and run.stack_bytes < 1024
            assert profiler.run(q, len(graph.nodes) - 1, [np.zeros_like(x)] * len(node.inputs), weights)[1].cycles == run.cycles


def inverted_residuals(rng: np.random.Generator) -> Graph:
    """A small mobilenet: stem, blocks of pointwise and depthwise convolutions with sums, head."""
    builder = GraphBuilder()
    x = builder.add(Input(int(rng.integers(1, 4)), int(rng.integers(50, 200))))
    x = builder.add(Conv1d(16, 7, 2), x)
    for _ in range(3):
        channels, stride = builder.shape(x).channels, int(rng.integers(1, 3))
        y = builder.add(Conv1d(2 * channels), x)
        y = builder.add(DepthwiseConv1d(int(rng.choice([3, 5, 7, 9])), stride), y)
        y = builder.add(Conv1d(channels if stride == 1 else int(rng.choice([12, 20, 30])), relu=False), y)
        x = builder.add(Add(), x, y) if stride == 1 else y
    builder.add(Dense(5), builder.add(GlobalAvgPool(), x))
    return builder.build()


@pytest.mark.parametrize(("make", "layout"), [(inverted_residuals, "int16"), (random_network, "int8"), (random_modalities, "int16")])
def test_whole_networks_are_exact_and_their_cycles_deterministic(
    make: Callable[[np.random.Generator], Graph], layout: Layout, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    graph = make(rng)
    q = random_integers(graph, rng)
    x = rng.integers(-128, 128, (20, graph.input_shape.length, graph.input_shape.channels)).astype(np.int8)
    expected = reference.run(q, x)
    c.write(q, uniform(graph, layout), tmp_path / "model", weights_hash="")

    build(tmp_path / "model", tmp_path / "firmware.elf", CORTEX_A53, MEMORY)
    emulator = Emulator(tmp_path / "firmware.elf", CORTEX_A53)
    np.testing.assert_array_equal(emulator.run(x), expected)
    first, other = emulator.measure(x[0]), emulator.measure(x[1])
    assert (first.cycles, first.per_operator) == (other.cycles, other.per_operator)
    assert first.cycles == emulator.measure(x[0]).cycles

    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed: the Linux program was not run")
    build_linux(tmp_path / "model", tmp_path / "student")
    np.testing.assert_array_equal(run_linux(["qemu-aarch64", str(tmp_path / "student")], x, expected.shape[1]), expected)
    with pytest.raises(FirmwareError, match="status 1"):
        run_linux(["qemu-aarch64", str(tmp_path / "student")], x.reshape(-1)[1:], expected.shape[1])
