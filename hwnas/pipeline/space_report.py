"""What random candidates of a search space are like: sizes, and how many fit a profile's budgets. Reads lookup tables; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hwnas import families
from hwnas import space as spaces
from hwnas.errors import CostError, MissingEntryError, UsageError, lookup
from hwnas.graph import Graph, Shape
from hwnas.hardware import profile as profiles
from hwnas.hardware.cost import predict, violations
from hwnas.hardware.deployment import deploy
from hwnas.hardware.profile import Profile
from hwnas.hardware.table import LookupTable, read
from hwnas.pipeline.profiling import check_kernels, missing, shapes_of, windows_of
from hwnas.space import SearchSpace
from hwnas.tasks import TASKS

CANDIDATES = 500


class Spread(NamedTuple):
    """Three of many figures."""

    smallest: int
    median: int
    largest: int


@dataclass(frozen=True)
class SpaceReport:
    """A space, and what random candidates of it are like for one task's windows.

    Attributes:
        fits: share of the candidates that each budget of the profile keeps, predicted; empty where nothing can be predicted.
        unknown: why nothing can be predicted; empty where it can.
    """

    space: SearchSpace
    task: str
    window_s: float
    profile: str
    candidates: int
    parameters: Spread
    macs: Spread
    fits: dict[str, float]
    unknown: str

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        return {
            "family": self.space.family,
            "description": self.space.description,
            "size": self.space.size,
            "choices": [choice._asdict() for choice in self.space.declared],
            "task": self.task,
            "window_s": self.window_s,
            "profile": self.profile,
            "random_candidates": self.candidates,
            "parameters": self.parameters._asdict(),
            "macs": self.macs._asdict(),
            "predicted_share_within_budget": self.fits or None,
            "no_prediction": self.unknown or None,
        }


def describe(
    space_name: str, profile_name: str, task_name: str, window_s: float | None, seed: int = 0, candidates: int = CANDIDATES
) -> SpaceReport:
    """The report of the space of that name, or in that YAML file.

    Raises:
        UsageError: an unknown space, profile or task, or a window that is no number or without a sample.
    """
    space, profile, task = spaces.read(space_name), profiles.read(profile_name), lookup(TASKS, task_name, "task")
    window_s = task.window_s if window_s is None else window_s
    samples = round(window_s * task.rate_hz) if math.isfinite(window_s) else 0
    if samples < 1:
        raise UsageError(f"--window-s: got {window_s:g}; give a number of seconds that holds at least one sample ({1 / task.rate_hz:g} s)")
    generator = np.random.default_rng(seed)
    drawn = [{name: values[generator.integers(len(values))] for name, values in space.choices.items()} for _ in range(candidates)]
    window = Shape(len(task.channels), samples)
    graphs = [families.build(space.candidate(parameters), window, len(task.outputs)) for parameters in drawn]
    fits: dict[str, float] = {}
    unknown = ""
    try:
        table = read(profile.table_path)
        check_kernels(table, profile)
        if missing(table, {wanted for graph in graphs for wanted in shapes_of(graph)}):
            covered = " and ".join(sorted(f"{w.length / task.rate_hz:g} s" for w in windows_of(task)))
            raise MissingEntryError(
                f"the lookup table of '{profile.name}' lacks operators of these candidates; tables that ship cover the spaces that ship "
                f"for task {task.name} at windows of {covered}, and a search profiles the rest when it begins"
            )
        fits = {budget: _share(graphs, profile, budget, table, window_s) for budget in ("default", *profile.presets)}
    except CostError as error:
        unknown = str(error)
    sizes = (_spread([graph.parameters for graph in graphs]), _spread([graph.macs for graph in graphs]))
    return SpaceReport(space, task.name, window_s, profile.name, candidates, *sizes, fits, unknown)


def _share(graphs: Sequence[Graph], profile: Profile, budget: str, table: LookupTable, window_s: float) -> float:
    """Share of the graphs that a budget keeps; raises MissingEntryError where the table has no row."""
    limits = profile.limits(budget)
    flash = min(limits.flash_bytes, profile.memory.flash.bytes)
    kept = 0
    for graph in graphs:
        cost = predict(graph, deploy(graph, profile, table, flash), profile, table, window_s)
        kept += not violations(cost, limits, profile)
    return kept / len(graphs)


def _spread(figures: Sequence[int]) -> Spread:
    return Spread(min(figures), int(np.median(figures)), max(figures))
