"""What an NNI experiment asks of a run, from the run directory alone: judge and active choices for its tuner, the scorer of trials."""

from __future__ import annotations

from pathlib import Path

from hwnas.config import parse
from hwnas.pipeline.config import RunConfig, read_run_yaml
from hwnas.pipeline.data import load_data
from hwnas.pipeline.gate import open_gate
from hwnas.pipeline.rundir import RunDirectory
from hwnas.pipeline.workshop import CandidateScorer
from hwnas.search.verdict import Active, Judge
from hwnas.search.workers import Scorer
from hwnas.space.joint import read_joint


def judge(root: Path) -> Judge:
    """The gate of the run in `root`."""
    config = _config(root)
    return open_gate(config, load_data(config), RunDirectory(root)).judge


def active(root: Path) -> Active:
    """Which choices count in the spaces of the run in `root`."""
    return read_joint(_config(root).spaces).active


def scorer(root: Path) -> Scorer:
    """The scorer of the run in `root`."""
    return CandidateScorer(_config(root), root)


def _config(root: Path) -> RunConfig:
    path = RunDirectory(root).run_yaml
    return parse(read_run_yaml(path)[0], RunConfig, str(path))
