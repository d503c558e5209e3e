"""`GatedTuner`: any NNI tuner behind the budget gate and the memory of what was seen. nni; no torch, no files.

Over-budget candidates are refused here, before anything is trained, and an architecture that was seen once never comes out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import nni
from nni.tuner import Tuner

from hwnas.errors import BudgetError
from hwnas.search.verdict import Judge as Judge
from hwnas.search.verdict import Verdict as Verdict

PATIENCE = 5000
Refusal = Literal["rejected", "duplicate"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One thing the inner tuner proposed and what the gate made of it. `id` is the trial's, for accepted ones only."""

    kind: Literal["proposed", "rejected", "duplicate"]
    id: int | None
    parameters: dict[str, Any]
    verdict: Verdict


@dataclass
class GateCounts:
    """How many proposals of each kind passed by."""

    proposed: int = 0
    rejected: int = 0
    duplicate: int = 0


class GatedTuner(Tuner):  # type: ignore[misc]
    """Asks `inner` until a candidate is within budget and new.

    A tuner with `understands_verdicts = True` is told of refusals by `receive_trial_result` (`{"rejected": ...}` or
    `{"duplicate": True}`) and of failures (`{"failed": reason}`); any other NNI tuner sees such a trial end without success,
    which is how NNI itself reports it, so that no refusal becomes a made-up score. Scored results go to every tuner as one dict
    of metrics and cost, with NNI's `default` (the scalar that single-objective tuners minimise) set to the error.

    Args:
        inner: any nni.tuner.Tuner.
        judge: identity, cost and violations of a parameter set.
        patience: refusals in a row after which the space counts as exhausted.
        report: called with every `Proposal`, in order.
    """

    def __init__(
        self, inner: Tuner, judge: Judge, *, patience: int = PATIENCE, report: Callable[[Proposal], None] = lambda proposal: None
    ) -> None:
        super().__init__()
        self.inner, self.report, self.counts = inner, report, GateCounts()
        self._judge, self._patience = judge, patience
        self._seen: set[str] = set()
        self._next_inner_id = 0
        self._running: dict[int, tuple[int, Verdict]] = {}
        self._least: dict[str, tuple[float, float]] = {}

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Hand the space to the inner tuner."""
        self.inner.update_search_space(search_space)

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """The next candidate within budget and never seen before.

        Raises:
            BudgetError: `patience` proposals, or the whole space, without a single one within budget.
            nni.NoMoreTrialError: nothing new is left.
        """
        for _ in range(self._patience):
            inner_id = self._next_inner_id
            self._next_inner_id += 1
            try:
                parameters = self.inner.generate_parameters(inner_id, **kwargs)
            except nni.NoMoreTrialError:
                break
            verdict = self._judge(parameters)
            if verdict.hash in self._seen:
                self._refuse("duplicate", inner_id, parameters, verdict)
                continue
            self._seen.add(verdict.hash)
            if verdict.violations:
                self._refuse("rejected", inner_id, parameters, verdict)
                continue
            self.counts.proposed += 1
            self._running[parameter_id] = inner_id, verdict
            self.report(Proposal("proposed", parameter_id, parameters, verdict))
            return dict(parameters)
        if not self.counts.proposed:
            raise BudgetError(self._hopeless())
        raise nni.NoMoreTrialError("no candidate within the budget is left")

    def receive_trial_result(self, parameter_id: int, parameters: Mapping[str, Any], value: Any, **kwargs: Any) -> None:
        """Pass a result on: metrics (with the gate's cost figures added), or `{"failed": reason}`."""
        inner_id, verdict = self._running.pop(parameter_id)
        if "failed" in value:
            self._dismiss(inner_id, parameters, value)
        else:
            self.inner.receive_trial_result(inner_id, parameters, merged(verdict.cost, value), **kwargs)
            self.inner.trial_end(inner_id, True)

    def trial_end(self, parameter_id: int, success: bool, **_: Any) -> None:
        """A trial that ended without any result counts as failed."""
        running = self._running.pop(parameter_id, None)
        if running is not None:
            self._dismiss(running[0], {}, {"failed": "ended without a result"})

    def verdict(self, parameter_id: int) -> Verdict:
        """The verdict on a trial that was proposed and has no result yet."""
        return self._running[parameter_id][1]

    def recall(self, hashes: Iterable[str], results: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]] = ()) -> None:
        """Never propose `hashes` again, and teach the inner tuner earlier `results` (parameters, metrics with cost)."""
        self._seen.update(hashes)
        data = [{"parameter": dict(p), "value": merged({}, value)} for p, value in results]
        self.counts.proposed += len(data)
        if data:
            self.inner.import_data(data)

    def _refuse(self, kind: Refusal, inner_id: int, parameters: dict[str, Any], verdict: Verdict) -> None:
        if kind == "rejected":
            self.counts.rejected += 1
            self._dismiss(inner_id, parameters, {"rejected": dict(verdict.violations)})
            for name, (needed, allowed) in verdict.violations.items():
                self._least[name] = min(self._least.get(name, (needed, allowed)), (needed, allowed))
        else:
            self.counts.duplicate += 1
            self._dismiss(inner_id, parameters, {"duplicate": True})
        self.report(Proposal(kind, None, dict(parameters), verdict))

    def _dismiss(self, inner_id: int, parameters: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        if getattr(self.inner, "understands_verdicts", False):
            self.inner.receive_trial_result(inner_id, parameters, value)
        self.inner.trial_end(inner_id, False)

    def _hopeless(self) -> str:
        needs = ", ".join(f"{name} at least {n:,.0f} (allowed {a:,.0f})" for name, (n, a) in sorted(self._least.items()))
        return (
            f"no candidate fits the budget: {self.counts.rejected} different ones were tried, nothing was trained; "
            f"where a limit was broken, the smallest needed {needs}; raise these limits or use another search space"
        )


def merged(cost: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Cost and metrics in one dict, with the scalar of single-objective tuners; names of metrics win."""
    return {**cost, **metrics, "default": metrics["error"]}
