"""`Verdict`: what the gate says of a candidate. Pure; apart from the gate so that workers need not load nni."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate knows of a candidate without training it.

    Attributes:
        hash: identity of the architecture; two parameter sets that build one network share it.
        cost: predicted figures by name; holds at least latency_us, ram_bytes and flash_bytes.
        violations: limit -> (needed, allowed); empty when the candidate keeps the budget.
    """

    hash: str
    cost: Mapping[str, Any]
    violations: Mapping[str, tuple[float, float]] = field(default_factory=dict)


Judge = Callable[[Mapping[str, Any]], Verdict]
