"""A whole search end to end: the contract of its files, determinism, resumption, and evaluation in every runtime."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from scipy.io import savemat

from hwnas.cli.app import run
from hwnas.search.trial_log import parse
from hwnas.tasks import TASKS

from .conftest import QUICK, SMALL


def front_of(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "front.json").read_text())
    return content


def test_front_json_keeps_its_contract(finished: Path) -> None:
    front = front_of(finished)
    assert {"profile", "task", "data", "seed", "budget", "teacher", "students"} <= front.keys()
    assert {"ram_bytes", "flash_bytes", "latency_us", "energy_uj"} <= front["budget"].keys()
    assert {"id", "parameters", "metrics"} <= front["teacher"].keys()
    assert front["search"]["scored"] == 4 and front["students"]
    for student in front["students"]:
        assert {"id", "family", "parameters", "macs", "cost", "metrics", "folder"} <= student.keys()
        for name in ("ram_bytes", "flash_bytes", "latency_us", "energy_uj"):
            assert 0 < student["cost"][name]["emulated"] <= front["budget"][name]
            assert student["cost"][name]["predicted"] > 0
        for part in ("validation", "test"):
            assert {"af_auc", "accuracy", "macro_f1"} <= student["metrics"][part].keys()
        for name in ("graph.json", "weights.safetensors", "model.onnx", "model.tflite", "bench.json", "card.json", "firmware/model.c"):
            assert (finished / student["folder"] / name).is_file(), name


def test_predictions_hold_against_the_shipped_program(finished: Path) -> None:
    for student in front_of(finished)["students"]:
        bench = json.loads((finished / student["folder"] / "bench.json").read_text())
        assert bench["windows_different_from_reference"] == 0
        assert abs(bench["ratios"]["cycles"] - 1) <= 0.05
        excess = bench["predicted"]["ram_bytes"] - bench["emulated"]["ram_bytes"]
        assert 0 <= excess <= max(128, 0.05 * bench["emulated"]["ram_bytes"])
        assert abs(bench["ratios"]["flash_bytes"] - 1) <= 0.05
        assert bench["emulated"]["energy_uj"] == pytest.approx(bench["emulated"]["cycles"] * 155e-6)


def test_report_files_are_there_and_self_contained(finished: Path) -> None:
    for name in ("report.html", "report.md", "front.csv", "figures/pareto.png", "run.yaml", "teacher/card.json", "trials.jsonl"):
        assert (finished / name).stat().st_size > 0, name
    page = (finished / "report.html").read_text()
    assert "synthetic" in page and "<script src=" not in page and "emulated (modelled cycles)" in page


def test_the_log_tells_every_candidate(finished: Path) -> None:
    kinds = [record["kind"] for record in parse(finished / "trials.jsonl")[0]]
    assert kinds[0] == "header" and kinds.count("scored") == kinds.count("proposed") == 4


def test_same_seed_same_front_whatever_the_number_of_processes(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert run([*QUICK, *SMALL, "--out", str(again), "--quiet", "--jobs", "1"]) == 0
    assert (again / "front.json").read_bytes() == (finished / "front.json").read_bytes()


def test_a_run_yaml_gives_the_same_run_and_flags_win(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "front.json").unlink()
    arguments = ["search", "--config", str(finished / "run.yaml"), "--out", str(copy), "--resume", "--quiet", "--json"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out) == front_of(finished)
    assert run([*arguments, "--seed", "7"]) == 2
    assert "seed was 0, now 7" in capsys.readouterr().err


def test_killed_in_the_middle_and_resumed_it_is_the_same_run(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    command = [sys.executable, "-m", "hwnas", *QUICK, *SMALL, "--out", str(root), "--quiet", "--jobs", "2"]
    process = subprocess.Popen(command)
    children: list[psutil.Process] = []
    while not any(r["kind"] == "scored" for r in _records(root / "trials.jsonl")):
        assert process.poll() is None, "it ended before a trial was scored"
        children = psutil.Process(process.pid).children(recursive=True) or children
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(children, timeout=10)[1], "a worker outlived its parent"
    assert not (root / "front.json").exists()
    log = root / "trials.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    subprocess.run([*command, "--resume"], check=True)
    assert (root / "front.json").read_bytes() == (finished / "front.json").read_bytes()


def test_ctrl_c_says_how_to_continue(tmp_path: Path) -> None:
    root = tmp_path / "stopped"
    command = [sys.executable, "-m", "hwnas", *QUICK, *SMALL, "--out", str(root), "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (root / "trials.jsonl").exists():
        assert process.poll() is None, "it ended before the search began"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "continue with --resume" in message and "Traceback" not in message


@pytest.mark.parametrize("runtime", ["reference", "tflite", "onnx", "emulator"])
def test_evaluate(finished: Path, runtime: str, capsys: pytest.CaptureFixture[str], small_generator: None) -> None:
    student = finished / front_of(finished)["students"][0]["folder"]
    assert run(["evaluate", str(student), "--runtime", runtime, "--json", "--seed", "3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["runtime"] == runtime and result["windows"] > 0 and result["subjects"] > 0
    assert {"af_auc", "accuracy", "macro_f1"} <= result["metrics"].keys()


@pytest.fixture
def small_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator makes few windows where the command names no number."""
    from hwnas.tasks.synthetic import generator

    generate = generator.generate

    def small(**arguments: Any) -> Any:
        return generate(**{**arguments, "subjects": 12, "windows": 60})

    monkeypatch.setattr(generator, "generate", small)


def test_recordings_in_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three families on the path of real recordings (generated windows written in their format), with pre-training, and evaluation."""
    windows = TASKS["rhythm"].load(None, window_s=10.0, seed=5, subjects=12, windows=360)
    for subject in windows.subjects:
        part = windows.take(windows.subject == subject)
        content = {"ppgseg": part.x[:, 0].astype(np.float64), "labels": part.y[:, None].astype(np.uint8)}
        (tmp_path / "data").mkdir(exist_ok=True)
        savemat(tmp_path / "data" / f"MPA_{subject}.mat", content)
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--quiet", "--jobs", "2"]
    spaces = ["mobilenet1d", "lstm", "microresnet"]
    assert run([*QUICK, *arguments, *(word for space in spaces for word in ("--space", space))]) == 0
    front = front_of(tmp_path / "run")
    _holds_families(tmp_path / "run", front, spaces)
    assert front["source"] == "real" and front["windows"]["window_s"] == 10
    card = json.loads((tmp_path / "run" / "teacher" / "card.json").read_text())
    assert list(card["recipe"]) == ["pretrain", "teacher"]
    capsys.readouterr()
    student = str(tmp_path / "run" / front["students"][0]["folder"])
    assert run(["evaluate", student, "--data", str(tmp_path / "data"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    parts = front["windows"]["parts"]
    assert result["subjects_seen_in_training"] == parts["train"]["subjects"] + parts["validation"]["subjects"]


def _holds_families(root: Path, front: dict[str, Any], spaces: list[str]) -> None:
    """Every family was tried, and the counts are those of the log and of the front."""
    counts = front["search"]["families"]
    assert list(counts) == spaces == front["search"]["spaces"] and all(c["proposed"] for c in counts.values())
    for name in ("proposed", "rejected", "duplicates", "scored", "failed"):
        assert sum(c[name] for c in counts.values()) == front["search"][name]
    for family, found in counts.items():
        assert found["front"] == sum(s["family"] == family for s in front["students"])
        assert found["finished"] == found["front"] + sum(s["family"] == family for s in front["fallen"])
        log = [r for r in _records(root / "trials.jsonl") if r.get("family") == family]
        assert found["rejected"] == sum(r["kind"] == "rejected" for r in log)
        assert all(r["parameters"]["space"] == family for r in log if "parameters" in r)
    assert set(spaces) >= {s["family"] for s in front["students"]}


def test_resume_reads_the_settings_of_the_run(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "front.json").unlink()
    (copy / ".run.yaml.abc123").write_text("left by a kill")
    assert run(["search", "--out", str(copy), "--resume", "--quiet"]) == 0
    assert (copy / "front.json").read_bytes() == (finished / "front.json").read_bytes()
    assert not (copy / ".run.yaml.abc123").exists()


def _records(log: Path) -> list[dict[str, Any]]:
    return parse(log)[0] if log.exists() else []
