"""`hwnas distill` and `hwnas compare` from the command line: what is refused, what is printed, and what a kill leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_study import student_file

from hwnas.cli.app import run

QUICK = ["--effort", "quick", "--subjects", "12", "--windows", "192", "--window-s", "10"]


@pytest.mark.parametrize("command", ["compare", "distill"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], ["which student?", "--student", "--parameters"]),
        (["--student", "none.yaml"], ["none.yaml is not there"]),
        (["--parameters", "2000", "--space", "mobilnet1d"], ["unknown search space", "Did you mean 'mobilenet1d'"]),
        (["--parameters", "2000", "--recipe", "sofd"], ["unknown loss", "Did you mean 'soft'"]),
        (["--parameters", "2000", "--recipe", "soft:temperature=12"], ["temperature 12", "at most 10"]),
        (["--parameters", "2000", "--task", "rythm"], ["unknown task", "Did you mean 'rhythm'"]),
        (["--parameters", "2000", "--effort", "slow"], ["effort", "quick", "normal"]),
        (["--parameters", "2000", "--epochs", "0"], ["--epochs"]),
    ],
)
def test_what_is_refused(command: str, change: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, *change, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words) and "Traceback" not in message
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    given = ["--student", str(student_file(tmp_path)), "--out", str(out)]
    assert run(["distill", *QUICK, *given, "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["provenance"] == "float32 on the host, synthetic data" and said["distillation"] == "soft"
    assert run(["distill", "--out", str(out), "--resume"]) == 0, "with the settings of the folder"
    text = capsys.readouterr().out
    assert "af_auc" in text and "gap.csv" in text and "KL divergence" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_comparison_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    given = [*QUICK, "--student", str(student_file(tmp_path)), "--folds", "2", "--seeds", "2", "--jobs", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(["compare", *given, "--out", str(whole), "--quiet"]) == 0
    with subprocess.Popen([sys.executable, "-m", "hwnas", "compare", *given, "--out", str(killed), "--quiet"]) as process:
        try:
            while len(list(killed.glob("trainings/*/*.npz"))) < 3 and process.poll() is None:
                time.sleep(0.02)
        finally:
            process.kill()
    finished = {path: path.stat().st_mtime_ns for path in killed.glob("trainings/*/*.npz")}
    assert 3 <= len(finished) < 10
    assert run(["compare", "--resume", "--out", str(killed), "--quiet", "--jobs", "1"]) == 0
    for name in ("compare.json", "compare.md", "differences.png"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items()), "finished trainings are kept"
