"""The shipped table covers the shipped space with the shipped kernels; what it lacks is measured and then answered exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwnas import space
from hwnas.errors import CostError, MissingEntryError
from hwnas.firmware.build import kernel_set_hash
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Shape
from hwnas.hardware import profile, table
from hwnas.hardware.ops import OpKey
from hwnas.hardware.table import LookupTable, Row
from hwnas.pipeline import profiling
from hwnas.pipeline.profiling import check_kernels, empty_table, extended, fill_table, missing, reachable
from hwnas.pipeline.progress import Silent
from hwnas.tasks import TASKS

PROFILE = profile.read("cortex-m4-192k")
SPACE = space.read("mobilenet1d")
OPERATORS = ["pointwise", "conv1d", "depthwise_conv1d", "add", "global_avg_pool", "dense"]
UNKNOWN = OpKey("pointwise", 1, 1, 20, 20)  # no candidate of the space is 20 channels wide


@pytest.fixture(scope="module")
def shipped() -> LookupTable:
    return table.read(PROFILE.table_path)


@pytest.mark.parametrize("window_s", [10.0, 30.0])
@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_reachable_operator_has_a_row(window_s: float, task: str, shipped: LookupTable) -> None:
    window = Shape(1, round(window_s * TASKS[task].rate_hz))
    shapes = reachable(SPACE, window, len(TASKS[task].labels))
    assert len(shapes) > 3000 and {key.operator for key, _ in shapes} == set(OPERATORS)
    assert missing(shipped, shapes) == set()


def test_missing_finds_one_row_that_is_gone(shipped: LookupTable) -> None:
    shapes = reachable(SPACE, Shape(1, 1000), 6)
    key, length = max(shapes)
    poorer = LookupTable(shipped.provenance, tuple(row for row in shipped.rows if row.key != key), shipped.overheads)
    assert missing(poorer, shapes) == {shape for shape in shapes if shape[0] == key} != set()
    with pytest.raises(MissingEntryError):
        poorer.cost(key, length)


def test_the_shipped_table_is_of_the_shipped_kernels(shipped: LookupTable) -> None:
    assert shipped.provenance["kernel_set"] == kernel_set_hash()
    check_kernels(shipped)
    fresh = empty_table(PROFILE, Profiler())
    assert fresh.overheads == shipped.overheads and fresh.rows == ()
    assert {**fresh.provenance, "date": ""} == {**shipped.provenance, "date": ""}


def test_a_table_of_other_kernels_is_refused(shipped: LookupTable) -> None:
    old = LookupTable({**shipped.provenance, "kernel_set": "0123456789abcdef"}, shipped.rows, shipped.overheads)
    with pytest.raises(CostError, match=rf"0123456789abcdef.*{kernel_set_hash()}.*hwnas profile --profile {PROFILE.name}"):
        check_kernels(old)


class Recorder(Silent):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps: list[int] = []

    def stage(self, title: str, total: int | None = None) -> None:
        self.stages.append((title, total))

    def step(self, done: int, note: str = "") -> None:
        self.steps.append(done)


def test_unknown_shapes_are_measured_and_answer_their_residue(shipped: LookupTable) -> None:
    progress, asked = Recorder(), {(UNKNOWN, 123), (UNKNOWN, 121), (UNKNOWN, 3)}
    assert missing(shipped, asked) == asked
    longer = extended(shipped, asked, progress)
    assert missing(longer, asked) == set()
    assert missing(longer, {(UNKNOWN, 122), (UNKNOWN, 4)}) == {(UNKNOWN, 122), (UNKNOWN, 4)}
    # Two odd lengths share one row, which answers any other odd length too; length 3 has a row of its own.
    assert len(longer.rows) == len(shipped.rows) + 2
    profiler = Profiler()
    for length in (3, 121, 123, 477):
        assert longer.cost(UNKNOWN, length) == profiler.profile(UNKNOWN, length)
    assert (longer.provenance, longer.overheads) == (shipped.provenance, shipped.overheads)
    assert longer.rows[: len(shipped.rows)] == shipped.rows
    assert [total for _, total in progress.stages] == [2] and progress.steps == [1, 2]


def test_a_table_filled_for_a_small_space_agrees_with_the_shipped_one(tmp_path: Path, shipped: LookupTable) -> None:
    block = {"channels": [8], "kernel": [5], "stride": [1, 2], "expansion": [1, 2]}
    small = {
        "family": "mobilenet1d",
        "description": "-",
        "stem": {"channels": [8], "kernel": [7], "stride": [8]},
        "blocks": [2],
        "block": block,
    }
    path, out = tmp_path / "small.yaml", tmp_path / "small.csv"
    path.write_text(yaml.safe_dump(small))
    assert fill_table(PROFILE.name, [str(path)], out, Silent()) == (out, len(table.read(out).rows))
    made, found = table.read(out), space.read(str(path))
    shapes = set().union(*(reachable(found, Shape(1, n), len(t.labels)) for n in (1000, 3000) for t in TASKS.values()))
    assert len(shapes) > len(made.rows) > 10
    for key, length in shapes:
        assert made.cost(key, length) == shipped.cost(key, length)


def test_operators_of_every_kind_repeat_their_shipped_figures(shipped: LookupTable) -> None:
    profiler, rng = Profiler(), np.random.default_rng(0)
    for operator in OPERATORS:
        rows = [row for row in shipped.rows if row.key.operator == operator]
        for row in (rows[i] for i in rng.choice(len(rows), 2, replace=False)):
            unseen = row.in_length + 3 * row.period
            assert profiler.profile(row.key, unseen) == (row.cycles + 3 * row.cycles_per_period, row.stack_bytes)


@given(st.sampled_from(OPERATORS), st.integers(1, 25), st.integers(1, 8), st.integers(1, 3000))
def test_a_group_covers_its_length(operator: str, kernel: int, stride: int, length: int) -> None:
    if operator in ("pointwise", "add", "global_avg_pool", "dense"):
        kernel = stride = 1
    key = OpKey(operator, kernel, stride, 8, 8)
    same, start, period = profiling._group(key, length)
    row = Row(same, start, period, 100, 7, 40)
    covered = LookupTable({"profile": "-"}, (row,), table.Overheads(0, 0, 0, 0, 0))
    assert covered.cost(key, length)[1] == 40
    # A row that is extended in length begins where left and right edge are apart, and is the same for every length of its residue.
    if period:
        assert start >= 2 * kernel and period % stride == 0
        assert profiling._group(key, length + period) == profiling._group(key, start + 9 * period) == (same, start, period)
    else:
        assert start == length


class Bent:
    """A kernel whose cycles are no line in the length, or whose stack grows."""

    def __init__(self, bend: int, stack: int) -> None:
        self._bend, self._stack = bend, stack

    def profile(self, key: OpKey, in_length: int) -> tuple[int, int]:
        return 10 * in_length + self._bend * (in_length > 30), 40 + self._stack * (in_length > 30)


@pytest.mark.parametrize(("bend", "stack", "fine"), [(0, 0, True), (1, 0, False), (0, 4, False)])
def test_a_kernel_that_is_not_affine_is_refused(bend: int, stack: int, fine: bool) -> None:
    bent: Any = Bent(bend, stack)
    if fine:
        assert profiling._profile(bent, UNKNOWN, 23, 2) == Row(UNKNOWN, 23, 2, 230, 20, 40)
        return
    with pytest.raises(CostError, match=r"pointwise 20->20.*lengths 23, 25, 31 are not affine"):
        profiling._profile(bent, UNKNOWN, 23, 2)
