"""`hwnas sweep` end to end, as small as it can be: its files, and the same result after an interruption."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hwnas.cli.app import run

SWEEP = [
    *("sweep", "--task", "rhythm-af", "--effort", "quick", "--window-s", "5", "--windows", "100", "--subjects", "14"),
    *("--teacher", "resnet18_1d_8", "--recipe", "soft", "--smallest", "500", "--largest", "2000", "--sizes", "2"),
    *("--seeds", "1", "--epochs", "1", "--jobs", "1"),
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep."""
    out = tmp_path_factory.mktemp("sweeps") / "first"
    assert run([*SWEEP, "--out", str(out), "--quiet"]) == 0
    return out


def content(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "sweep.json").read_text())
    return found


def test_a_sweep_leaves_figures_a_page_and_a_picture(swept: Path) -> None:
    found = content(swept)
    assert [(arm["teacher"], arm["recipe"]) for arm in found["arms"]] == [(None, "hard"), ("resnet18_1d_8", "soft")]
    assert len(list((swept / "trainings").glob("*.npz"))) == 4
    assert all("refused" in arm["laws"][name] for arm in found["arms"] for name in ("parameters", "macs"))
    assert found["data"]["source"] == "synthetic" and "synthetic" in found["provenance"]["errors"]
    said = " ".join(found["warnings"])
    assert "effort quick" in said and "laws need 4" in said and "1 seed(s)" in said
    assert "## Recommendation" in (swept / "sweep.md").read_text()
    assert (swept / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_sweep_ends_in_the_same_figures(swept: Path, tmp_path: Path) -> None:
    """As a kill leaves it: one training is missing, one was torn by other hands, and nothing is summed up yet."""
    out = tmp_path / "again"
    shutil.copytree(swept, out)
    first, second, *others = sorted((out / "trainings").glob("*.npz"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:100])
    for name in ("sweep.json", "sweep.md", "sweep.png"):
        (out / name).unlink()
    times = [path.stat().st_mtime_ns for path in others]
    assert run(["sweep", "--out", str(out), "--resume", "--quiet", "--jobs", "1"]) == 0
    for name in ("sweep.json", "sweep.md", "sweep.png"):
        assert (out / name).read_bytes() == (swept / name).read_bytes(), name
    assert [path.stat().st_mtime_ns for path in others] == times, "finished trainings are left alone"


def test_another_target_trains_nothing(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "asked"
    shutil.copytree(swept, out)
    assert run(["sweep", "--out", str(out), "--resume", "--target", "0.999", "--jobs", "1", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == {"error": 0.999, "why": "as asked for"}
    assert found["recommendation"]["parameters"] == min(s["parameters"] for s in found["students"])
    assert [arm["points"] for arm in found["arms"]] == [arm["points"] for arm in content(swept)["arms"]]
    assert run(["sweep", "--out", str(out), "--resume", "--smallest", "900"]) == 2
    assert "smallest was 500, now 900" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--teacher", "resnet"], 2, "unknown teacher 'resnet'"),
        (["--recipe", "sofd"], 2, "Did you mean 'soft'"),
        (["--space", "mobilenet"], 2, "Did you mean 'mobilenet1d'"),
        (["--smallest", "10", "--largest", "20"], 2, "offers 0 of 2 sizes"),
        (["--target", "-1"], 2, "at 'target'"),
        (["--subjects", "2"], 1, "a split into train, validation, test"),
    ],
)
def test_wrong_wishes_leave_nothing_behind(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none"
    assert run([*SWEEP, *arguments, "--out", str(out), "--quiet"]) == code
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err and not captured.out
    assert not out.exists()


def test_a_finished_sweep_is_not_overwritten(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SWEEP, "--out", str(swept), "--quiet"]) == 2
    assert "already holds a study; continue it with --resume" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_time_and_taken_up_again(swept: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    for files in (1, 3):
        process = subprocess.Popen([sys.executable, "-m", "hwnas", *SWEEP, "--out", str(out), "--quiet", "--resume"])
        while process.poll() is None and len(list(out.glob("trainings/*.npz"))) < files:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run([*SWEEP, "--out", str(out), "--resume", "--quiet"]) == 0
    assert (out / "sweep.json").read_bytes() == (swept / "sweep.json").read_bytes()
