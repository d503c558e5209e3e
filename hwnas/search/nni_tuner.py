"""What runs inside the processes of an NNI experiment: the dispatcher's tuner, and the trial program. Reads and writes the run.

An experiment is described by `DIR/nni/service.json`:

    judge, active, scorer  "module:function" inside hwnas; called with DIR, gives the gate's judge, what tells active choices, and the
                           scorer
    tuner, seed    name in `hwnas.search.tuners`, seed of the run
    config         configuration in the header of the trial log

`python -m hwnas.search.nni_tuner --run DIR` is the command of one trial.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nni

from hwnas.errors import HwnasError, UsageError
from hwnas.resources import write_text
from hwnas.search.gate import GatedTuner, Proposal
from hwnas.search.trial_log import Record, TrialLog
from hwnas.search.trials import Trial, proposal_record, read_trials, scored_results, trial_seed, write_result
from hwnas.search.tuners import make
from hwnas.search.workers import checked, reason_of

NAMESPACE = "hwnas."


@dataclass(frozen=True, slots=True)
class Service:
    """The content of `service.json`; see the module."""

    judge: str
    active: str
    scorer: str
    tuner: str
    seed: int
    config: Record

    def write(self, run: Path) -> None:
        """Write it into the run directory `run`, after checking that its functions exist."""
        for name in (self.judge, self.active, self.scorer):
            load_function(name)
        write_text(run / "nni" / "service.json", json.dumps(asdict(self), indent=1))

    @staticmethod
    def read(run: Path) -> Service:
        """Read it back."""
        return Service(**json.loads((run / "nni" / "service.json").read_text()))


def load_function(name: str) -> Any:
    """The function "module:function".

    Raises:
        UsageError: it is not inside hwnas, so that a run directory from elsewhere cannot name code to run; or does not exist.
    """
    module, _, function = name.partition(":")
    if not module.startswith(NAMESPACE):
        raise UsageError(f"'{name}' in service.json: only functions of hwnas may be named, as hwnas.module:function")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"'{name}' in service.json does not exist: {error}") from error


class ServiceTuner(GatedTuner):
    """The gated tuner of an NNI experiment. It alone writes the trial log while the experiment runs.

    Trials of a concurrent experiment end in no fixed order, so a resumed one is not replayed: earlier results are taught to the
    tuner and their architectures never proposed again. Trials that an earlier experiment left without a result are handed out
    first, under the id they have in the log. The first error is left in `DIR/nni/error.json`.
    """

    def __init__(self, run_dir: str) -> None:
        self._run = Path(run_dir)
        service = Service.read(self._run)
        inner = make(service.tuner, service.seed, load_function(service.active)(self._run))
        super().__init__(inner, load_function(service.judge)(self._run), report=self._log_proposal)
        self._log = TrialLog.resume(self._run / "trials.jsonl", service.config)
        earlier = read_trials(self._log.records)
        self._first_id = 1 + max((t.id for t in earlier), default=-1)
        self._trials: dict[int, Trial] = {}
        self._earlier, self._seed = earlier, service.seed
        self._unfinished = deque(t for t in earlier if t.abandoned)

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Take the space and what an earlier experiment of this run found in it."""
        super().update_search_space(search_space)
        hashes = [r["hash"] for r in self._log.records if "hash" in r]
        self.recall(hashes, scored_results(self._earlier))
        self.counts.proposed += len(self._unfinished)

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """An unfinished trial, or else as the gate does. The result carries `_seed`, the seed of the trial."""
        trial = self._unfinished.popleft() if self._unfinished else self._new_trial(parameter_id, **kwargs)
        self._trials[parameter_id] = trial
        return trial.parameters | {"_seed": trial_seed(self._seed, trial.hash)}

    def _new_trial(self, parameter_id: int, **kwargs: Any) -> Trial:
        try:
            parameters = super().generate_parameters(parameter_id, **kwargs)
        except HwnasError as error:
            write_text(self._run / "nni" / "error.json", json.dumps({"type": type(error).__name__, "message": str(error)}))
            raise
        verdict = self.verdict(parameter_id)
        return Trial(self._first_id + parameter_id, verdict.hash, verdict.family, parameters, dict(verdict.cost))

    def receive_trial_result(self, parameter_id: int, parameters: Mapping[str, Any], value: Any, **kwargs: Any) -> None:
        """Log a result and pass it on; one that comes after its trial was given up is ignored."""
        trial = self._trials.pop(parameter_id, None)
        if trial is not None:
            trial = replace(trial, metrics=value.get("metrics"), reason=value.get("failed", ""), seconds=value["seconds"])
            write_result(self._log, trial)
            if trial.id >= self._first_id:
                super().receive_trial_result(parameter_id, trial.parameters, trial.value, **kwargs)
            else:  # the inner tuner of this experiment did not propose it
                self.recall((), scored_results([trial]))

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Log a trial whose process failed. That one succeeded is no news: NNI may say so before it hands over the result."""
        trial = self._trials.pop(parameter_id, None) if not success else None
        if trial is not None:
            write_result(self._log, replace(trial, reason="its process ended without a result"))
            super().trial_end(parameter_id, success, **kwargs)

    def _log_proposal(self, proposal: Proposal) -> None:
        record = proposal_record(proposal)
        if proposal.id is not None:
            record["id"] = self._first_id + proposal.id
        self._log.append(**record)


def trial(run: Path) -> None:
    """One trial: take parameters from NNI, score them, report. A failing scorer is reported, not raised."""
    service = Service.read(run)
    parameters = dict(nni.get_next_parameter())
    seed = parameters.pop("_seed")
    start = time.perf_counter()
    result: dict[str, Any]
    try:
        scorer = load_function(service.scorer)(run)
        scorer.setup()
        start = time.perf_counter()
        metrics = checked(scorer(parameters, seed))
        result = {"default": metrics["error"], "metrics": metrics}
    except Exception as error:
        # NNI wants a number; the tuner reads "failed" and never this one.
        result = {"default": 1.0, "failed": reason_of(error)}
    nni.report_final_result(result | {"seconds": time.perf_counter() - start})


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the trial program."""
    parser = argparse.ArgumentParser(description="score one candidate of an NNI experiment")
    parser.add_argument("--run", type=Path, required=True, help="run directory")
    trial(parser.parse_args(arguments).run)


if __name__ == "__main__":
    main()
