"""The gate: parameters -> Candidate -> Graph -> deployment -> cost -> verdict, well under a millisecond, without training. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas import families
from hwnas.errors import BudgetError
from hwnas.graph import Graph, Shape
from hwnas.hardware.cost import Cost, predict, violations
from hwnas.hardware.deployment import Deployment, deploy
from hwnas.hardware.profile import Budget, Profile
from hwnas.hardware.table import LookupTable, read
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData
from hwnas.pipeline.rundir import RunDirectory
from hwnas.search.verdict import Verdict
from hwnas.space import Candidate, SearchSpace
from hwnas.space.joint import JointSpace, read_joint

SURVEY_CANDIDATES = 1000
WIDTHS = ("channels", "units")
CHEAPER_ABOVE = ("stride", "pool", "reduction")  # choices whose larger values cost less

Values = dict[str, int]


@dataclass(frozen=True)
class Gate:
    """Judges candidates of one or several spaces against one budget.

    Attributes:
        window: shape (channels, length) of one window.
        outputs: how many outputs are asked for; where that is one value, a family may answer classes of it.
        window_s: seconds between inferences, for the average power.
    """

    space: JointSpace
    window: Shape
    outputs: int
    window_s: float
    profile: Profile
    table: LookupTable
    budget: Budget

    def candidate(self, parameters: Mapping[str, Any]) -> Candidate:
        """What a tuner's parameters describe: family and active choices; raises ConfigError for parameters outside the space."""
        return self.space.candidate(parameters)

    def graph(self, parameters: Mapping[str, Any]) -> Graph:
        """The network that a tuner's parameters describe; raises ConfigError for parameters outside the space."""
        return families.build(self.candidate(parameters), self.window, self.outputs)

    def deploy(self, graph: Graph) -> Deployment:
        """How the network ships: the fastest layouts within the flash budget; raises MissingEntryError where the table has no row."""
        flash = min(self.budget.flash_bytes, self.profile.memory.flash.bytes)
        return deploy(graph, self.profile, self.table, flash)

    def cost(self, graph: Graph, deployment: Deployment | None = None) -> Cost:
        """Predicted cost as it ships; raises MissingEntryError where the table has no row."""
        return predict(graph, deployment or self.deploy(graph), self.profile, self.table, self.window_s)

    def judge(self, parameters: Mapping[str, Any]) -> Verdict:
        """Family, identity, cost and broken limits of a candidate."""
        candidate = self.candidate(parameters)
        graph = families.build(candidate, self.window, self.outputs)
        cost = self.cost(graph)
        return Verdict(graph.hash, cost.as_dict(), violations(cost, self.budget, self.profile), candidate.family)


def open_gate(config: RunConfig, data: RunData, run: RunDirectory | None = None) -> Gate:
    """The gate of a run: with the run's own lookup table where it has one (rows profiled on the spot), else the profile's."""
    profile = config.hardware
    own = run is not None and run.table.exists()
    table = read(run.table if own and run else profile.table_path)
    outputs = len(data.task.outputs)
    return Gate(read_joint(config.spaces), data.window, outputs, data.window_s, profile, table, config.limits)


@dataclass(frozen=True, slots=True)
class Survey:
    """What random candidates of one family say about a budget.

    Attributes:
        needs: what the smallest candidate needs, in words; empty where some candidate is known to fit.
    """

    candidates: int
    rejected: int
    needs: str = ""

    @property
    def reject_share(self) -> float:
        """Share of random candidates that are over budget."""
        return self.rejected / self.candidates


def survey(gate: Gate, seed: int, candidates: int = SURVEY_CANDIDATES) -> dict[str, Survey]:
    """Judge random candidates of every family, and its smallest ones, before anything is trained; family -> what they say.

    Raises:
        BudgetError: no candidate of any family fits; the message says what the smallest of each needs.
    """
    found = {space.family: _survey(gate, space, seed, candidates) for space in gate.space.spaces}
    if all(seen.needs for seen in found.values()):
        families = "; ".join(f"space '{family}': the smallest still needs {seen.needs}" for family, seen in found.items())
        raise BudgetError(
            f"no candidate fits the budget on {gate.profile.name}; {families}; "
            f"raise the budget, or use a shorter window (--window-s, now {gate.window_s:g} s) or another space"
        )
    return found


def _survey(gate: Gate, space: SearchSpace, seed: int, candidates: int) -> Survey:
    """The survey of one family."""

    def judge(choices: Mapping[str, Any]) -> Verdict:
        return gate.judge(gate.space.parameters(space.family, choices))

    generator = np.random.default_rng(seed)
    random = [{name: values[generator.integers(len(values))] for name, values in space.choices.items()} for _ in range(candidates)]
    verdicts = [judge(choices) for choices in random]
    rejected = sum(bool(v.violations) for v in verdicts)
    if rejected < candidates:
        return Survey(candidates, rejected)
    closest = min([*verdicts, *_smallest(space, judge)], key=_excess)
    if not closest.violations:
        return Survey(candidates, rejected)
    figures = {name: f"{need:,.0f} {gate.profile.doubt(name)}".strip() for name, (need, _) in closest.violations.items()}
    needs = ", ".join(f"{name} {figures[name]} (allowed {limit:,.0f})" for name, (_, limit) in closest.violations.items())
    return Survey(candidates, rejected, needs)


def _smallest(space: SearchSpace, judge: Callable[[Values], Verdict]) -> list[Verdict]:
    """Verdicts of the cheapest candidates that are found by going down from the ends of the space, a choice at a time.

    They start with the least of everything, at the smallest and the largest strides and their like, and the same with equal channels
    everywhere. Equal channels can take less flash: layers of one shape share the code of their kernel.
    """
    least = {name: min(values) for name, values in space.choices.items()}
    strided = {name: max(values) if name.endswith(CHEAPER_ABOVE) else least[name] for name, values in space.choices.items()}
    shared = set.intersection(*({*values} for name, values in space.choices.items() if name.endswith(WIDTHS)))
    starts = [least, strided]
    if shared:
        starts += [{name: min(shared) if name.endswith(WIDTHS) else value for name, value in c.items()} for c in (least, strided)]
    return [_descended(space, judge, start) for start in starts]


def _descended(space: SearchSpace, judge: Callable[[Values], Verdict], start: Values) -> Verdict:
    """The verdict after changing one choice at a time, as long as what breaks its limit the most then needs less."""
    chosen, best = start, judge(start)
    falling = bool(best.violations)
    while falling:
        falling = False
        for name in space.candidate(chosen).values:
            for value in space.choices[name]:
                changed = chosen | {name: value}
                verdict = judge(changed)
                if _excess(verdict) < _excess(best):
                    chosen, best, falling = changed, verdict, True
    return best


def _excess(verdict: Verdict) -> float:
    """How many times over its limit a candidate is where that is worst; 0 where it fits."""
    return max((need / limit for need, limit in verdict.violations.values()), default=0.0)
