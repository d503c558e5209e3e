"""`ParetoTuner`: constrained multi-objective evolution behind NNI's tuner contract. numpy and nni; no torch, no files.

Selection as in NSGA-II (Deb et al., IEEE Trans. Evol. Comput. 6(2), 2002), in steady state: parents of a proposal are drawn by
binary tournaments among the best candidates known so far. Half of the tournaments rank a front by crowding distance, which keeps
its ends (the smallest error among them), half by hypervolume contribution (Emmerich et al., EMO 2005), which fills its middle.
Infeasible candidates never mix with scored ones: they only serve, by least violation (constrained domination, first paper, VI),
while too few feasible ones are known to breed from.

Not every choice decides every candidate: a choice of an absent block, or of another family, is inactive. Candidates are told apart
by their active choices alone; a child takes a choice from the parent in which it is active, and only active ones mutate. Inactive
ones are drawn anew now and then: otherwise a good candidate would always try one and the same new block, and no other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import nni
import numpy as np
import numpy.typing as npt
from nni.tuner import Tuner

from hwnas import pareto
from hwnas.errors import ConfigError
from hwnas.pareto import Objectives
from hwnas.search.verdict import Active, all_active
from hwnas.space.joint import FAMILY_CHOICE

Genome = tuple[int, ...]
Pool = list[Genome]
ATTEMPTS = 64
DRIFT = 0.5  # probability that an inactive choice of a child is drawn anew
REFUSALS = 20  # of a family weigh as much as one candidate of another that passed, when first proposals are spread


class Choices:
    """A search space of NNI's `choice` entries: parameters <-> genome (one index per choice, in the space's order).

    Raises:
        ConfigError: an entry of another type, an empty or a nested one.
    """

    def __init__(self, space: Mapping[str, Any], active: Active = all_active) -> None:
        if not space:
            raise ConfigError("the search space is empty; it needs at least one choice")
        self.values: dict[str, list[Any]] = {}
        for name, entry in space.items():
            kind = entry.get("_type") if isinstance(entry, Mapping) else None
            values = entry.get("_value") if isinstance(entry, Mapping) else None
            if kind != "choice":
                raise ConfigError(f"search space entry '{name}': got type {kind!r}; only 'choice' is allowed, list the values")
            if not isinstance(values, list) or not values or any(isinstance(v, Mapping) for v in values):
                raise ConfigError(f"search space entry '{name}': got {values!r}; allowed is a non-empty list of plain values")
            self.values[name] = values
        self.sizes = np.array([len(v) for v in self.values.values()])
        self.ordered = [_is_ordered(v) for v in self.values.values()]
        self.family = list(self.values).index(FAMILY_CHOICE) if FAMILY_CHOICE in self.values else None
        self._active = active
        self._index = {name: {_key(v): i for i, v in enumerate(values)} for name, values in self.values.items()}

    def parameters(self, genome: Genome) -> dict[str, Any]:
        """The values that `genome` points to."""
        return {name: values[i] for (name, values), i in zip(self.values.items(), genome, strict=True)}

    def genome(self, parameters: Mapping[str, Any]) -> Genome | None:
        """The inverse of `parameters`; None for parameters that are not of this space."""
        try:
            return tuple(self._index[name][_key(parameters[name])] for name in self.values)
        except KeyError:
            return None

    def active(self, genome: Genome) -> npt.NDArray[np.bool_]:
        """Which choices decide the candidate, a flag each."""
        names = self._active(self.parameters(genome))
        return np.array([name in names for name in self.values])

    def canonical(self, genome: Genome) -> Genome:
        """The one genome of its candidate in which inactive choices are at their first value."""
        return tuple(i if on else 0 for i, on in zip(genome, self.active(genome), strict=True))

    def successor(self, genome: Genome) -> Genome | None:
        """The canonical genome after a canonical one, as an odometer counts, last choice fastest; None after the last.

        From the first genome on it passes every candidate, provided that what makes a choice active stands before that choice.
        """
        for position in np.flatnonzero(self.active(genome))[::-1]:
            if genome[position] + 1 < self.sizes[position]:
                return self.canonical((*genome[:position], genome[position] + 1, *[0] * (len(genome) - position - 1)))
        return None


class ParetoTuner(Tuner):  # type: ignore[misc]
    """Evolution over `pareto.Objectives`; plugs into an NNI experiment or the in-process driver.

    Results it understands: a dict with the objectives by name; `{"rejected": {limit: (needed, allowed)}}`; `{"duplicate": true}`;
    `{"failed": reason}`. The state is a function of `seed` and the sequence of calls, and of nothing else.

    Args:
        seed: of the tuner's own generator.
        active: the names of the choices that decide the candidate of given parameters.
        population: scored candidates that may become parents, and proposals drawn at random before evolution begins. Where the space
            has families, those are spread evenly over them.
        mutation: expected number of choices that a mutation changes.
        fresh: share of proposals drawn at random for good.
    """

    understands_verdicts = True

    def __init__(
        self, seed: int = 0, active: Active = all_active, population: int = 12, mutation: float = 1.0, fresh: float = 0.05
    ) -> None:
        super().__init__()
        self._rng, self._active = np.random.default_rng(seed), active
        self._population, self._mutation, self._fresh = population, mutation, fresh
        self._space: Choices | None = None
        self._pending: dict[int, Genome] = {}
        self._issued: set[Genome] = set()
        self._scored: dict[Genome, Objectives] = {}
        self._violation: dict[Genome, float] = {}
        self._issued_of, self._refused_of = Counter[int](), Counter[int]()
        self._pools: list[Pool] = []

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Take the space, before the first proposal. Raises ConfigError for entries that are not plain choices."""
        self._space = Choices(search_space, self._active)

    def generate_parameters(self, parameter_id: int, **_: Any) -> dict[str, Any]:
        """A candidate that this tuner has not proposed before. Raises nni.NoMoreTrialError when there is none left."""
        genome = self._new_genome()
        self._issued.add(self._choices.canonical(genome))
        self._issued_of[self._family(genome)] += 1
        self._pending[parameter_id] = genome
        return self._choices.parameters(genome)

    def receive_trial_result(self, parameter_id: int, parameters: Mapping[str, Any], value: Any, **_: Any) -> None:
        """Take a result; see the class for its forms."""
        genome = self._pending.pop(parameter_id, None) or self._choices.genome(parameters)
        if genome is not None:
            self._learn(genome, value)

    def trial_end(self, parameter_id: int, success: bool, **_: Any) -> None:
        """A trial without a result is forgotten as a parent; it is still never proposed again."""
        if not success:
            self._pending.pop(parameter_id, None)

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Learn from results of an earlier run: a list of `{"parameter", "value"}`."""
        for row in data:
            genome = self._choices.genome(row["parameter"])
            if genome is not None:
                self._issued.add(self._choices.canonical(genome))
                self._issued_of[self._family(genome)] += 1
                self._learn(genome, row["value"])

    @property
    def _choices(self) -> Choices:
        if self._space is None:
            raise ConfigError("the tuner has no search space; call update_search_space first")
        return self._space

    def _learn(self, genome: Genome, value: Mapping[str, Any]) -> None:
        if "rejected" in value or "duplicate" in value:
            self._refused_of[self._family(genome)] += 1
        if "rejected" in value:
            self._violation[genome] = sum(needed / allowed - 1 for needed, allowed in value["rejected"].values())
        elif "duplicate" not in value and "failed" not in value:
            self._scored[genome] = Objectives.of(value)
            self._pools = []

    def _family(self, genome: Genome) -> int:
        """Index of a genome's family; 0 where the space has none."""
        return 0 if self._choices.family is None else genome[self._choices.family]

    def _new_genome(self) -> Genome:
        parents = self._parents() if self._should_breed() else None
        for _ in range(ATTEMPTS):
            genome = self._random() if parents is None or self._rng.random() < self._fresh else self._child(parents)
            if self._choices.canonical(genome) not in self._issued:
                return genome
        return self._next_unseen(self._choices.canonical(self._random()))

    def _should_breed(self) -> bool:
        """Once enough is scored; or at once where random candidates hardly ever fit: only breeding finds the budget then."""
        if len(self._scored) >= self._population:
            return True
        refused = self._refused_of.total()
        accepted = len(self._issued) - refused
        if accepted >= self._population:
            return len(self._scored) >= 2
        known = self._scored or self._pending or self._violation
        return bool(known) and refused >= 50 * (1 + accepted) and bool(self._rng.random() < 0.75)

    def _parents(self) -> list[Pool]:
        """The pools of parents, best first: one by crowding distance, one by hypervolume contribution."""
        if not self._pools:
            genomes, rows = list(self._scored), pareto.as_rows(list(self._scored.values()))
            ranks = pareto.ranks(rows)
            for measure in (pareto.crowding, _volume):
                merit = np.zeros(len(rows))
                for rank in np.unique(ranks):
                    members = np.flatnonzero(ranks == rank)
                    merit[members] = measure(rows[members])
                order = np.lexsort((-merit, ranks))[: self._population]
                self._pools.append([genomes[i] for i in order])
        return [self._filled(pool) for pool in self._pools]

    def _filled(self, pool: Pool) -> Pool:
        """`pool` up to its size: with candidates that fit and have no result yet, then with those that broke the budget least."""
        room = self._population - len(pool)
        if room == 0:
            return pool
        waiting = list(self._pending.values())[:room]
        spare = sorted(self._violation, key=self._violation.__getitem__)[: room - len(waiting)]
        return pool + waiting + spare

    def _child(self, pools: list[Pool]) -> Genome:
        first, second = self._tournament(pools), self._tournament(pools)
        mask = self._rng.random(len(first)) < 0.5
        in_first, in_second = self._choices.active(first), self._choices.active(second)
        mask = np.where(in_first == in_second, mask, in_first)
        crossed = [a if m else b for a, b, m in zip(first, second, mask, strict=True)]
        active = self._choices.active(tuple(crossed))
        chance = self._rng.random(len(active))
        for i in np.flatnonzero(active & (chance < self._mutation / active.sum())):
            crossed[i] = self._mutate(int(i), crossed[i])
        for i in np.flatnonzero(~active & (chance < DRIFT)):
            crossed[i] = int(self._rng.integers(self._choices.sizes[i]))
        return tuple(crossed)

    def _tournament(self, pools: list[Pool]) -> Genome:
        """The better of two of a pool drawn by lot; pools are sorted, so the better one has the smaller index."""
        pool = pools[int(self._rng.integers(len(pools)))]
        return pool[int(self._rng.integers(len(pool), size=2).min())]

    def _mutate(self, position: int, index: int) -> int:
        """Mostly a step to a neighbouring value where values are ordered, otherwise any other value."""
        size = int(self._choices.sizes[position])
        if size == 1:
            return index
        if self._choices.ordered[position] and self._rng.random() < 0.7:
            step = index + (1 if self._rng.random() < 0.5 else -1)
            return step if 0 <= step < size else 2 * index - step
        other = int(self._rng.integers(size - 1))
        return other + (other >= index)

    def _random(self) -> Genome:
        """Any candidate, of the family that was tried least where there are several."""
        genome = [int(i) for i in self._rng.integers(self._choices.sizes)]
        if self._choices.family is not None:
            genome[self._choices.family] = min(range(int(self._choices.sizes[self._choices.family])), key=self._tried)
        return tuple(genome)

    def _tried(self, family: int) -> float:
        """How much was tried of a family: what passed, and a little of what was refused, lest a hopeless one holds up the others."""
        refused = self._refused_of[family]
        return self._issued_of[family] - refused + refused / REFUSALS

    def _next_unseen(self, start: Genome) -> Genome:
        """Count up from `start` to a candidate that was not proposed, to the end and once more from the beginning.

        Raises:
            nni.NoMoreTrialError: there is none.
        """
        for first in (start, (0,) * len(start)):
            genome: Genome | None = first
            while genome is not None:
                if genome not in self._issued:
                    return genome
                genome = self._choices.successor(genome)
        raise nni.NoMoreTrialError("every candidate of the search space was proposed")


def _volume(rows: pareto.Rows) -> pareto.Rows:
    """Hypervolume contribution of every row, costs on a logarithmic scale, so that a saving counts by its share."""
    scaled = np.column_stack((rows[:, 0], np.log(np.maximum(rows[:, 1:], 1.0))))
    low, span = scaled.min(axis=0), np.ptp(scaled, axis=0)
    return pareto.contributions((scaled - low) / np.where(span > 0, span, 1.0), np.full(rows.shape[1], 1.1))


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _is_ordered(values: list[Any]) -> bool:
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numeric and values in (sorted(values), sorted(values, reverse=True))
