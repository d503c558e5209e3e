"""A small finished run on generated signals, made once for all tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.cli.app import run

QUICK = ["search", "--profile", "cortex-m4-192k", "--effort", "quick", "--trials", "4", "--students", "2", "--generation", "2"]
SMALL = ["--window-s", "10", "--windows", "400", "--subjects", "16"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory."""
    root = tmp_path_factory.mktemp("runs") / "first"
    assert run([*QUICK, *SMALL, "--out", str(root), "--quiet", "--jobs", "2"]) == 0
    return root
