"""Finished students -> the Pareto front and `front.json`. Reads students' cards; test subjects are scored here, once, last.

What is written is the test part of students' portraits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hwnas import pareto
from hwnas.hardware.profile import BUDGET_FIELDS, Budget
from hwnas.pareto import Objectives
from hwnas.pipeline import portrait
from hwnas.pipeline.data import RunData
from hwnas.pipeline.rundir import RunDirectory, read_json
from hwnas.quantize import reference, storage
from hwnas.quantize.scoring import real_outputs, score_outputs
from hwnas.report import history
from hwnas.report.content import measure
from hwnas.tasks.base import Task

COSTS = ("ram_bytes", "flash_bytes", "latency_us", "energy_uj")
Card = dict[str, Any]


def objectives(card: Card, task: Task) -> Objectives:
    """What a finished student is judged by: its error as int8 on validation subjects, fully distilled, and its emulated cost."""
    cost = card["cost"]
    emulated = {name: cost[name]["emulated"] for name in COSTS}
    return Objectives.of({"error": task.error(card["metrics"]["validation"]), **emulated})


def describe_metric(task: Task) -> dict[str, Any]:
    """The metric that a task's students are compared by: its name, its title and unit, and which way is better."""
    metric = measure(task.primary)
    return {"name": task.primary, "title": metric.name, "unit": metric.unit or None, "lower_is_better": metric.lower}


def over_budget(card: Card, budget: Budget) -> list[str]:
    """Limits that the student breaks as emulated."""
    emulated = {name: pair["emulated"] for name, pair in card["cost"].items()}
    return [name for name in BUDGET_FIELDS if emulated[name] > getattr(budget, name)]


def freeze(cards: Sequence[Card], task: Task, budget: Budget) -> tuple[list[Card], list[Card]]:
    """(front, fallen), each by latency: students that nothing dominates and that keep the budget as emulated, and the others.

    A fallen student says why under `fallen`.
    """
    ordered = sorted(cards, key=lambda card: (card["cost"]["latency_us"]["emulated"], card["id"]))
    fitting = [card for card in ordered if not over_budget(card, budget)]
    rows = pareto.as_rows([objectives(card, task) for card in fitting])
    front = [fitting[i] for i in pareto.front(rows)] if fitting else []
    standing = {card["id"] for card in front}
    return front, [card | {"fallen": _why(card, front, task, budget)} for card in ordered if card["id"] not in standing]


def _why(card: Card, front: Sequence[Card], task: Task, budget: Budget) -> str:
    if broken := over_budget(card, budget):
        return f"over budget as emulated: {', '.join(broken)}"
    row = objectives(card, task).as_row()
    better = next((other["id"] for other in front if pareto.dominates(objectives(other, task).as_row(), row)), None)
    return f"dominated by {better}" if better else "equal to a student on the front"


def score_test(run: RunDirectory, cards: Sequence[Card], data: RunData) -> None:
    """Score the test subjects with the int8 form of every student of the frozen front; the result joins its card's metrics and portrait.

    A student that an extended run took off its front keeps no such figures.
    """
    test, folders = data.split.test, [run.root / card["folder"] for card in cards]
    for card, folder in zip(cards, folders, strict=True):
        q = storage.load(folder)
        outputs = reference.run(q, reference.quantize_input(q, test.x))
        card["metrics"]["test"] = score_outputs(q, outputs, test, data.task)
        portrait.add_test(folder, data, run.teacher, real_outputs(q, outputs))
    for other in sorted((run.root / "students").iterdir()):
        if other not in folders:
            portrait.remove_test(other)


def read_cards(run: RunDirectory, identities: Sequence[str]) -> list[Card]:
    """The cards of finished students, in the order given."""
    return [read_json(run.student(identity) / "card.json") for identity in identities]


def best(cards: Sequence[Card], task: Task) -> Card | None:
    """The student with the smallest error on the validation subjects; None for an empty front."""
    return min(cards, key=lambda card: task.error(card["metrics"]["validation"]), default=None)


def hypervolume(points: Sequence[Objectives], budget: Budget, chance_error: float) -> float:
    """Hypervolume of `points`, with each objective in units of its limit and error up to that of chance: at most 1."""
    return history.hypervolume(points, asdict(budget), chance_error)
