"""`kill -9` at random moments of a whole run, each followed by `--resume`, and a log cut anywhere: always the same front."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from hwnas.cli.app import run

from .conftest import QUICK, SMALL

KILLS = 10
LONGEST_LIFE_S = 12.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_at_random_moments(finished: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng()
    root = tmp_path / "killed"
    command = [sys.executable, "-m", "hwnas", *QUICK, *SMALL, "--out", str(root), "--quiet", "--jobs", "2"]
    for _ in range(KILLS):
        life_s = generator.uniform(2.0, LONGEST_LIFE_S)
        resume = ["--resume"] if (root / "run.yaml").exists() else []
        process = subprocess.Popen([*command, *resume])
        family: set[psutil.Process] = set()
        end = time.monotonic() + life_s
        while time.monotonic() < end and process.poll() is None:
            family |= set(psutil.Process(process.pid).children(recursive=True))
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert not psutil.wait_procs(family, timeout=10)[1], f"a worker outlived its parent, killed after {life_s:.2f} s"
    subprocess.run([*command, "--resume"], check=True)
    assert (root / "front.json").read_bytes() == (finished / "front.json").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_log_cut_at_every_byte_of_its_last_line_resumes(finished: Path, tmp_path: Path) -> None:
    text = (finished / "trials.jsonl").read_bytes()
    start = text[:-1].rindex(b"\n") + 1
    positions = range(start, len(text)) if len(text) - start < 40 else sorted({*range(start, len(text), 16), start, len(text) - 1})
    for size in positions:
        root = tmp_path / f"cut-{size}"
        shutil.copytree(finished, root)
        (root / "front.json").unlink()
        (root / "trials.jsonl").write_bytes(text[:size])
        assert run([*QUICK, *SMALL, "--out", str(root), "--resume", "--quiet", "--jobs", "1"]) == 0
        assert (root / "front.json").read_bytes() == (finished / "front.json").read_bytes()
        shutil.rmtree(root)
