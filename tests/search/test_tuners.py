"""One suite over every tuner behind the gate, then what ParetoTuner alone promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nni
import numpy as np
import pytest
from nni.algorithms.hpo.evolution_tuner import EvolutionTuner
from nni.tuner import Tuner

from hwnas import pareto
from hwnas.errors import BudgetError, ConfigError, UsageError
from hwnas.pareto import Objectives
from hwnas.search import toy
from hwnas.search.gate import GatedTuner, Proposal, Verdict
from hwnas.search.tuner import Choices, ParetoTuner
from hwnas.search.tuners import TUNERS, make

SEEDED: dict[str, Callable[[], Tuner]] = {name: lambda name=name: make(name, 5) for name in TUNERS}  # type: ignore[misc]
ALL = {**SEEDED, "evolution": lambda: EvolutionTuner("minimize", 16)}


def space_of(**choices: list[Any]) -> dict[str, Any]:
    return {name: {"_type": "choice", "_value": values} for name, values in choices.items()}


Played = tuple[list[dict[str, Any]], list[Proposal], GatedTuner]


def play(tuner: Tuner, trials: int, judge: Any = None, generation: int = 4) -> Played:
    """A search without processes: parameters in order of proposal, everything that the gate reported, and the gate."""
    proposals: list[Proposal] = []
    gate = GatedTuner(tuner, judge or toy.ToyJudge(), report=proposals.append)
    gate.update_search_space(toy.space())
    scorer, found = toy.ToyScorer(), []
    for start in range(0, trials, generation):
        batch = [(i, gate.generate_parameters(i)) for i in range(start, min(start + generation, trials))]
        for i, parameters in batch:
            failed = i % 7 == 3
            gate.receive_trial_result(i, parameters, {"failed": "by design"} if failed else scorer(parameters, i))
        found += [p for _, p in batch]
    return found, proposals, gate


@pytest.mark.parametrize("name", ALL)
def test_every_tuner_gives_new_candidates_within_budget(name: str) -> None:
    found, proposals, gate = play(ALL[name](), 24)
    judge, space = toy.ToyJudge(), toy.space()
    for parameters in found:
        assert set(parameters) == set(space)
        assert all(value in space[key]["_value"] for key, value in parameters.items())
        assert not judge(parameters).violations
    assert len({judge(p).hash for p in found}) == 24
    kinds = [p.kind for p in proposals]
    assert (gate.counts.proposed, gate.counts.rejected, gate.counts.duplicate) == tuple(
        kinds.count(k) for k in ("proposed", "rejected", "duplicate")
    )
    assert all(bool(p.verdict.violations) == (p.kind == "rejected") for p in proposals if p.kind != "duplicate")
    assert [p.id for p in proposals if p.kind == "proposed"] == list(range(24))


@pytest.mark.parametrize("name", SEEDED)
def test_one_seed_one_search(name: str) -> None:
    first, again = play(SEEDED[name](), 24), play(SEEDED[name](), 24)
    assert first[0] == again[0]
    assert first[1] == again[1]
    other = play(TUNERS[name](6), 24)
    assert first[0] != other[0]


@pytest.mark.parametrize("name", ALL)
def test_a_budget_nothing_meets(name: str) -> None:
    gate = GatedTuner(ALL[name](), toy.ToyJudge(allowance=1e-4), patience=200)
    gate.update_search_space(toy.space())
    with pytest.raises(BudgetError, match=r"latency_us at least \d+ \(allowed 1\)"):
        gate.generate_parameters(0)


@pytest.mark.parametrize("name", ALL)
def test_a_space_that_ends(name: str) -> None:
    """Six candidates, two of them over budget and two the same network: three come out, then no more."""
    space = space_of(a=[1, 2, 3], b=["x", "y"])

    def judge(p: Any) -> Verdict:
        label = "same" if p["b"] == "y" and p["a"] > 1 else f"{p['a']}{p['b']}"
        cost = {"latency_us": 1.0, "ram_bytes": 1.0, "flash_bytes": 1.0}
        return Verdict(label, cost, {"ram_bytes": (2.0, 1.0)} if label in ("3x", "1y") else {})

    gate = GatedTuner(ALL[name](), judge, patience=300)
    gate.update_search_space(space)
    labels = set()
    with pytest.raises(nni.NoMoreTrialError):
        for i in range(10):
            parameters = gate.generate_parameters(i)
            labels.add(judge(parameters).hash)
            gate.receive_trial_result(i, parameters, {"error": 0.1 * i})
    assert labels == {"1x", "2x", "same"}


def test_unknown_tuner_names_the_choices() -> None:
    with pytest.raises(UsageError, match=r"pareto, random, tpe.*Did you mean 'pareto'"):
        make("paretto", 0)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "empty"),
        ({"lr": {"_type": "uniform", "_value": [0, 1]}}, r"'lr'.*'uniform'.*only 'choice'"),
        ({"a": {"_type": "choice", "_value": []}}, r"'a'.*non-empty"),
        ({"a": {"_type": "choice", "_value": [{"_name": "x"}]}}, r"'a'.*plain values"),
        ({"a": [1, 2]}, r"'a'.*None"),
    ],
)
def test_spaces_it_cannot_search(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ParetoTuner().update_search_space(space)


def test_proposing_before_a_space_is_set() -> None:
    with pytest.raises(ConfigError, match="update_search_space"):
        ParetoTuner().generate_parameters(0)


def test_genomes_round_trip_and_keep_true_apart_from_one() -> None:
    choices = Choices(space_of(a=[True, 1, "1", 1.5], b=[[1, 2], None]))
    genomes = [(i, j) for i in range(4) for j in range(2)]
    assert [choices.genome(choices.parameters(g)) for g in genomes] == genomes
    assert choices.count == 8
    assert choices.genome({"a": 7, "b": None}) is choices.genome({"a": 1}) is None
    assert choices.ordered == [False, False]
    assert Choices(space_of(k=[9, 5, 3])).ordered == [True]


def test_mutation_reaches_every_other_value_and_never_stays() -> None:
    tuner = ParetoTuner(seed=1)
    tuner.update_search_space(space_of(k=[1, 2, 3, 4, 5], n=["a", "b", "c"]))
    for position, size in ((0, 5), (1, 3)):
        for index in range(size):
            reached = {tuner._mutate(position, index) for _ in range(200)}
            assert reached == set(range(size)) - {index}


def test_every_declared_choice_is_reached() -> None:
    found, _, _ = play(make("pareto", 0), 200, judge=toy.ToyJudge(allowance=1e9), generation=8)
    for name, entry in toy.space().items():
        assert {p[name] for p in found} == set(entry["_value"]), name


def narrow_judge(parameters: Any) -> Verdict:
    """About one candidate in 40,000 fits: four layers, narrow ones, with small kernels."""
    verdict = toy.ToyJudge(allowance=1e9)(parameters)
    layers = toy.active(parameters)
    needed = {"layers": 8.0 - len(layers), "width": float(sum(w for w, _ in layers)), "kernel": float(sum(k for _, k in layers))}
    allowed = {"layers": 4.0, "width": 24.0, "kernel": 14.0}
    return Verdict(verdict.hash, verdict.cost, {n: (v, allowed[n]) for n, v in needed.items() if v > allowed[n]})


def test_a_budget_that_chance_does_not_meet_is_found() -> None:
    """Breeding from the least violating candidates gets there well within the gate's patience."""
    rng = np.random.default_rng(0)
    space = {name: entry["_value"] for name, entry in toy.space().items()}
    lucky = sum(not narrow_judge({n: v[rng.integers(len(v))] for n, v in space.items()}).violations for _ in range(5000))
    assert lucky <= 2
    for seed in range(3):
        found, _, gate = play(make("pareto", seed), 10, narrow_judge)
        assert len(found) == 10
        assert gate.counts.rejected < 2500


def volume(tuner: Tuner, trials: int) -> float:
    found, _, _ = play(tuner, trials, generation=8)
    judge, scorer = toy.ToyJudge(), toy.ToyScorer()
    points = [Objectives.of({**judge(p).cost, **scorer(p, 0)}) for p in found]
    return pareto.hypervolume(pareto.as_rows(points), (0.5, 8_000, 2_560, 8_200))


def test_evolution_beats_random_at_equal_trials() -> None:
    evolved = [volume(make("pareto", seed), 96) for seed in range(12)]
    random = [volume(make("random", seed), 96) for seed in range(12)]
    assert np.mean(evolved) > 1.03 * np.mean(random), (evolved, random)


def test_earlier_results_are_learned_from_and_not_proposed_again() -> None:
    found, _, gate = play(make("pareto", 0), 20)
    judge, scorer = toy.ToyJudge(), toy.ToyScorer()
    fresh = GatedTuner(make("pareto", 1), judge)
    fresh.update_search_space(toy.space())
    fresh.recall([judge(p).hash for p in found], [(p, {**judge(p).cost, **scorer(p, 0)}) for p in found])
    new = [fresh.generate_parameters(i) for i in range(20)]
    assert not {judge(p).hash for p in new} & {judge(p).hash for p in found}
    assert gate.counts.proposed == 20
