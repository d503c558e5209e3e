"""Students on boards: targets and options, windows, statistics, findings; then whole: in the emulator, in QEMU, as a process."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped_students import RATE_HZ, WINDOW_S, family_graph, ship, windows_of

from hwnas.errors import CostError, FirmwareError, IdentityError, UsageError
from hwnas.firmware.board import Counter, Identity, Run, Usage
from hwnas.firmware.board_image import build_image, find_port
from hwnas.firmware.cores import core
from hwnas.firmware.counting import Watch
from hwnas.firmware.emulator import emulate
from hwnas.firmware.link import Trouble
from hwnas.hardware import profile as profiles
from hwnas.hardware.cost import predict
from hwnas.hardware.deployment import uniform
from hwnas.hardware.table import LookupTable, to_csv
from hwnas.pipeline import bench, targets
from hwnas.pipeline.bench import BenchSettings, Delay, FlipWeight, bench_student, default_place, parse_target, spread
from hwnas.pipeline.exporting import table_for
from hwnas.pipeline.progress import Silent
from hwnas.pipeline.targets import Connection, Linked
from hwnas.quantize import reference, storage
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.tasks import TASKS, Windows

GRAPH = family_graph("mobilenet")
QEMU = pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
QEMU_USER = pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="qemu-aarch64 (Debian: qemu-user) is not installed")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QuantGraph]:
    """A finished student, only read."""
    folder = tmp_path_factory.mktemp("run") / "students" / GRAPH.hash
    return folder, ship(folder, "mobilenet")


@pytest.fixture(scope="module")
def real_table() -> LookupTable:
    """The shipped table with what the student needs beyond it, profiled once."""
    return table_for(profiles.read("cortex-m4-192k"), GRAPH, Silent())


@pytest.fixture(autouse=True)
def one_table(monkeypatch: pytest.MonkeyPatch, real_table: LookupTable) -> None:
    monkeypatch.setattr(bench, "table_for", lambda profile, graph, progress: real_table)


def some(q: QuantGraph, count: int) -> Windows:
    """Random windows with labels of every class, of four recordings."""
    x, task = windows_of(q, count), TASKS["rhythm"]
    names = np.array([f"p{i % 4}" for i in range(count)])
    return Windows(x, np.arange(count) % len(task.labels), names, RATE_HZ, "synthetic", "random windows")


def run(folder: Path, target: str, given: Windows | None, **settings: Any) -> dict[str, Any]:
    result = bench_student(folder, parse_target(target), BenchSettings(**settings), Silent(), given)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("emulator", ("emulator", "", "emulator")),
        ("qemu", ("qemu", "", "qemu")),
        ("serial:/dev/ttyACM0", ("serial", "/dev/ttyACM0", "serial-ttyACM0")),
        ("serial:COM3", ("serial", "COM3", "serial-COM3")),
        ("exec:qemu-aarch64 {image}", ("exec", "qemu-aarch64 {image}", "exec-qemu-aarch64")),
        ("exec:{image}", ("exec", "{image}", "exec")),
        ("exec:ssh 'my watch' /bin/x:y", ("exec", "ssh 'my watch' /bin/x:y", "exec-ssh-my-watch-x-y")),
    ],
)
def test_targets(text: str, expected: tuple[str, str, str]) -> None:
    target = parse_target(text)
    assert (target.kind, target.place, target.name) == expected and str(target) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("emulatr", ["unknown target 'emulatr'", "Did you mean 'emulator'?"]),
        ("", ["unknown target ''", "emulator, exec, qemu, serial"]),
        ("/dev/ttyACM0", ["serial:/dev/ttyACM0"]),
        ("qemu:/tmp/x", ["write --target qemu"]),
        ("serial:", ["a device belongs behind 'serial:'"]),
        ("exec: ", ["a command belongs behind 'exec:'"]),
        ("exec:sh 'x", ["close its quotation marks"]),
    ],
)
def test_targets_that_do_not_exist(text: str, words: Sequence[str]) -> None:
    with pytest.raises(UsageError) as error:
        parse_target(text)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("target", "options", "port"),
    [
        ("emulator", {}, None),
        ("qemu", {}, "stm32f405"),
        ("serial:/dev/x", {}, None),
        ("serial:/dev/x", {"port": "stm32f405", "flash": "write {image}"}, "stm32f405"),
        ("exec:qemu-aarch64 {image}", {}, "linux-aarch64"),
        ("exec:{image}", {"port": "host"}, "host"),
        ("exec:nc board 9", {}, None),
    ],
)
def test_what_is_built_for_a_target(target: str, options: dict[str, str], port: str | None) -> None:
    found = Connection(parse_target(target), **options).needs()  # type: ignore[arg-type]
    assert (found.name if found else None) == port


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("emulator", {"port": "stm32f405"}, "the emulator has no ports"),
        ("qemu", {"flash": "write {image}"}, "--flash is for serial ports"),
        ("serial:/dev/x", {"port": "stm32f405"}, "give --flash"),
        ("serial:/dev/x", {"flash": "write {image}"}, "needs --port"),
        ("serial:/dev/x", {"flash": "write it", "port": "stm32f405"}, "names no image"),
        ("exec:nc board 9", {"port": "host"}, "write {image} in the command"),
        ("exec:run {binary}", {}, "{binary} is for --flash"),
        ("qemu", {"port": "host"}, "runs no Linux program"),
        ("qemu", {"port": "linux-aarch64"}, "runs no Linux program"),
        ("qemu", {"port": "stm32f40"}, "Did you mean 'stm32f405'"),
    ],
)
def test_options_that_contradict_a_target(target: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Connection(parse_target(target), **options).needs()  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"windows": 0}, {"runs": 9}, {"floor_s": -1.0}, {"floor_s": float("nan")}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(settings)).replace('_', '-')}"):
        BenchSettings(**settings)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70))
def test_windows_are_spread_over_recordings(recordings: list[int], count: int) -> None:
    names = np.array([f"r{i}" for i in recordings])
    chosen = spread(names, count)
    assert len(chosen) == min(count, len(names)) and (np.diff(chosen) > 0).all()
    taken = {name: int((names[chosen] == name).sum()) for name in set(names)}
    for name, number in taken.items():  # who has fewer than another has no more to give
        assert number == (names == name).sum() or number >= max(taken.values()) - 1


def test_windows_are_spread_over_time() -> None:
    assert spread(np.array(["a"] * 100), 5).tolist() == [10, 30, 50, 70, 90]
    both = spread(np.array(["a"] * 100 + ["b"] * 3), 8).tolist()
    assert both == [10, 30, 50, 70, 90, 100, 101, 102]


def test_a_student_in_the_emulator(shipped: tuple[Path, QuantGraph], real_table: LookupTable) -> None:
    """Predicted, modelled, and the emulator asked directly agree; nothing is called measured."""
    folder, q = shipped
    windows = some(q, 24)
    result = run(folder, "emulator", windows)
    profile = profiles.read("cortex-m4-192k")
    x = reference.quantize_input(q, windows.x)
    direct = emulate(folder / "firmware", core("cortex-m4"), profile.memory).measure(x[0], Watch.CYCLES)
    predicted = predict(GRAPH, uniform(GRAPH), profile, real_table, WINDOW_S)
    assert result["windows_differing"] == 0 and result["first_difference"] is None
    assert result["predicted"]["cycles"] == result["cycles"]["median"] == direct.cycles == predicted.cycles
    assert result["cycles"]["kind"] == result["latency"]["kind"] == result["energy"]["kind"] == "modelled"
    assert result["latency"]["runs"] == 10 and result["latency"]["spread_us"] == 0
    assert result["latency"]["median_us"] == profile.latency_us(direct.cycles)
    assert result["memory"] == {
        "ram_bytes": predicted.ram_bytes,
        "stack_bytes": direct.stack_bytes,
        "arena_bytes": None,  # nobody watches it
        "flash_bytes": predicted.flash_bytes,
        "flash_includes_link": False,
    }
    assert [row["cycles"] for row in result["operators"]] == [kernel.cycles for _, kernel in direct.per_node(GRAPH)]
    assert [row["predicted_cycles"] for row in result["operators"]] == [row["cycles"] for row in result["operators"]]
    assert [row["kernel"] for row in result["operators"]] == [name for name, _ in direct.per_node(GRAPH)]
    assert result["board"] is None and result["link"] is None and result["warnings"] == []
    assert result["provenance"].startswith("emulated (modelled cycles)")
    expected = TASKS["rhythm"].metrics((reference.run(q, x).astype(float) - q.output.zero_point) * q.output.scale, windows)
    assert result["metrics"] == pytest.approx(expected)


def test_a_profile_with_waits_for_flash(shipped: tuple[Path, QuantGraph]) -> None:
    """Waits are in cycles and in operators, of both columns."""
    folder, q = shipped
    slow, fast = (run(folder, "emulator", some(q, 4), profile=name) for name in ("stm32l4r5", "cortex-m4-192k"))
    assert slow["predicted"]["cycles"] == slow["cycles"]["median"] > fast["cycles"]["median"]
    assert [row["cycles"] for row in slow["operators"]] == [row["predicted_cycles"] for row in slow["operators"]]
    assert sum(row["cycles"] for row in slow["operators"]) > sum(row["cycles"] for row in fast["operators"])
    assert slow["latency"]["median_us"] == pytest.approx(slow["cycles"]["median"] / 120)


def test_several_modalities_are_one_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, graph = tmp_path / "student", family_graph("modalities")
    monkeypatch.setattr(bench, "table_for", table_for)
    q = ship(folder, "modalities")
    result = run(folder, "emulator", some(q, 2))
    assert len(result["operators"]) == len(graph.nodes) - 1
    assert {row["calls"] for row in result["operators"]} == {1, 3}
    assert [row["cycles"] for row in result["operators"]] == [row["predicted_cycles"] for row in result["operators"]]
    assert result["metrics"] is None  # two windows of two classes have no area under a curve


def test_a_slow_kernel_shows_in_its_operators_alone(shipped: tuple[Path, QuantGraph]) -> None:
    folder, q = shipped
    result = run(folder, "emulator", some(q, 4), fault=Delay("hwnas_dense_int8", 1000))
    slower = {row["kernel"] for row in result["operators"] if row["cycles"] > row["predicted_cycles"]}
    assert slower == {"hwnas_dense_int8"} and result["windows_differing"] == 0
    assert result["cycles"]["median"] > result["predicted"]["cycles"] + 1000
    assert "hwnas_dense_int8" in result["fault"]


def test_a_wrong_weight_is_a_finding(shipped: tuple[Path, QuantGraph]) -> None:
    folder, q = shipped
    windows = some(q, 24)
    result = run(folder, "emulator", windows, fault=FlipWeight())
    first = result["first_difference"]
    expected = reference.run(q, reference.quantize_input(q, windows.x))
    assert result["windows_differing"] > 0 and first["expected"] == expected[first["window"], first["output"]] != first["got"]
    assert result["cycles"]["median"] == result["predicted"]["cycles"] and result["metrics"] is not None


def test_kernels_of_another_version_are_not_predicted(shipped: tuple[Path, QuantGraph], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shipped[0], tmp_path / "student"))
    (folder / "bench.json").write_text(json.dumps({"kernel_set": "0" * 16}))
    with pytest.raises(CostError, match=r"kernels 0000000000000000.*nothing can be predicted"):
        run(folder, "emulator", some(shipped[1], 2))
    with pytest.raises(FirmwareError, match="this installation ships"):
        run(folder, "emulator", some(shipped[1], 2), profile="watch-a53")


def test_a_runs_own_table_is_preferred(
    shipped: tuple[Path, QuantGraph], real_table: LookupTable, on_fake: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the student was chosen by, if it is of the same kernels."""
    folder, q = shipped
    own, asked = folder.parents[1] / "lookup_table.csv", []
    monkeypatch.setattr(bench, "table_for", lambda *_: asked.append("shipped") or real_table)
    try:
        for kernel_set in (real_table.provenance["kernel_set"], "0" * 16):
            own.write_text(to_csv(replace(real_table, provenance=real_table.provenance | {"kernel_set": kernel_set})))
            on_fake(FakeBoard(q, Counter.CORE_CYCLES, 128_000_000, lambda i: 1000), floor_s=0.0)
    finally:
        own.unlink()
    assert asked == ["shipped"]


def test_where_results_go(tmp_path: Path) -> None:
    target = parse_target("serial:/dev/ttyACM0")
    assert default_place(tmp_path / "students" / "0123", target) == tmp_path / "boards" / "0123" / "serial-ttyACM0.json"
    assert default_place(tmp_path / "elsewhere" / "0123", target) is None


class FakeBoard:
    """Answers as the reference does; its ticks are given, one an inference."""

    def __init__(self, q: QuantGraph, counter: Counter, hz: int, ticks: Callable[[int], int]) -> None:
        self.identity = Identity(1, 512, hz, counter, hz, 500, 6, 4000, len(GRAPH.nodes) - 1, "a board", "a compiler", "k", "g", "w", "")
        self.trouble = Trouble(retries=2)
        self.asked: list[tuple[int, int, bool]] = []
        self.arena_bytes = 4000
        self._q, self._ticks, self._timed = q, ticks, 0

    def run(self, window: Int8, *, warm_up: int = 0, repeats: int = 1, operators: bool = False) -> Run:
        self.asked.append((warm_up, repeats, operators))
        ticks = tuple(self._ticks(self._timed + i) for i in range(repeats))
        self._timed += repeats if warm_up else 0
        each = tuple(10 * (i + 1) for i in range(self.identity.operators)) if operators else ()
        return Run(reference.run(self._q, window[np.newaxis])[0], ticks, each)

    def usage(self) -> Usage:
        return Usage(None, self.arena_bytes, 3, 0, self._timed)


@pytest.fixture
def on_fake(shipped: tuple[Path, QuantGraph], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`on_fake(board)` -> the result of a benchmark on it; `count` 0: on the windows that the settings name."""

    def call(board: FakeBoard, target: str = "exec:nc board 9", count: int = 12, **settings: Any) -> dict[str, Any]:
        @contextmanager
        def linked(*_: Any, **__: Any) -> Iterator[Linked]:
            yield Linked(board, None)  # type: ignore[arg-type]

        monkeypatch.setattr(bench, "linked", linked)
        return run(shipped[0], target, some(shipped[1], count) if count else None, **settings)

    return call


def test_measured_figures(shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]) -> None:
    """Ticks 1000, 1001 ... 1009 again and again: the statistics are known, and time decides how many there are."""
    board = FakeBoard(shipped[1], Counter.CORE_CYCLES, 128_000_000, lambda i: 1000 + i % 10)
    result = on_fake(board, floor_s=0.0)
    latency = result["latency"]
    assert (latency["kind"], latency["runs"]) == ("measured", 10) and result["cycles"] == {"kind": "measured", "median": 1004.5}
    for name, cycles in (("median_us", 1004.5), ("spread_us", 4.5), ("min_us", 1000), ("max_us", 1009)):
        assert latency[name] == pytest.approx(cycles / 128), name
    assert [row["cycles"] for row in result["operators"]] == [10 * (i + 1) for i in range(len(result["operators"]))]
    assert result["operators"][2]["us"] == pytest.approx(30 / 128)
    assert result["provenance"] == "measured on a board at 128 MHz" and result["warnings"] == []
    assert result["energy"] == {"kind": "modelled", "energy_uj": pytest.approx(1004.5 * 155e-6)}
    assert result["link"]["retries"] == 2 and result["link"]["board_bad_frames"] == 3
    assert result["memory"]["ram_bytes"] is None and result["memory"]["stack_bytes"] is None
    timed = [asked for asked in board.asked if asked[0]]
    assert len(board.asked) - len(timed) == 12 and all(warm_up == 3 for warm_up, _, _ in timed)


@pytest.mark.parametrize(("ticks", "floor_s", "least"), [(1000, 0.5, 500), (250_000, 1.0, 10), (10, 0.01, 1000), (500_000, 30.0, 60)])
def test_timing_lasts_as_long_as_asked(
    ticks: int, floor_s: float, least: int, shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]
) -> None:
    """A counter of 1 MHz: neither fewer runs nor less time than asked, and no more of both; a call asks for half a second at most."""
    board = FakeBoard(shipped[1], Counter.CORE_CYCLES, 1_000_000, lambda i: ticks)
    assert on_fake(board, floor_s=floor_s)["latency"]["runs"] == least
    assert max(repeats for _, repeats, _ in board.asked) * ticks <= max(500_000, ticks)


def test_a_machines_clock_is_no_figure_of_hardware(shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]) -> None:
    result = on_fake(FakeBoard(shipped[1], Counter.HOST_NANOSECONDS, 10**9, lambda i: 5000), floor_s=0.0)
    assert result["latency"]["kind"] == "clock of the machine that ran it" and result["latency"]["median_us"] == 5.0
    assert result["cycles"] is None and result["energy"]["energy_uj"] is None
    assert {row["cycles"] for row in result["operators"]} == {None} and result["operators"][0]["us"] == pytest.approx(0.01)
    assert "not cycles" in result["provenance"] and "measured" not in result["provenance"]


@pytest.mark.parametrize(("target", "counter"), [("exec:nc board 9", Counter.NONE), ("qemu", Counter.CORE_CYCLES)])
def test_without_a_counter_cycles_are_modelled(
    target: str, counter: Counter, shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]
) -> None:
    """What QEMU counts is believed as little as nothing."""
    result = on_fake(FakeBoard(shipped[1], counter, 128_000_000, lambda i: 7), target)
    assert result["latency"]["kind"] == "modelled" and result["cycles"]["median"] == result["predicted"]["cycles"]
    assert ("executed in QEMU; cycles modelled" if target == "qemu" else "without a cycle counter") in result["provenance"]
    assert result["board"]["board"] == "a board"


def test_a_counter_that_stands_still_is_refused(shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(FirmwareError, match="counts core cycles, and its counter stands still"):
        on_fake(FakeBoard(shipped[1], Counter.CORE_CYCLES, 128_000_000, lambda i: 0))


def test_what_readers_are_warned_of(shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]) -> None:
    board = FakeBoard(shipped[1], Counter.CORE_CYCLES, 168_000_000, lambda i: 1000)
    board.arena_bytes = 4004
    result = on_fake(board, floor_s=0.0)
    clock, arena = result["warnings"]
    assert "168 MHz" in clock and "128 MHz" in clock and "no energy" in clock and "4004 bytes" in arena and "declares 4000" in arena
    assert result["cycles"]["median"] == 1000 and result["energy"]["energy_uj"] is None  # whose energy a cycle takes is not known


def test_a_board_is_predicted_as_the_part_of_its_port(shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]) -> None:
    """The student's own profile is of 128 MHz and another energy; a profile that is named comes first."""
    board = FakeBoard(shipped[1], Counter.CORE_CYCLES, 168_000_000, lambda i: 1000)
    place: dict[str, Any] = {"target": "serial:/dev/x", "port": "stm32f405", "flash": "write {image}", "floor_s": 0.0}
    result = on_fake(board, **place)
    assert result["profile"] == "stm32f405" and result["warnings"] == []
    assert result["energy"]["energy_uj"] == pytest.approx(1000 * profiles.read("stm32f405").energy_uj(1))
    assert on_fake(board, **place, profile="nrf52840")["profile"] == "nrf52840"


def test_a_clock_that_is_not_known_is_not_0_mhz(shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]]) -> None:
    board = FakeBoard(shipped[1], Counter.CORE_CYCLES, 128_000_000, lambda i: 1000)
    board.identity = replace(board.identity, clock_hz=0)
    result = on_fake(board, floor_s=0.0)
    assert result["provenance"] == "measured on a board at a clock that is not known" and result["warnings"] == []


def test_a_fault_needs_an_image(shipped: tuple[Path, QuantGraph]) -> None:
    with pytest.raises(UsageError, match="none is built for 'serial:/dev/x'"):
        run(shipped[0], "serial:/dev/x", some(shipped[1], 2), fault=FlipWeight())


def test_recordings_are_those_of_unseen_people(
    shipped: tuple[Path, QuantGraph], on_fake: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of others only where nobody else is there, and then that is said."""
    card = bench.read_shipped(shipped[0])
    seen = card.model_copy(update={"subjects_seen": ["p0", "p1"], "data": card.data.model_copy(update={"source": "real"})})
    monkeypatch.setattr(bench, "read_shipped", lambda _: seen)
    found = replace(some(shipped[1], 40), source="real")
    for windows, expected in ((found, (8, 2, 0)), (found.take(np.isin(found.subject, ["p0", "p1"])), (8, 2, 2))):
        monkeypatch.setattr(type(TASKS["rhythm"]), "load", lambda *_, windows=windows, **__: windows)
        board = FakeBoard(shipped[1], Counter.CORE_CYCLES, 128_000_000, lambda i: 1000)
        result = on_fake(board, count=0, windows=8, data=tmp_path, floor_s=0.0)
        assert (result["windows"], result["subjects"]["count"], result["subjects"]["seen_in_training"]) == expected
        assert (result["windows_source"], result["data"]) == ("real", tmp_path.name)


def test_a_process_of_this_machine(shipped: tuple[Path, QuantGraph]) -> None:
    """The link, the C of the board and the student, whole."""
    folder, q = shipped
    result = run(folder, "exec:{image}", some(q, 24), port="host", floor_s=0.01)
    assert result["windows_differing"] == 0 and result["latency"]["kind"] == "clock of the machine that ran it"
    assert result["latency"]["min_us"] <= result["latency"]["median_us"] <= result["latency"]["max_us"]
    assert result["latency"]["runs"] >= 10 and len(result["operators"]) == len(GRAPH.nodes) - 1
    assert result["board"]["weights_hash"] == storage.content_hash(q) and result["port"] == "host"
    assert result["memory"]["arena_bytes"] <= result["board"]["arena_bytes"]


def test_faults_in_an_image(shipped: tuple[Path, QuantGraph]) -> None:
    folder, q = shipped
    windows = some(q, 24)
    wrong = run(folder, "exec:{image}", windows, port="host", floor_s=0.0, fault=FlipWeight())
    emulated = run(folder, "emulator", windows, fault=FlipWeight())
    assert wrong["windows_differing"] == emulated["windows_differing"] > 0
    assert wrong["first_difference"] == emulated["first_difference"] and wrong["fault"] == emulated["fault"]


def test_other_firmware_is_refused_before_it_runs(shipped: tuple[Path, QuantGraph], tmp_path: Path) -> None:
    """A student whose weights are others: the program on the board is the first one's."""
    folder, q = shipped
    image = targets.build_image(folder / "firmware", tmp_path / "image", find_port("host"), kernel_set="an older one")
    with pytest.raises(FirmwareError, match=r"kernel set is an older one.*Nothing was run"):
        run(folder, f"exec:{image.path}", some(q, 2))


def test_a_fault_that_nobody_asked_for_is_refused(shipped: tuple[Path, QuantGraph], tmp_path: Path) -> None:
    """What a night that tests the gate has left on a board."""
    folder, q = shipped
    kernels = bench.kernel_set_hash(core("cortex-m4"))
    delay = Delay("hwnas_dense_int8", 10)
    image = targets.build_image(folder / "firmware", tmp_path / "image", find_port("host"), kernel_set=kernels, delay=delay)
    with pytest.raises(IdentityError, match=r"a fault was built into it \(hwnas_dense_int8 delayed by 10 loops\).*Nothing was run"):
        run(folder, f"exec:{image.path}", some(q, 2))


def test_the_watch_of_the_readme_is_built_for() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if "adb push" in line]
    words = shlex.split(line, comments=True)
    target = parse_target(words[words.index("--target") + 1])
    port = Connection(target).needs()
    assert port is not None and port.core is not None and port.name == "linux-aarch64"
    assert profiles.read(words[words.index("--profile") + 1]).core == port.core.name
    assert targets.words(target.place, "--target")[:2] == ["sh", "-c"]


@pytest.mark.parametrize("timeout_s", [0.1, 5.0, 60.0])
def test_patience_with_an_answer_is_as_long_as_asked(timeout_s: float) -> None:
    found = targets._timeouts(timeout_s)
    assert found.reply_s == found.first_run_s == found.greeting_s == timeout_s
    assert found.call_s >= 6 * timeout_s and found.call_s >= targets.Timeouts().call_s


@QEMU
def test_a_student_in_qemu(shipped: tuple[Path, QuantGraph]) -> None:
    folder, q = shipped
    result = run(folder, "qemu", some(q, 4))
    assert result["windows_differing"] == 0 and result["provenance"].startswith("executed in QEMU; cycles modelled")
    assert result["cycles"]["median"] == result["predicted"]["cycles"] and result["port"] == "stm32f405"


FLASH = """
import pathlib, re, subprocess, sys, time
place, image = pathlib.Path(sys.argv[1]), sys.argv[2]
machine = ["qemu-system-arm", "-M", "netduinoplus2", "-display", "none", "-monitor", "none", "-serial", "pty", "-kernel", image]
with (place / "log").open("wb") as log:
    board = subprocess.Popen(machine, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
(place / "pid").write_text(str(board.pid))
while not (found := re.search(r"/dev/pts/[0-9]+", (place / "log").read_text())):
    time.sleep(0.02)
(place / "tty").symlink_to(found[0])
"""


@QEMU
@pytest.mark.slow
def test_a_serial_port_is_flashed_once_and_used_again(shipped: tuple[Path, QuantGraph], tmp_path: Path) -> None:
    """The flash command starts QEMU with the image; its terminal is the board's port from then on."""
    folder, q = shipped
    windows, target = some(q, 4), f"serial:{tmp_path / 'tty'}"
    script = tmp_path / "flash.py"
    script.write_text(FLASH)
    try:
        first = run(folder, target, windows, port="stm32f405", flash=f"{sys.executable} {script} {tmp_path} {{image}}")
        again = run(folder, target, windows)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert first["windows_differing"] == again["windows_differing"] == 0 and first["board"] == again["board"]
    assert (first["port"], again["port"]) == ("stm32f405", None) and again["memory"]["flash_bytes"] is None
    assert "without a cycle counter; cycles modelled" in first["provenance"]


@QEMU_USER
@pytest.mark.slow  # links a C library
def test_a_student_in_qemu_aarch64(shipped: tuple[Path, QuantGraph]) -> None:
    folder, q = shipped
    result = run(folder, "exec:qemu-aarch64 {image}", some(q, 4), floor_s=0.0)
    assert result["windows_differing"] == 0 and "not cycles" in result["provenance"]
    assert any("executed on cortex-a53" in warning for warning in result["warnings"])
    wrong = run(folder, "exec:qemu-aarch64 {image}", some(q, 4), floor_s=0.0, fault=FlipWeight())  # its image has no symbols
    assert wrong["windows_differing"] > 0 and wrong["fault"] in wrong["board"]["note"]


def test_the_flash_command_gets_the_image(tmp_path: Path) -> None:
    image, out = tmp_path / "my image.elf", tmp_path / "board"
    image.write_bytes(b"\x7fELF")
    targets.flash(f"cp {{image}} {out}", image)
    assert out.read_bytes() == b"\x7fELF"
    targets.flash(f"{sys.executable} -c \"import sys; open('{out}', 'w').write(sys.argv[1])\" '--file={{image}};rm'", image)
    assert out.read_text() == f"--file={image};rm"  # no shell took it apart


def test_the_flash_command_gets_the_bytes_of_flash(shipped: tuple[Path, QuantGraph], tmp_path: Path) -> None:
    """They begin with the table of vectors: where the stack begins, and where the program does."""
    image, out = tmp_path / "image.elf", tmp_path / "board"
    built = build_image(shipped[0] / "firmware", image, find_port("stm32f405"), kernel_set="k")
    targets.write_binary(image)
    targets.flash(f"cp {{binary}} {out}", image)
    stack, reset = struct.unpack("<II", out.read_bytes()[:8])
    assert len(out.read_bytes()) == built.flash_bytes
    assert 0x20000000 < stack <= 0x20020000 and 0x08000000 < reset < 0x08000000 + built.flash_bytes and reset % 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-tool {image}", "no-such-tool cannot run"),
        (
            f"{sys.executable} -c \"import sys; print('no ST-Link found'); sys.exit(3)\" {{image}}",
            "failed with status 3; it said:\nno ST-Link",
        ),
    ],
)
def test_a_flash_command_that_fails(command: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(FirmwareError) as error:
        targets.flash(command, tmp_path / "image")
    assert words in str(error.value)


def test_a_flash_command_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "FLASH_S", 1.0)
    pid = tmp_path / "pid"
    script = tmp_path / "flash.py"
    script.write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '100'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "print('erasing', sys.argv[1], flush=True)\n"
        "child.wait()\n"
    )
    with pytest.raises(FirmwareError, match=r"stopped after 1 s; it said:\nerasing .*image"):
        targets.flash(f"{sys.executable} {script} {{image}}", tmp_path / "image")
    child, until = int(pid.read_text()), time.monotonic() + 10
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _runs(child)


@pytest.mark.parametrize("status", [0, 3])
def test_what_a_flash_command_leaves_running_is_not_waited_for(status: int, tmp_path: Path) -> None:
    """A debug server, say, in a group of its own, which still holds the output."""
    pid = tmp_path / "pid"
    script = tmp_path / "flash.py"
    script.write_text(
        "import subprocess, sys\n"
        "server = subprocess.Popen(['sleep', '100'], start_new_session=True)\n"
        f"open({str(pid)!r}, 'w').write(str(server.pid))\n"
        f"print('flashed', flush=True)\nsys.exit({status})\n"
    )
    started = time.monotonic()
    try:
        if status:
            with pytest.raises(FirmwareError, match=r"failed with status 3; it said:\nflashed"):
                targets.flash(f"{sys.executable} {script} {{image}}", tmp_path / "image")
        else:
            targets.flash(f"{sys.executable} {script} {{image}}", tmp_path / "image")
        assert time.monotonic() - started < 60 and _runs(int(pid.read_text()))
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
