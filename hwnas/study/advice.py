"""From the results of a sweep to its figures: errors, laws, and which teacher, student and recipe reach a target. Reads tables; no torch.

A recommendation is one of the students that were trained. Where no law holds, the measured mean stands in and is called so; where
nothing reaches the target, nothing is recommended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import CostError
from hwnas.graph import Graph
from hwnas.hardware import profile as profiles
from hwnas.hardware.cost import PREDICTED, predict
from hwnas.hardware.deployment import deploy
from hwnas.hardware.table import LookupTable, read
from hwnas.pipeline.data import RunData
from hwnas.pipeline.profiling import check_kernels
from hwnas.study.law import Floats, Law, Refused, fit
from hwnas.study.measures import Measure, measures
from hwnas.study.sizes import Ladder, Rung
from hwnas.study.statistics import draws, everyone, standard_error
from hwnas.teachers.card import TeacherCard

RESAMPLES = 400
CURVE_POINTS = 40
CAPACITIES = {"parameters": "student parameters", "macs": "student MACs"}
TEACHER_CAPACITY = "teacher parameters"
CONTROL = "hard"
Content = dict[str, Any]


class Outputs(Protocol):
    """What is read of a training's result."""

    @property
    def calibrated(self) -> NDArray[np.float32]: ...


Arms = Mapping[tuple[str, str], Sequence[tuple[Rung, Sequence[Outputs]]]]


@dataclass(frozen=True, eq=False)
class Arm:
    """One (teacher, recipe): errors (S, seeds) of its students, and (B, S, seeds) on resampled test subjects."""

    teacher: str
    recipe: str
    rungs: tuple[Rung, ...]
    errors: Floats
    resampled: Floats

    @property
    def sizes(self) -> dict[str, Floats]:
        """The capacities (S,) by name."""
        return {name: np.array([getattr(rung.graph, name) for rung in self.rungs], dtype=np.float64) for name in CAPACITIES}


def figures(
    settings: Mapping[str, Any],
    data: RunData,
    students: Ladder,
    teachers: Mapping[str, tuple[TeacherCard, Outputs]],
    results: Arms,
    warnings: Sequence[str],
) -> Content:
    """The content of `sweep.json`; `settings` are those of `hwnas.study.sweep.SweepConfig`."""
    measure, test, source = measures(data.task)[0], data.split.test, data.split.test.source
    generator = np.random.default_rng(settings["seed"])
    weights = np.concatenate([everyone(len(test.subjects)), draws(len(test.subjects), RESAMPLES, generator)])

    def errors(outputs: Outputs) -> Floats:
        value = measure.score(outputs.calibrated, test).pooled(weights)
        return 1 - value if measure.better > 0 else value

    arms = [_arm(*names, sizes, errors) for names, sizes in results.items()]
    laws = {(arm.teacher, arm.recipe, name): _law(arm, name, generator) for arm in arms for name in CAPACITIES}
    costs = _costs([rung.graph for rung in students.rungs], settings["profile"], data.window_s)
    control = next(arm for arm in arms if arm.recipe == CONTROL)
    target, why = _target(settings["target"], control)
    told = [_arm_figures(arm, control, laws, generator) for arm in arms]
    return {
        "task": data.task.name,
        "data": data.provenance | {"test_subjects": list(test.subjects)},
        "measure": {"name": measure.name, "title": measure.title, "unit": measure.unit, "error": _error_name(measure)},
        "provenance": {
            "errors": f"float32 on the host, {source} data, {len(test)} windows of {len(test.subjects)} test subjects",
            "intervals": f"95 %, {RESAMPLES} simulations: seeds, resampled test subjects, and how far sizes stray from the law",
            "bands": "of curves: seeds and how far sizes stray; test subjects, the same for all arms, are not in them",
            "cost": f"{PREDICTED} before training, for {settings['profile']}",
        },
        "space": settings["space"],
        "effort": settings["effort"],
        "epochs": settings["epochs"],
        "seeds": settings["seeds"],
        "warnings": [*warnings, *_blind(arms)],
        "teachers": [
            {"name": name, "id": card.id, "parameters": card.parameters, "error": float(errors(outputs)[0])}
            for name, (card, outputs) in teachers.items()
        ],
        "students": [
            {
                "hash": rung.graph.hash,
                "wanted": rung.wanted,
                "parameters": rung.graph.parameters,
                "macs": rung.graph.macs,
                "choices": rung.candidate.values,
                **costs[rung.graph.hash],
            }
            for rung in students.rungs
        ],
        "arms": told,
        "joint": _joint(arms, {name: card.parameters for name, (card, _) in teachers.items()}, generator),
        "target": {"error": target, "why": why},
        "recommendation": _recommend(target, arms, laws, told, costs, {name: card.parameters for name, (card, _) in teachers.items()}),
    }


def _arm(teacher: str, recipe: str, sizes: Sequence[tuple[Rung, Sequence[Outputs]]], errors: Any) -> Arm:
    all_errors = np.stack([np.stack([errors(one) for one in seeds], axis=-1) for _, seeds in sizes], axis=1)
    return Arm(teacher, recipe, tuple(rung for rung, _ in sizes), all_errors[0], all_errors[1:])


def _law(arm: Arm, capacity: str, generator: np.random.Generator) -> Law | Refused:
    seeds = arm.errors.shape[1]
    sizes = np.repeat(arm.sizes[capacity], seeds)[:, None]
    return fit(sizes, arm.errors.ravel(), [CAPACITIES[capacity]], generator, arm.resampled.reshape(len(arm.resampled), -1))


def _joint(arms: Sequence[Arm], parameters: Mapping[str, int], generator: np.random.Generator) -> list[Content]:
    """For every recipe that has a teacher: the law over both capacities."""
    found = []
    for recipe in dict.fromkeys(arm.recipe for arm in arms if arm.teacher):
        own = [arm for arm in arms if arm.recipe == recipe]
        sizes = []
        for arm in own:
            students = np.repeat(arm.sizes["parameters"], arm.errors.shape[1])
            sizes.append(np.column_stack([students, np.full(len(students), float(parameters[arm.teacher]))]))
        errors = np.concatenate([arm.errors.ravel() for arm in own])
        resampled = np.concatenate([arm.resampled.reshape(len(arm.resampled), -1) for arm in own], axis=1)
        law = fit(np.concatenate(sizes), errors, [CAPACITIES["parameters"], TEACHER_CAPACITY], generator, resampled)
        found.append({"recipe": recipe, "law": _told(law)})
    return found


def _told(law: Law | Refused, curve: bool = False) -> Content:
    if isinstance(law, Refused):
        return {"refused": law.reason}
    found = law.as_dict()
    if curve:
        at = np.geomspace(*law.ranges[0], CURVE_POINTS)[:, None]
        low, high = law.band(at, paired=True)
        columns = {"size": at[:, 0], "error": law.error(at), "low": low, "high": high}
        found["curve"] = {name: [float(value) for value in values] for name, values in columns.items()}
    return found


def _arm_figures(arm: Arm, control: Arm, laws: Mapping[tuple[str, str, str], Law | Refused], generator: np.random.Generator) -> Content:
    points = [
        {
            "student": rung.graph.hash,
            **{name: getattr(rung.graph, name) for name in CAPACITIES},
            "errors": [float(error) for error in errors],
            "error": float(errors.mean()),
            "seeds_se": standard_error([float(error) for error in errors]),
        }
        for rung, errors in zip(arm.rungs, arm.errors, strict=True)
    ]
    return {
        "teacher": arm.teacher or None,
        "recipe": arm.recipe,
        "points": points,
        "against_control": None if arm is control else _ratio(arm, control, generator),
        "laws": {name: _told(laws[arm.teacher, arm.recipe, name], curve=True) for name in CAPACITIES},
    }


def _ratio(arm: Arm, control: Arm, generator: np.random.Generator) -> Content | None:
    """Error of an arm over the control's: its geometric mean over sizes and seeds, with an interval over sizes, seeds and test subjects."""
    if (arm.errors <= 0).any() or (control.errors <= 0).any():
        return None
    found = np.log(arm.errors) - np.log(control.errors)
    both = np.concatenate([arm.resampled, control.resampled], axis=1)
    usable = np.flatnonzero((np.isfinite(both) & (both > 0)).all(axis=(1, 2)))
    moved = np.log(arm.resampled[usable]) - np.log(control.resampled[usable])
    sizes, seeds = found.shape
    means = []
    for _ in range(RESAMPLES if len(usable) else 0):
        rows, columns = generator.integers(sizes, size=(sizes, 1)), generator.integers(seeds, size=(sizes, seeds))
        means.append(moved[generator.integers(len(usable))][rows, columns].mean())
    low, high = np.exp(np.quantile(means, (0.025, 0.975))) if means else (None, None)
    return {"ratio": float(np.exp(found.mean())), "low": _plain(low), "high": _plain(high)}


def _target(given: float | None, control: Arm) -> tuple[float, str]:
    if given is not None:
        return given, "as asked for"
    means = control.errors.mean(axis=1)
    best = int(np.argmin(means))
    doubt = standard_error([float(error) for error in control.errors[best]]) or 0.0
    size = control.rungs[best].graph.parameters
    said = "with its seeds' standard error" if doubt else "of one seed"
    return float(means[best]) + doubt, f"as good as the best control, {size:,} parameters, {said}"


def _recommend(
    target: float,
    arms: Sequence[Arm],
    laws: Mapping[tuple[str, str, str], Law | Refused],
    told: Sequence[Content],
    costs: Mapping[str, Content],
    teachers: Mapping[str, int],
) -> Content:
    """The smallest student that reaches the target, of all arms; of several the one of least error, then of the smallest teacher."""
    offers = [_offer(arm, laws[arm.teacher, arm.recipe, "parameters"], target) for arm in arms]
    reaching = [i for i, offer in enumerate(offers) if offer["student"] is not None]
    control = next(offer for arm, offer in zip(arms, offers, strict=True) if arm.recipe == CONTROL)
    if not reaching:
        arm = min(arms, key=lambda arm: float(arm.errors.mean(axis=1).min()))
        size = int(np.argmin(arm.errors.mean(axis=1)))
        name = f"{arm.recipe} from {arm.teacher}" if arm.teacher else arm.recipe
        least = f"the best mean is {arm.errors[size].mean():.4g}, {name}, {arm.rungs[size].graph.parameters:,} parameters"
        why = f"no arm reaches an error of {target:.4g} and keeps it at its larger sizes; {least}"
        return {"student": None, "why_none": why, "offers": offers}

    def order(i: int) -> tuple[int, float, int]:
        return offers[i]["parameters"], offers[i]["error"]["value"], teachers.get(arms[i].teacher, 0)

    chosen = min(reaching, key=order)
    offer = offers[chosen]
    return {
        **offer,
        **costs[offer["student"]],
        "against_control": told[chosen]["against_control"],
        "control_parameters": control["parameters"],
        "offers": offers,
    }


def _offer(arm: Arm, law: Law | Refused, target: float) -> Content:
    """The smallest student of an arm that reaches the target, by its law or, where there is none, as measured.

    All larger ones must reach it too: of many means some are low by luck.
    """
    sizes = arm.sizes["parameters"]
    if isinstance(law, Law):
        at = sizes[:, None]
        value, (low, high), basis = law.error(at), law.band(at, 1), "law"
    else:
        value, basis = arm.errors.mean(axis=1), "measured"
        low, high = np.nanquantile(arm.resampled.mean(axis=2), (0.025, 0.975), axis=0)
    found: Content = {"teacher": arm.teacher or None, "recipe": arm.recipe, "basis": basis}
    missing = np.flatnonzero(~(value <= target))
    first = int(missing[-1]) + 1 if len(missing) else 0
    if first == len(sizes):
        return found | {"student": None, "parameters": None, "error": None}
    return found | {
        "student": arm.rungs[first].graph.hash,
        "parameters": arm.rungs[first].graph.parameters,
        "error": {"value": float(value[first]), "low": _plain(low[first]), "high": _plain(high[first])},
        "measured": float(arm.errors[first].mean()),
    }


def _costs(graphs: Sequence[Graph], profile_name: str, window_s: float) -> dict[str, Content]:
    """Predicted cost of every student by its hash, or why there is none."""
    profile = profiles.read(profile_name)
    try:
        table = read(profile.table_path)
        check_kernels(table, profile)
    except CostError as error:
        return {graph.hash: {"cost": None, "no_cost": str(error)} for graph in graphs}
    return {graph.hash: _cost(graph, profile, table, window_s) for graph in graphs}


def _cost(graph: Graph, profile: profiles.Profile, table: LookupTable, window_s: float) -> Content:
    try:
        flash = min(profile.limits().flash_bytes, profile.memory.flash.bytes)
        cost = predict(graph, deploy(graph, profile, table, flash), profile, table, window_s)
    except CostError as error:
        return {"cost": None, "no_cost": str(error)}
    return {"cost": cost.as_dict() | {"profile": profile.name}}


def _blind(arms: Sequence[Arm]) -> list[str]:
    """What resampling could not see."""
    lost = float(np.mean([~np.isfinite(arm.resampled).all(axis=(1, 2)) for arm in arms]))
    return [f"{lost:.0%} of the draws of test subjects lack a kind of windows and are left out"] if lost else []


def _error_name(measure: Measure) -> str:
    return f"1 - {measure.title}" if measure.better > 0 else f"{measure.title}{', ' if measure.unit else ''}{measure.unit}"


def _plain(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
