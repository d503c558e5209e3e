"""One search of the toy problem; as a program (path, seconds a trial), one to be killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hwnas.search import toy
from hwnas.search.driver import Outcome, search
from hwnas.search.gate import GatedTuner
from hwnas.search.trial_log import TrialLog
from hwnas.search.trials import OnEvent
from hwnas.search.tuners import make

CONFIG = {"space": "toy", "seed": 7}


def quiet(_: object) -> None:
    """Nobody watches."""


def run(
    path: Path,
    scorer: Any = None,
    *,
    jobs: int = 1,
    trials: int = 20,
    resume: bool = False,
    watch: OnEvent = quiet,
    space: dict[str, Any] | None = None,
) -> Outcome:
    gate = GatedTuner(make("pareto", 7, toy.active), toy.ToyJudge())
    gate.update_search_space(space or toy.space())
    with (TrialLog.resume if resume else TrialLog.create)(path, CONFIG) as log:
        return search(gate, scorer or toy.ToyScorer(), log, trials=trials, generation=6, jobs=jobs, seed=7, on_event=watch)


if __name__ == "__main__":
    run(Path(sys.argv[1]), toy.ToyScorer(float(sys.argv[2])), jobs=2, resume=True)
