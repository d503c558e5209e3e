"""The grammar of search spaces: groups, repeats and conditions of choices, and `Candidate`, one frozen point. No files; no torch.

A space is a flat list of named choices, because that is what every NNI tuner understands. Choices come in groups (`stem`), and a group
may be repeated (`block`, as often as the choice `blocks` says). A choice may hold only where others have certain values:

    dilation: {values: [1, 2, 4], when: {stride: [1]}}

Where it does not hold it is inactive, as the choices of absent blocks are. `Candidate` drops inactive choices, so that two points that
differ only there are one candidate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Gt, MinLen
from pydantic import Field, field_validator, model_validator

from hwnas.config import Model
from hwnas.errors import ConfigError, unknown

Values = dict[str, int]


class Choice(Model):
    """The values of one choice, and what others must have for it to hold. In YAML a plain list where it always holds."""

    values: Annotated[list[Annotated[int, Gt(0)]], MinLen(1)]
    when: dict[str, Annotated[list[int], MinLen(1)]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, content: Any) -> Any:
        if isinstance(content, list):
            return {"values": content}
        if not isinstance(content, dict | Choice):
            raise ValueError("expected a list of values, or {values: [...], when: {OTHER: [...]}}")
        return content

    @field_validator("values", mode="after")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        if len(set(values)) != len(values):
            raise ValueError("choices must be distinct")
        return values


class Whole(Choice):
    """A choice that may also be 0: how many there are of what may be left out, or a switch."""

    values: Annotated[list[Annotated[int, Ge(0)]], MinLen(1)]


class Group(Model):
    """Choices of one part of a network; the fields of a subclass are `Choice`s."""

    @property
    def choices(self) -> dict[str, Choice]:
        """The choices by name."""
        return _choices(self)


class Named(NamedTuple):
    """A choice by its whole name; `when` holds whole names too."""

    name: str
    values: list[int]
    when: dict[str, list[int]]


class SearchSpace(Model):
    """One student family's choices, as its YAML file holds them; subclasses declare them as `Choice`s and `Group`s.

    A group `NAME` is repeated where there is a choice `NAMEs` beside it: its count.
    """

    family: str
    description: str

    @model_validator(mode="after")
    def _sound(self) -> SearchSpace:
        outer: dict[str, Choice] = {}
        for name, part in self._parts():
            if isinstance(part, Choice):
                _check(name, part, outer)
                outer[name] = part
            else:
                inner: dict[str, Choice] = {}
                for own, choice in part.choices.items():
                    _check(f"{name}.{own}", choice, outer | inner)
                    inner[own] = choice
                reached = {own for combination in self.combinations(name) for own in combination}
                if never := [own for own in inner if own not in reached]:
                    raise ValueError(f"'{name}.{never[0]}' can never hold: what it asks for is never so at once")
        return self

    @cached_property
    def choices(self) -> dict[str, list[int]]:
        """Every choice by its flat name: `stem_kernel`, `blocks`, `block1_channels`..."""
        return {flat.name: flat.values for flat in self._flat}

    @cached_property
    def size(self) -> int:
        """Number of distinct candidates (active choices only)."""
        total = 0
        for outer in _combinations(_choices(self), {}):
            counts = []
            for name, part in self._parts():
                if isinstance(part, Group):
                    repeats = outer.get(f"{name}s", 0) if self._count(name) else 1
                    counts.append(sum(1 for _ in _combinations(part.choices, outer)) ** repeats)
            total += math.prod(counts)
        return total

    def to_nni(self) -> dict[str, dict[str, Any]]:
        """The space in NNI's search-space format."""
        return {name: {"_type": "choice", "_value": values} for name, values in self.choices.items()}

    def candidate(self, parameters: Mapping[str, Any]) -> Candidate:
        """The candidate that a tuner's parameters describe.

        Raises:
            ConfigError: a choice is missing, unknown, or has a value that the space does not declare.
        """
        for name in parameters:
            if name not in self.choices:
                raise ConfigError(unknown("choice", name, self.choices))
        active: Values = {}
        for name, allowed, when in self._flat:
            if not _hold(when, active):
                continue
            value = parameters.get(name)
            if value not in allowed:
                raise ConfigError(f"choice '{name}' of space '{self.family}': got {value!r}, allowed are {allowed}")
            active[name] = int(value)
        return Candidate(self.family, tuple(active.items()))

    def combinations(self, group: str) -> list[Values]:
        """All that a group's active choices can be at once, by their names in the group."""
        part = getattr(self, group)
        found = {tuple(inner.items()): inner for outer in _combinations(_choices(self), {}) for inner in _combinations(part.choices, outer)}
        return list(found.values())

    @property
    def declared(self) -> list[Named]:
        """Every choice once; those of a repeated group are called `blockN_kernel`."""
        found = []
        for name, part in self._parts():
            found += _named(f"{name}N" if self._count(name) else name, part)
        return found

    @cached_property
    def _flat(self) -> list[Named]:
        """Every choice of every member of every group; that the member exists is a condition like any other."""
        flat = []
        for name, part in self._parts():
            count = self._count(name)
            if count is None:
                flat += _named(name, part)
                continue
            for i in range(1, max(count.values) + 1):
                exists = {f"{name}s": [value for value in count.values if value >= i]}
                flat += [choice._replace(when=exists | choice.when) for choice in _named(f"{name}{i}", part)]
        return flat

    def _parts(self) -> Iterator[tuple[str, Choice | Group]]:
        for name in type(self).model_fields:
            part = getattr(self, name)
            if isinstance(part, Choice | Group):
                yield name, part

    def _count(self, group: str) -> Choice | None:
        """How often a group is repeated; None for one that is there once."""
        return getattr(self, f"{group}s", None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of a space: the family and its active choices, in the space's order."""

    family: str
    choices: tuple[tuple[str, int], ...]

    @property
    def values(self) -> Values:
        """The active choices by name."""
        return dict(self.choices)

    def group(self, name: str) -> Values:
        """The active choices of one group (`stem`, `block2`), by their names in the group."""
        prefix = f"{name}_"
        return {choice.removeprefix(prefix): value for choice, value in self.choices if choice.startswith(prefix)}


def _choices(part: Model) -> dict[str, Choice]:
    return {name: choice for name in type(part).model_fields if isinstance(choice := getattr(part, name), Choice)}


def _named(name: str, part: Choice | Group) -> list[Named]:
    """A choice of that name, or the choices of a group of that name."""
    if isinstance(part, Choice):
        return [Named(name, part.values, part.when)]
    own = part.choices
    return [
        Named(f"{name}_{each}", choice.values, {f"{name}_{o}" if o in own else o: values for o, values in choice.when.items()})
        for each, choice in own.items()
    ]


def _hold(when: Mapping[str, list[int]], active: Mapping[str, int]) -> bool:
    """Whether the active choices have the values that a condition asks for."""
    return all(active.get(name) in allowed for name, allowed in when.items())


def _combinations(choices: Mapping[str, Choice], others: Mapping[str, int]) -> Iterator[Values]:
    """Every combination of the active ones among `choices`, beside `others`."""
    found: list[Values] = [{}]
    for name, choice in choices.items():
        found = [
            grown
            for values in found
            for grown in ([values | {name: value} for value in choice.values] if _hold(choice.when, {**others, **values}) else [values])
        ]
    return iter(found)


def _check(path: str, choice: Choice, before: Mapping[str, Choice]) -> None:
    for other, values in choice.when.items():
        if other not in before:
            raise ValueError(f"'{path}' depends on a choice that is not declared before it: " + unknown("choice", other, before))
        if absent := [value for value in values if value not in before[other].values]:
            raise ValueError(f"'{path}' asks for {other} {absent[0]}; its values are {before[other].values}")
