"""What a search asks of its problem: the `Verdict` on a candidate, its active choices. Pure; workers need not load nni for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate knows of a candidate without training it.

    Attributes:
        hash: identity of the architecture; two parameter sets that build one network share it.
        cost: predicted figures by name; holds at least latency_us, ram_bytes and flash_bytes.
        violations: limit -> (needed, allowed); empty when the candidate keeps the budget.
        family: the student family, by which a search counts; empty where there is only one.
    """

    hash: str
    cost: Mapping[str, Any]
    violations: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    family: str = ""


Judge = Callable[[Mapping[str, Any]], Verdict]
# The names of the choices that decide the candidate of these parameters; the other choices change nothing.
Active = Callable[[Mapping[str, Any]], Collection[str]]


def all_active(parameters: Mapping[str, Any]) -> Collection[str]:
    """Every choice counts."""
    return parameters.keys()
