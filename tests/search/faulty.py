"""Scorers that misbehave, importable by worker processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.search import toy


@dataclass(frozen=True)
class Faulty(toy.ToyScorer):
    """Misbehaves on candidates of depth `on_depth`; on all of them where that is 0."""

    fault: str = "none"
    on_depth: int = 2

    def setup(self) -> None:
        if self.fault == "setup":
            raise FileNotFoundError("no cached teacher outputs")

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        metrics = super().__call__(parameters, seed)
        if parameters["depth"] != self.on_depth and self.on_depth:
            return metrics
        if self.fault == "raise":
            raise ValueError("the loss\nis no number")
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "exit":
            sys.exit(3)
        if self.fault == "nan":
            return metrics | {"error": float("nan")}
        if self.fault == "nameless":
            return {"capacity": 1.0}
        if self.fault == "print":
            print("noise on standard output", flush=True)
        return metrics


@dataclass(frozen=True)
class Threads(toy.ToyScorer):
    """Reports what a worker's libraries were told."""

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        import torch

        return super().__call__(parameters, seed) | {
            "omp": float(os.environ["OMP_NUM_THREADS"]),
            "torch": float(torch.get_num_threads()),
            "pid": float(os.getpid()),
        }
