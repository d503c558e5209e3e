"""The tuners a run can name. Adding one is a line here; any nni.tuner.Tuner that minimises `default` will do."""

from __future__ import annotations

from collections.abc import Callable

import nni
from nni.algorithms.hpo.random_tuner import RandomTuner
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.tuner import Tuner

from hwnas.errors import lookup
from hwnas.search.tuner import ParetoTuner
from hwnas.search.verdict import Active, all_active

TUNERS: dict[str, Callable[[int, Active], Tuner]] = {
    "pareto": lambda seed, active: ParetoTuner(seed, active),
    "random": lambda seed, _: RandomTuner(seed),
    "tpe": lambda seed, _: TpeTuner("minimize", seed),
}


def make(name: str, seed: int, active: Active = all_active) -> Tuner:
    """The tuner of that name, told which choices are active where it can use that.

    NNI is told not to print: standard output is ours.

    Raises:
        UsageError: no such tuner; lists the choices.
    """
    nni.silence_stdout()
    return lookup(TUNERS, name, "tuner")(seed, active)
