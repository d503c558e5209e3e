"""Filling tables: what is asked for is answered exactly, whatever fails is marked, and nothing depends on processes or interruptions.

The shipped tables cover the shipped spaces with the shipped kernels.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made_tables import OVERHEADS, PROVENANCE, made_table
from random_networks import random_modalities, random_network

from hwnas import space
from hwnas.cli.app import run
from hwnas.errors import CostError, FirmwareError, MissingEntryError
from hwnas.export import c
from hwnas.firmware.build import kernel_set_hash
from hwnas.firmware.cores import core
from hwnas.firmware.counting import OperatorRun, Watch
from hwnas.firmware.emulator import emulate
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Add, Graph, Shape
from hwnas.hardware import profile, table
from hwnas.hardware.cost import operator_cycles, predict
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import OpKey, op_key, table_key
from hwnas.hardware.table import LookupTable, Row, new_table
from hwnas.hardware.weights import layouts
from hwnas.pipeline import profiling
from hwnas.pipeline.profiling import Group, check_kernels, empty_table, extended, fill_table, missing, reachable, shapes_of
from hwnas.pipeline.progress import Silent
from hwnas.quantize.arbitrary import arbitrary
from hwnas.tasks import TASKS

PROFILE = profile.read("cortex-m4-192k")
M4 = core("cortex-m4")
SPACE = space.read("mobilenet1d")
OPERATORS = ["pointwise", "conv1d", "depthwise_conv1d", "add", "global_avg_pool", "dense"]
UNKNOWN = OpKey("pointwise", 1, 1, 1, 20, 20, "int8")  # no candidate of the space is 20 channels wide
SUM = OpKey("add", 1, 1, 1, 12, 12, "none")


class Recorder(Silent):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps: list[int] = []
        self.said: list[str] = []

    def stage(self, title: str, total: int | None = None) -> None:
        self.stages.append((title, total))

    def step(self, done: int, note: str = "") -> None:
        self.steps.append(done)

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def profiler() -> Profiler:
    return Profiler(M4)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A space of few shapes."""
    block = {"channels": [8], "kernel": [5], "dilation": [1], "stride": [1, 2], "expansion": [1, 2]}
    stem = {"channels": [8], "kernel": [7], "stride": [8]}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"family": "mobilenet1d", "description": "-", "stem": stem, "blocks": [2], "block": block}))
    return path


# What is reached, and the rows that answer it.


@pytest.mark.parametrize("make", [random_network, random_modalities])
@pytest.mark.parametrize("seed", range(5))
def test_shapes_of_a_graph_are_its_operators_in_every_layout(seed: int, make: Callable[[np.random.Generator], Graph]) -> None:
    graph = make(np.random.default_rng(seed))
    found = shapes_of(graph)
    for node in graph.nodes[1:]:
        source = graph.in_shape(node)
        for weights in layouts(node.op, source):
            key, length = table_key(node.op, source, node.shape, weights)
            assert (key, length) in found
            if not (isinstance(node.op, Add) and source.modalities > 1):
                assert (key, length) == (op_key(node.op, source, node.shape, weights), source.length)
    assert missing(made_table(found), found) == set()


@pytest.mark.parametrize("seed", range(3))
def test_a_prediction_is_what_the_program_takes(seed: int, tmp_path: Path) -> None:
    """Rows of single operators, made for this graph of several modalities, against its whole program."""
    rng = np.random.default_rng(seed)
    graph = random_modalities(rng, longest=150)
    deployment = uniform(graph, ("int8", "int16")[seed % 2])
    filled = extended(empty_table(PROFILE), shapes_of(graph), Silent())
    predicted = predict(graph, deployment, PROFILE, filled, 10.0)
    c.write(arbitrary(graph, rng), deployment, tmp_path, weights_hash="")
    shape = graph.input_shape
    measured = emulate(tmp_path, M4, PROFILE.memory).measure(np.zeros((shape.length, shape.channels), np.int8), Watch.READS)
    assert operator_cycles(graph, deployment, filled) == [run_of.cycles for _, run_of in measured.per_node(graph)]
    assert predicted.cycles == measured.cycles
    assert (predicted.ram_bytes, predicted.flash_bytes) == (measured.ram_bytes, measured.flash_bytes)


def test_missing_finds_the_rows_that_are_gone_and_no_marked_ones() -> None:
    shapes = sorted(reachable(SPACE, Shape(1, 200), 6))
    whole = made_table(shapes)
    assert missing(whole, shapes) == set()
    key, length = shapes[7]
    poorer = new_table(PROVENANCE, OVERHEADS, [row for row in whole.rows if row.key != key])
    assert missing(poorer, shapes) == {shape for shape in shapes if shape[0] == key} != set()
    with pytest.raises(MissingEntryError):
        poorer.cost(key, length)
    marked = poorer.with_rows(Row.marked(k, n, "failed: -") for k, n in shapes if k == key)
    assert missing(marked, shapes) == set()


LAYOUTS: dict[str, list[Any]] = {"pointwise": ["int8", "int16"], "conv1d": ["int8", "int16"], "lstm": ["int8"], "lstm_last": ["int16"]}


@given(
    st.sampled_from(["pointwise", "conv1d", "add", "concat", "avg_pool1d", "max_pool1d", "global_avg_pool", "lstm", "lstm_last"]),
    st.integers(1, 25),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 3000),
)
def test_a_group_covers_its_length(operator: str, kernel: int, stride: int, dilation: int, channels: int, length: int) -> None:
    if operator not in ("conv1d", "avg_pool1d", "max_pool1d"):
        kernel = stride = 1
    key = OpKey(operator, kernel, stride, dilation if operator == "conv1d" else 1, channels, channels, LAYOUTS.get(operator, ["none"])[0])
    same, start, period = profiling._group(key, length)
    row = Row(same, start, period, 100, 7, 0, 0, 0, 0, 40, "f", 0)
    covered = new_table(PROVENANCE, OVERHEADS, [row])
    assert covered.cost(key, length).stack_bytes == 40
    # A row that is extended in length begins where left and right edge are apart, and is the same for every length of its residue.
    if period:
        assert start >= kernel and period % stride == 0
        assert profiling._group(key, length + period) == profiling._group(key, start + 9 * period) == (same, start, period)
    else:
        assert start == length


KINDS = [
    *(OpKey("pointwise", 1, 1, 1, a, b, w) for a in (4, 16) for b in (4, 12) for w in ("int8", "int16")),
    *(OpKey("conv1d", k, s, d, c, 8, w) for k, s, d, c in ((7, 4, 1, 1), (3, 1, 2, 5), (5, 3, 1, 8)) for w in ("int8", "int16")),
    OpKey("conv1d", 5, 2, 1, 1, 8, "int16"),
    *(OpKey("add", 1, 1, 1, c, c, "none") for c in (3, 12)),
    OpKey("concat", 1, 1, 1, 5, 12, "none"),
    *(OpKey(name, 3, 2, 1, c, c, "none") for name in ("avg_pool1d", "max_pool1d") for c in (3, 8)),
    *(OpKey(name, 1, 1, 1, 5, 6, w) for name in ("lstm", "lstm_last") for w in ("int8", "int16")),
    *(OpKey("split", 1, 1, 1, c, 1, "none") for c in (2, 4)),
    *(OpKey("join", 1, 1, 1, c, 3 * c, "none") for c in (1, 5, 8)),
    OpKey("global_avg_pool", 1, 1, 1, 12, 12, "none"),
    OpKey("dense", 1, 1, 1, 12, 6, "int16"),
]


def test_rows_answer_unseen_lengths_exactly(profiler: Profiler) -> None:
    """Rows are made for two lengths of each operator and asked for others of their residues: what is emulated there is what they say."""
    rng = np.random.default_rng(0)
    for key in KINDS:
        length = 1 if key.operator == "dense" else int(rng.integers(70, 90))
        group = profiling._group(key, length)
        (row,) = profiling._profile(profiler, group, [length])
        assert row.status == "ok", key
        unseen = row.in_length + int(rng.integers(2, 40)) * row.period
        run_of = profiler.profile(key, unseen)
        counts = (run_of.cycles, run_of.flash_read_bytes, run_of.fetch_lines, run_of.stack_bytes)
        assert row.at(unseen) == (*counts, *profiler.kernel(key)), key


class Bent:
    """A kernel whose counts are no line in the length, or whose stack grows, or that faults."""

    def __init__(self, **bend: int) -> None:
        self._bend = bend

    def profile(self, key: OpKey, in_length: int) -> OperatorRun:
        after = {name: amount * (in_length > 30) for name, amount in self._bend.items()}
        if after.get("fault") or (self._bend.get("fault", 0) < 0):
            raise FirmwareError("it read 0x0, outside its tensors")
        return OperatorRun(
            10 * in_length + after.get("cycles", 0), 40 + after.get("stack", 0), 5 * in_length + after.get("reads", 0), 3 * in_length
        )

    def kernel(self, key: OpKey) -> tuple[str, int]:
        return "f", 8


def rows_of(bent: Any) -> list[Row]:
    return profiling._profile(bent, Group(UNKNOWN, 23, 2), [25, 31])


def test_a_line_is_one_row() -> None:
    assert rows_of(Bent()) == [Row(UNKNOWN, 23, 2, 230, 20, 115, 10, 69, 6, 40, "f", 8)]


def test_a_line_that_begins_later_is_a_row_from_there_and_lengths_before_it_have_their_own() -> None:
    class Late(Bent):
        def profile(self, key: OpKey, in_length: int) -> OperatorRun:
            return replace(super().profile(key, in_length), cycles=10 * in_length + (7 if in_length < 26 else 0))

    late: Any = Late()
    rows = profiling._profile(late, Group(UNKNOWN, 23, 2), [23, 25, 31])
    assert [(row.in_length, row.period, row.cycles, row.cycles_per_period) for row in rows] == [
        *((n, 0, 10 * n + 7, 0) for n in (23, 25)),
        (27, 2, 270, 20),
    ]
    table_of = new_table(PROVENANCE, OVERHEADS, rows)
    assert [table_of.cost(UNKNOWN, n).cycles for n in (23, 25, 27, 31, 99)] == [237, 257, 270, 310, 990]
    assert list(profiling._rows_for(table_of, {(UNKNOWN, 23), (UNKNOWN, 25), (UNKNOWN, 31)})) == rows


@pytest.mark.parametrize("what", ["cycles", "stack", "reads"])
def test_what_is_no_line_gets_a_row_for_each_length(what: str) -> None:
    rows = rows_of(Bent(**{what: 1}))
    assert [(row.in_length, row.period, row.status) for row in rows] == [(25, 0, "ok"), (31, 0, "ok")]
    assert [row.cycles for row in rows] == [250, 310 + (what == "cycles")]


def test_a_shape_that_faults_is_a_marked_row_and_no_other_is() -> None:
    rows = rows_of(Bent(fault=1))
    assert [(row.in_length, row.status) for row in rows] == [(25, "ok"), (31, "failed: it read 0x0; outside its tensors")]
    assert [row.status[:6] for row in rows_of(Bent(fault=-1))] == ["failed", "failed"]


# Extending a table, and filling one.


def test_unknown_shapes_are_measured_and_answer_their_residue(profiler: Profiler) -> None:
    progress, asked = Recorder(), {(UNKNOWN, 123), (UNKNOWN, 121), (UNKNOWN, 1)}
    start = new_table(PROVENANCE, OVERHEADS, [])
    longer = extended(start, asked, progress)
    assert missing(longer, asked) == set()
    assert missing(longer, {(UNKNOWN, 122)}) == {(UNKNOWN, 122)}
    # Two odd lengths share one row, which answers any other odd length too; length 1 has a row of its own.
    assert len(longer.rows) == 2
    for length in (1, 121, 123, 477):
        run_of = profiler.profile(UNKNOWN, length)
        cost = longer.cost(UNKNOWN, length)
        assert (cost.cycles, cost.flash_read_bytes, cost.stack_bytes) == (run_of.cycles, run_of.flash_read_bytes, run_of.stack_bytes)
    assert [total for _, total in progress.stages] == [2] and progress.steps == [0, 2]
    assert extended(longer, asked, Silent()) == longer


SHAPES = {(SUM._replace(in_channels=c, out_channels=c), n) for c in (4, 6, 8, 12, 16) for n in (3, 5, 40, 41, 90)}


def test_processes_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    start = new_table(PROVENANCE, OVERHEADS, [])
    monkeypatch.setattr(profiling, "SHARE_GROUPS", 8)
    assert len(profiling._shares(SHAPES)) >= 2
    assert table.to_csv(extended(start, SHAPES, Silent(), jobs=2)) == table.to_csv(extended(start, SHAPES, Silent()))


def test_work_is_cut_the_same_whatever_is_done_already() -> None:
    whole = profiling._shares(SHAPES)
    assert whole == profiling._shares(sorted(SHAPES, reverse=True))
    assert sorted(wanted for share in whole for wanted in share.wanted) == sorted(SHAPES)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Shares that were profiled in this process, by their number of groups; the emulator is replaced by a formula."""
    done: list[int] = []

    def share_rows(_: str, share: profiling.Share) -> list[Row]:
        done.append(len(share.groups))
        return [row for group, lengths in share.groups for row in made_table((group.key, n) for n in lengths).rows]

    monkeypatch.setattr(profiling, "SHARE_GROUPS", 8)
    monkeypatch.setattr(profiling, "profile_share", share_rows)
    monkeypatch.setattr(profiling, "empty_table", lambda _: new_table(PROVENANCE, OVERHEADS, []))
    yield done


class Interrupt(Recorder):
    """Ctrl-C after some shares."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def step(self, done: int, note: str = "") -> None:
        super().step(done, note)
        if len(self.steps) > self._after:
            raise KeyboardInterrupt


def test_an_interrupted_filling_goes_on_and_ends_in_the_same_bytes(tmp_path: Path, small: Path, counted: list[int]) -> None:
    out, partial, names = tmp_path / "t.csv", tmp_path / "t.csv.partial", [str(small)]
    path, rows = fill_table(PROFILE.name, names, tmp_path / "whole.csv", Silent())
    whole, shares = path.read_bytes(), len(counted)
    assert len(table.read(path).rows) == rows and shares >= 2
    counted.clear()
    with pytest.raises(KeyboardInterrupt):
        fill_table(PROFILE.name, names, out, Interrupt(1))
    assert partial.exists() and not out.exists() and len(counted) == 1
    progress = Recorder()
    fill_table(PROFILE.name, names, out, progress)
    assert out.read_bytes() == whole
    assert len(counted) == shares and not partial.exists()
    assert any("going on from" in line for line in progress.said)
    assert progress.steps[0] == counted[0]


@pytest.mark.parametrize("how", ["other kernels", "damaged"])
def test_what_another_filling_left_is_not_taken_up(tmp_path: Path, small: Path, counted: list[int], how: str) -> None:
    out, partial = tmp_path / "t.csv", tmp_path / "t.csv.partial"
    if how == "damaged":
        partial.write_text("half a li")
    else:
        table.write(new_table({**PROVENANCE, "kernel_set": "old"}, OVERHEADS, made_table(SHAPES).rows), partial)
    progress = Recorder()
    fill_table(PROFILE.name, [str(small)], out, progress)
    assert any("starting again" in line for line in progress.said)
    assert table.read(out).provenance["kernel_set"] == PROVENANCE["kernel_set"]
    assert not {row.key for row in table.read(out).rows} & {key for key, _ in SHAPES if key.in_channels == 6}


def test_rows_of_another_space_do_not_stay(tmp_path: Path, small: Path, counted: list[int]) -> None:
    out, partial = tmp_path / "t.csv", tmp_path / "t.csv.partial"
    fill_table(PROFILE.name, [str(small)], tmp_path / "alone.csv", Silent())
    table.write(made_table({(SUM._replace(in_channels=6, out_channels=6), 5)}), partial)
    fill_table(PROFILE.name, [str(small)], out, Silent())
    assert out.read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_the_count_is_told_and_a_space_too_large_is_refused(
    tmp_path: Path, small: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Recorder()
    _, rows = fill_table(PROFILE.name, [str(small)], tmp_path / "t.csv", progress)
    assert any(line.startswith(f"space {small}: ") and line.endswith(" rows") for line in progress.said)
    monkeypatch.setattr(profiling, "LARGEST_SPACE_ROWS", rows - 100)
    with pytest.raises(CostError, match=r"small\.yaml needs [\d,]+ rows, at most .*coarser above 64"):
        fill_table(PROFILE.name, [str(small)], tmp_path / "u.csv", Silent())
    assert not (tmp_path / "u.csv").exists()


@pytest.mark.parametrize("name", space.names())
def test_the_shipped_spaces_keep_to_the_limit(name: str) -> None:
    assert len(profiling._groups(profiling.space_shapes(name))) <= profiling.LARGEST_SPACE_ROWS


def test_a_table_filled_by_the_emulator_covers_its_space(tmp_path: Path, small: Path) -> None:
    out = tmp_path / "small.csv"
    assert run(["profile", "--profile", PROFILE.name, "--space", str(small), "--out", str(out), "--jobs", "2", "--quiet"]) == 0
    made, found = table.read(out), space.read(str(small))
    shapes = set().union(*(reachable(found, window, len(t.outputs)) for t in TASKS.values() for window in profiling.windows_of(t)))
    assert len(shapes) > len(made.rows) > 10
    assert missing(made, shapes) == set() and all(row.status == "ok" for row in made.rows)
    check_kernels(made, PROFILE)


INTERRUPTED = """
import sys
from hwnas.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_ctrl_c_is_clean_and_the_same_command_goes_on(tmp_path: Path, small: Path) -> None:
    out = tmp_path / "t.csv"
    command = ["profile", "--profile", PROFILE.name, "--space", str(small), "--out", str(out), "--jobs", "2"]
    started = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *command], stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "t.csv.partial").exists() and time.monotonic() < deadline and started.poll() is None:
        time.sleep(0.02)
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGINT)
    _, told = started.communicate(timeout=60)
    if started.returncode == 130:  # else it was done before the signal came
        assert "Traceback" not in told and "the same command goes on" in told
    assert run([*command, "--quiet"]) == 0
    again = tmp_path / "again.csv"
    assert run([*command[:6], str(again), "--jobs", "1", "--quiet"]) == 0
    assert again.read_bytes() == out.read_bytes()


# The shipped table.


@pytest.fixture(scope="module")
def shipped() -> LookupTable:
    return table.read(PROFILE.table_path)


FEWEST_SHAPES = dict.fromkeys(space.names(), 2000) | {"spectral": 250}


@pytest.mark.parametrize("name", space.names())
def test_every_reachable_operator_has_a_figure(name: str, shipped: LookupTable) -> None:
    found, other = space.read(name), table.read(profile.read("watch-a53").table_path)
    for window, outputs in {(window, len(task.outputs)) for task in TASKS.values() for window in profiling.windows_of(task)}:
        shapes = reachable(found, window, outputs)
        assert len(shapes) > FEWEST_SHAPES[name]
        for key, length in shapes:
            assert shipped.cost(key, length).cycles > 0 and other.cost(key, length).cycles > 0


def test_tables_cover_the_windows_of_every_task() -> None:
    """One signal of 10 s and 30 s, four of 8 s, a night's epochs."""
    windows = {name: profiling.windows_of(task) for name, task in TASKS.items()}
    assert set(windows["rhythm"]) == set(windows["rhythm-af"]) == {Shape(1, 1000), Shape(1, 3000)}
    assert windows["heart_rate"] == (Shape(4, 256),) and windows["sleep"] == (Shape(1, 1500),)
    heads = {key.out_channels for key, _ in profiling.space_shapes("modality_conv") if key.operator == "dense"}
    assert {len(task.outputs) for task in TASKS.values()} <= heads and len(TASKS["heart_rate"].labels) not in heads


def test_the_shipped_table_is_of_the_shipped_kernels(shipped: LookupTable) -> None:
    assert shipped.provenance["kernel_set"] == kernel_set_hash(M4)
    check_kernels(shipped, PROFILE)
    fresh = empty_table(PROFILE)
    assert (fresh.provenance, fresh.overheads, fresh.rows) == (shipped.provenance, shipped.overheads, ())


@pytest.mark.parametrize("name", [name for name in profile.names() if profile.read_any(name).kind == "table"])
def test_every_profile_has_a_table_of_its_core(name: str) -> None:
    part = profile.read(name)
    check_kernels(table.read(part.table_path), part)


def test_operators_of_every_kind_repeat_their_shipped_figures(shipped: LookupTable) -> None:
    rng = np.random.default_rng(0)
    chosen = [row for name in OPERATORS for row in rng.choice(np.array([r for r in shipped.rows if r.key.operator == name], object), 2)]
    share = profiling.Share(tuple((Group(row.key, row.in_length, row.period), (row.in_length,)) for row in chosen))
    own = Profiler(M4, share.filters)
    for row in chosen:
        unseen = row.in_length + 3 * row.period
        run_of, cost = own.profile(row.key, unseen), row.at(unseen)
        assert (run_of.cycles, run_of.flash_read_bytes, run_of.fetch_lines, run_of.stack_bytes) == cost[:4]
        assert own.kernel(row.key) == cost[4:]


def test_a_table_of_other_kernels_is_refused() -> None:
    old = new_table({**PROVENANCE, "kernel_set": "0123456789abcdef"}, OVERHEADS)
    with pytest.raises(CostError, match=rf"0123456789abcdef.*{kernel_set_hash(M4)}.*hwnas profile --profile {PROFILE.name}"):
        check_kernels(old, PROFILE)


def test_a_table_of_another_core_is_refused() -> None:
    other = replace(new_table({**PROVENANCE, "core": "cortex-a53"}, OVERHEADS))
    with pytest.raises(CostError, match=rf"of core cortex-a53, the profile of core cortex-m4; .*--profile {PROFILE.name}"):
        check_kernels(other, PROFILE)
