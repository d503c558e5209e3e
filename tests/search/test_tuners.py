"""One suite over every tuner behind the gate, then what ParetoTuner alone promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from hwnas.space.joint import FAMILY_CHOICE

SEEDED: dict[str, Callable[[], Tuner]] = {name: lambda name=name: make(name, 5) for name in TUNERS}  # type: ignore[misc]
ALL = {**SEEDED, "evolution": lambda: EvolutionTuner("minimize", 16)}


def space_of(**choices: list[Any]) -> dict[str, Any]:
    return {name: {"_type": "choice", "_value": values} for name, values in choices.items()}


SPACES = {"single": toy.space(), "joint": toy.joint_space()}
Played = tuple[list[dict[str, Any]], list[Proposal], GatedTuner]


def play(tuner: Tuner, trials: int, judge: Any = None, generation: int = 4, space: Any = None) -> Played:
    """A search without processes: parameters in order of proposal, everything that the gate reported, and the gate."""
    proposals: list[Proposal] = []
    gate = GatedTuner(tuner, judge or toy.ToyJudge(), report=proposals.append)
    gate.update_search_space(space or toy.space())
    scorer, found = toy.ToyScorer(), []
    for start in range(0, trials, generation):
        batch = [(i, gate.generate_parameters(i)) for i in range(start, min(start + generation, trials))]
        for i, parameters in batch:
            failed = i % 7 == 3
            gate.receive_trial_result(i, parameters, {"failed": "by design"} if failed else scorer(parameters, i))
        found += [p for _, p in batch]
    return found, proposals, gate


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
@pytest.mark.parametrize("name", ALL)
def test_every_tuner_gives_new_candidates_within_budget(name: str, space: dict[str, Any]) -> None:
    found, proposals, gate = play(ALL[name](), 24, space=space)
    judge = toy.ToyJudge()
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


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
@pytest.mark.parametrize("name", SEEDED)
def test_one_seed_one_search(name: str, space: dict[str, Any]) -> None:
    first, again = (play(make(name, 5, toy.active), 24, space=space) for _ in range(2))
    assert first[0] == again[0]
    assert first[1] == again[1]
    other = play(make(name, 6, toy.active), 24, space=space)
    assert first[0] != other[0]


@pytest.mark.parametrize("name", ALL)
def test_a_budget_nothing_meets(name: str) -> None:
    gate = GatedTuner(ALL[name](), toy.ToyJudge(allowance=1e-4), patience=200)
    gate.update_search_space(toy.space())
    with pytest.raises(BudgetError, match=r"latency_us at least \d+ \(allowed 1\)"):
        gate.generate_parameters(0)


def test_nothing_but_failures_and_repeats_breeds_nothing() -> None:
    """No parent is known then: proposals stay random."""
    tuner = ParetoTuner(0)
    tuner.update_search_space(toy.space())
    for number in range(120):
        parameters = tuner.generate_parameters(number)
        tuner.receive_trial_result(number, parameters, {"duplicate": True} if number else {"failed": "no"})


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
    _, layers = toy.network(parameters)
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
        found, _, gate = play(make("pareto", seed, toy.active), 10, narrow_judge)
        assert len(found) == 10
        assert gate.counts.rejected < 1500


def volume(tuner: Tuner, trials: int, space: Any = None) -> float:
    found, _, _ = play(tuner, trials, generation=8, space=space)
    judge, scorer = toy.ToyJudge(), toy.ToyScorer()
    points = [Objectives.of({**judge(p).cost, **scorer(p, 0)}) for p in found]
    return pareto.hypervolume(pareto.as_rows(points), (0.5, 8_000, 2_560, 8_200))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_evolution_beats_random_at_equal_trials(space: dict[str, Any]) -> None:
    evolved = [volume(make("pareto", seed, toy.active), 96, space) for seed in range(12)]
    random = [volume(make("random", seed), 96, space) for seed in range(12)]
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


def family_of(parameters: dict[str, Any]) -> str:
    return str(parameters[FAMILY_CHOICE])


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_candidates_that_differ_in_inactive_choices_only_are_proposed_once(space: dict[str, Any]) -> None:
    _, _, gate = play(make("pareto", 3, toy.active), 120, generation=8, space=space)
    assert gate.counts.duplicate == 0
    _, _, blind = play(make("pareto", 3), 120, generation=8, space=space)
    assert blind.counts.duplicate > 20, "the toy would have shown it"


def test_the_first_proposals_are_spread_evenly_over_families() -> None:
    found, _, _ = play(make("pareto", 1, toy.active), 12, judge=toy.ToyJudge(allowance=1e9), space=toy.joint_space(), generation=12)
    assert Counter(map(family_of, found)) == dict.fromkeys(toy.FAMILIES, 4)


@dataclass(frozen=True)
class Hopeless(toy.ToyJudge):
    """One family never fits."""

    family: str = "heavy"

    def __call__(self, parameters: Any) -> Verdict:
        verdict = super().__call__(parameters)
        return replace(verdict, violations={"ram_bytes": (2.0, 1.0)}) if verdict.family == self.family else verdict


def test_a_family_that_never_fits_does_not_hold_up_the_others() -> None:
    found, _, gate = play(make("pareto", 1, toy.active), 60, judge=Hopeless(), space=toy.joint_space(), generation=12)
    first = Counter(map(family_of, found[:12]))
    assert set(first) == {"plain", "slim"} and max(first.values()) <= 7
    assert gate.counts.rejected < 400


def test_a_child_has_no_genes_of_a_family_that_its_parents_did_not_try() -> None:
    """What is active in one parent only comes from that parent, so that a cross between families is one of the two before it mutates."""
    tuner = ParetoTuner(2, toy.active, mutation=0.0)
    tuner.update_search_space(toy.joint_space())
    choices = tuner._choices
    rng = np.random.default_rng(0)
    for _ in range(50):
        pair = [tuple(int(i) for i in rng.integers(choices.sizes)) for _ in range(2)]
        child = tuner._child([pair])
        if family_of(choices.parameters(pair[0])) != family_of(choices.parameters(pair[1])):
            assert choices.canonical(child) in {choices.canonical(g) for g in pair}


def test_a_mutation_always_changes_the_candidate() -> None:
    """However many choices are inactive, the expected number of changes is one of active ones."""
    tuner = ParetoTuner(2, toy.active, mutation=1000.0)
    tuner.update_search_space(toy.joint_space())
    choices = tuner._choices
    parent = tuner._random()
    names = toy.active(choices.parameters(parent))
    for _ in range(20):
        before, after = choices.parameters(parent), choices.parameters(tuner._child([[parent]]))
        assert {name for name in names if before[name] != after[name]} == names


@pytest.mark.parametrize("start", range(3))
def test_every_candidate_of_a_small_joint_space_is_proposed_and_then_no_more(start: int) -> None:
    space = toy.joint_space()
    for name, entry in space.items():
        kind = name.partition(".")[2]
        space[name] = entry | {
            "_value": entry["_value"][: 3 if kind == "depth" else 2 if kind == "kernel1" else 1] if kind else entry["_value"]
        }
    gate = GatedTuner(make("pareto", start, toy.active), toy.ToyJudge(allowance=1e9))
    gate.update_search_space(space)
    labels = set()
    with pytest.raises(nni.NoMoreTrialError):
        for i in range(100):
            parameters = gate.generate_parameters(i)
            labels.add(toy.network(parameters))
            gate.receive_trial_result(i, parameters, toy.ToyScorer()(parameters, i))
    assert len(labels) == 3 * 3 * 2 and gate.counts.duplicate == 0
