"""The gate: parameters -> Candidate -> Graph -> deployment -> cost -> verdict, well under a millisecond, without training. No torch."""

from __future__ import annotations

from collections.abc import Mapping
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
from hwnas.space import SearchSpace
from hwnas.space import read as read_space

SURVEY_CANDIDATES = 1000


@dataclass(frozen=True)
class Gate:
    """Judges candidates of one space against one budget.

    Attributes:
        window: shape (channels, length) of one window.
        outputs: number of logits.
        window_s: seconds between inferences, for the average power.
    """

    space: SearchSpace
    window: Shape
    outputs: int
    window_s: float
    profile: Profile
    table: LookupTable
    budget: Budget

    def graph(self, parameters: Mapping[str, Any]) -> Graph:
        """The network that a tuner's parameters describe; raises ConfigError for parameters outside the space."""
        return families.build(self.space.candidate(parameters), self.window, self.outputs)

    def deploy(self, graph: Graph) -> Deployment:
        """How the network ships: the fastest layouts within the flash budget; raises MissingEntryError where the table has no row."""
        flash = min(self.budget.flash_bytes, self.profile.memory.flash.bytes)
        return deploy(graph, self.profile, self.table, flash)

    def cost(self, graph: Graph, deployment: Deployment | None = None) -> Cost:
        """Predicted cost as it ships; raises MissingEntryError where the table has no row."""
        return predict(graph, deployment or self.deploy(graph), self.profile, self.table, self.window_s)

    def judge(self, parameters: Mapping[str, Any]) -> Verdict:
        """Identity, cost and broken limits of a candidate."""
        graph = self.graph(parameters)
        cost = self.cost(graph)
        return Verdict(graph.hash, cost.as_dict(), violations(cost, self.budget, self.profile))


def open_gate(config: RunConfig, data: RunData, run: RunDirectory | None = None) -> Gate:
    """The gate of a run: with the run's own lookup table where it has one (rows profiled on the spot), else the profile's."""
    profile = config.hardware
    own = run is not None and run.table.exists()
    table = read(run.table if own and run else profile.table_path)
    outputs = len(data.task.labels)
    return Gate(read_space(config.space), data.window, outputs, data.window_s, profile, table, config.limits)


@dataclass(frozen=True, slots=True)
class Survey:
    """What random candidates say about a budget: how many break it."""

    candidates: int
    rejected: int

    @property
    def reject_share(self) -> float:
        """Share of random candidates that are over budget."""
        return self.rejected / self.candidates


def survey(gate: Gate, seed: int, candidates: int = SURVEY_CANDIDATES) -> Survey:
    """Judge random candidates, and the space's smallest ones, before anything is trained.

    Raises:
        BudgetError: none of them fits; the message says what the smallest needs.
    """
    generator = np.random.default_rng(seed)
    choices = gate.space.choices
    random = [{name: values[generator.integers(len(values))] for name, values in choices.items()} for _ in range(candidates)]
    verdicts = [gate.judge(parameters) for parameters in random]
    rejected = sum(bool(v.violations) for v in verdicts)
    verdicts += [gate.judge(parameters) for parameters in _smallest(choices)]
    if all(v.violations for v in verdicts):
        closest = min(verdicts, key=lambda v: max(need / limit for need, limit in v.violations.values()))
        figures = {name: f"{need:,.0f} {gate.profile.doubt(name)}".strip() for name, (need, _) in closest.violations.items()}
        needs = ", ".join(f"{name} {figures[name]} (allowed {limit:,.0f})" for name, (_, limit) in closest.violations.items())
        raise BudgetError(
            f"no candidate of space '{gate.space.family}' fits the budget on {gate.profile.name}: the smallest still needs {needs}; "
            f"raise the budget, or use a shorter window (--window-s, now {gate.window_s:g} s) or another space"
        )
    return Survey(candidates, rejected)


def _smallest(choices: dict[str, list[int]]) -> list[dict[str, int]]:
    """The candidate with the least of everything, at the largest and the smallest strides, and the same with equal channels everywhere.

    Equal channels can take less flash: layers of one shape share the code of their kernel.
    """
    least = {name: min(values) for name, values in choices.items()}
    strided = {name: max(values) if name.endswith("stride") else least[name] for name, values in choices.items()}
    widths = [set(values) for name, values in choices.items() if name.endswith("channels")]
    shared = set.intersection(*widths) if widths else set()
    found = [least, strided]
    if shared:
        found += [{name: min(shared) if name.endswith("channels") else value for name, value in c.items()} for c in (least, strided)]
    return found
