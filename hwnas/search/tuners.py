"""The tuners a run can name. Adding one is a line here; any nni.tuner.Tuner that minimises `default` will do."""

from __future__ import annotations

from collections.abc import Callable

import nni
from nni.algorithms.hpo.random_tuner import RandomTuner
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.tuner import Tuner

from hwnas.errors import lookup
from hwnas.search.tuner import ParetoTuner

TUNERS: dict[str, Callable[[int], Tuner]] = {
    "pareto": lambda seed: ParetoTuner(seed),
    "random": lambda seed: RandomTuner(seed),
    "tpe": lambda seed: TpeTuner("minimize", seed),
}


def make(name: str, seed: int) -> Tuner:
    """The tuner of that name; raises UsageError listing the choices. NNI is told not to print: standard output is ours."""
    nni.silence_stdout()
    return lookup(TUNERS, name, "tuner")(seed)
