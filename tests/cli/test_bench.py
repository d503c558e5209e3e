"""`hwnas bench` and `hwnas profile --target`: what they print and write, and what people get wrong: one clear message, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from shipped_students import family_graph, listing, ship

from hwnas.cli.app import run
from hwnas.cli.boards import bench_tables
from hwnas.hardware import profile as profiles
from hwnas.hardware.table import LookupTable, to_csv
from hwnas.pipeline import bench, board_profiling
from hwnas.pipeline.exporting import table_for
from hwnas.pipeline.progress import Silent
from hwnas.pipeline.targets import Connection, parse_target
from hwnas.quantize import reference

GRAPH = family_graph("mobilenet")
FEW = ("--windows", "12", "--floor-s", "0")


@pytest.fixture(scope="module")
def table() -> LookupTable:
    return table_for(profiles.read("cortex-m4-192k"), GRAPH, Silent())


@pytest.fixture(autouse=True)
def one_table(monkeypatch: pytest.MonkeyPatch, table: LookupTable) -> None:
    """What the shipped table lacks of the student is profiled once."""
    monkeypatch.setattr(bench, "table_for", lambda *_: table)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with one student."""
    root = tmp_path_factory.mktemp("run")
    ship(root / "students" / GRAPH.hash, "mobilenet")
    return root


@pytest.fixture
def student(shipped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped, tmp_path / "run")) / "students" / GRAPH.hash


def test_it_prints_and_writes(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(student)
    assert run(["bench", str(student), "--target", "emulator", *FEW]) == 0
    written = student.parents[1] / "boards" / GRAPH.hash / "emulator.json"
    result, said = json.loads(written.read_text()), capsys.readouterr().out
    assert listing(student) == before  # a student's folder stays as it is
    for words in (
        "0 of 12 windows differ from the int8 reference",
        "emulated (modelled cycles): cortex-m4",
        "signal generator",
        f"{result['predicted']['cycles']:,}",
        "predicted cycles",
        "modelled cycles",
        "conv1d 1->8 kernel 7 stride 4",
        str(written),
    ):
        assert words in said.replace("\n", " "), words
    assert "measured" not in said
    lines = [line.split() for line in said.splitlines() if line[:1].isdigit()]
    assert [line[0] for line in lines[-len(result["operators"]) :]] == [str(row["index"]) for row in result["operators"]]


def test_json_alone(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "found.json"
    assert run(["bench", str(student), "--target", "exec:{image}", "--port", "host", *FEW, "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(out.read_text()) and printed.err == ""
    assert json.loads(printed.out)["latency"]["kind"] == "clock of the machine that ran it"
    assert not (student.parents[1] / "boards").exists()
    result = json.loads(printed.out)
    result["link"] |= {"greetings": 3, "retries": 0}
    with (console := Console(width=160)).capture() as shown:
        console.print(bench_tables(result))
    assert "no frame was lost or damaged" in shown.get()  # to be greeted more than once is usual


def test_a_process_of_this_machine(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(student), "--target", "exec:{image}", "--port", "host", *FEW]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not cycles" in said and "us, clock of the machine that ran it" in said and "no frame was lost or damaged" in said
    assert "clock not known" in said and "0 MHz" not in said
    assert "measured" not in said and "ratio" not in said


def test_outputs_that_differ_are_exit_code_1(student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = SimpleNamespace(run=lambda q, x: reference.run(q, x) ^ 1, quantize_input=reference.quantize_input)
    monkeypatch.setattr(bench, "reference", wrong)
    assert run(["bench", str(student), "--target", "emulator", *FEW]) == 1
    printed = capsys.readouterr()
    assert "12 of 12 windows differ" in printed.out and "window 0, output 0: expected" in printed.out and "error" not in printed.err
    assert json.loads((student.parents[1] / "boards" / GRAPH.hash / "emulator.json").read_text())["windows_differing"] == 12


@pytest.mark.parametrize(
    ("code", "words", "arguments"),
    [
        (2, ["Did you mean 'emulator'"], ["--target", "emulater"]),
        (2, ["serial:/dev/ttyACM0"], ["--target", "/dev/ttyACM0"]),
        (2, ["--target"], []),
        (2, ["--runs"], ["--target", "emulator", "--runs", "3"]),
        (2, ["--windows"], ["--target", "emulator", "--windows", "0"]),
        (2, ["Did you mean 'stm32f405'"], ["--target", "qemu", "--port", "stm32f40"]),
        (2, ["--flash needs --port"], ["--target", "serial:/dev/none", "--flash", "write {image}"]),
        (2, ["unknown hardware profile", "Did you mean 'nrf52840'"], ["--target", "emulator", "--profile", "nrf5284"]),
        (2, ["is a folder; name the JSON file"], ["--target", "emulator", "--out", "."]),
        (1, ["cannot be opened at 115200 baud", "/dev/none", "ports here"], ["--target", "serial:/dev/none", *FEW]),
        (1, ["there is no program 'no-such-tool'"], ["--target", "exec:no-such-tool", *FEW]),
        (1, ["no-such-tool cannot run"], ["--target", "serial:/dev/none", "--flash", "no-such-tool {image}", "--port", "stm32f405", *FEW]),
        (1, ["/no/recordings: no such folder"], ["--target", "emulator", "--data", "/no/recordings"]),
    ],
)
def test_what_people_get_wrong(
    code: int, words: list[str], arguments: list[str], student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(student.parents[1])
    assert run(["bench", str(student), *arguments, "--quiet"]) == code
    said = capsys.readouterr().err
    assert all(word in said for word in words) and "Traceback" not in said and "fault of hwnas" not in said, said
    assert listing(student.parents[1]) == before


def test_no_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(tmp_path), "--target", "emulator"]) == 2
    assert "is no exported student" in capsys.readouterr().err


def test_a_program_that_ends_at_once(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a board does that was built for something else."""
    assert run(["bench", str(student), "--target", f"exec:{sys.executable} -c 'import sys; sys.exit(7)'", *FEW, "--quiet"]) == 1
    assert "the process ended with status 7" in capsys.readouterr().err


def test_flags_of_a_table_from_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[object] = []

    def fill(profile: str, spaces: list[str], student: Path, out: Path, connection: Connection, *_: object, jobs: int) -> tuple[Path, int]:
        asked.extend((profile, spaces, student, out, connection, jobs))
        return out, 1234

    monkeypatch.setattr(board_profiling, "fill_from_board", fill)
    flags = ["--target", "serial:/dev/x", "--port", "stm32f405", "--flash", "write {image}", "--baud", "921600", "--jobs", "1"]
    assert run(["profile", "--profile", "stm32f405", "--space", "lstm", "--student", "s", "--out", "t.csv", *flags]) == 0
    connection = Connection(parse_target("serial:/dev/x"), "stm32f405", "write {image}", 921600)
    assert asked == ["stm32f405", ["lstm"], Path("s"), Path("t.csv"), connection, 1]
    assert capsys.readouterr().out == "1,234 rows written to t.csv\n"


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--target needs --out", ["--target", "serial:/dev/x"]),
        ("--student, --flash: on a board only", ["--student", "x", "--flash", "write {image}"]),
        ("Did you mean 'qemu'", ["--target", "qem", "--out", "x.csv"]),
        ("the emulator needs no --target", ["--target", "emulator", "--out", "x.csv"]),
    ],
)
def test_what_people_get_wrong_of_tables(words: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = profiles.read("cortex-m4-192k").table_path
    before = shipped.read_bytes()
    assert run(["profile", "--profile", "cortex-m4-192k", *arguments, "--quiet"]) == 2
    assert words in capsys.readouterr().err and shipped.read_bytes() == before and not Path("x.csv").exists()


def test_ctrl_c_leaves_nothing_behind(student: Path, table: LookupTable, tmp_path: Path) -> None:
    """While a silent board is greeted."""
    (student.parents[1] / "lookup_table.csv").write_text(to_csv(table))
    pid = tmp_path / "pid"
    board = tmp_path / "board.py"
    board.write_text(f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(100)\n")
    command = [sys.executable, "-m", "hwnas", "bench", str(student), "--target", f"exec:{sys.executable} {board}", *FEW]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        until = time.monotonic() + 120
        while not (pid.exists() and pid.read_text()) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in printed[1] and "Traceback" not in printed[1], printed
    child = int(pid.read_text())
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()
    assert not (student.parents[1] / "boards").exists()
