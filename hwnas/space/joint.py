"""Several search spaces as one. Reads YAML through `hwnas.space`; no torch.

One space keeps its plain names. Several are flat all the same, because that is what every NNI tuner understands: the choice `space`
names the family, and `FAMILY.choice` is a choice of that family. Choices of the other families are inactive, as those of absent
blocks are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hwnas.errors import ConfigError, unknown
from hwnas.space.choices import Candidate, SearchSpace, read

FAMILY_CHOICE = "space"


@dataclass(frozen=True)
class JointSpace:
    """One or several spaces, each of another family.

    Raises:
        ConfigError: none, or two of one family.
    """

    spaces: tuple[SearchSpace, ...]

    def __post_init__(self) -> None:
        if not self.spaces:
            raise ConfigError("a search needs at least one search space; `hwnas spaces` lists them")
        repeated = sorted({family for family in self.families if self.families.count(family) > 1})
        if repeated:
            raise ConfigError(f"search spaces: '{repeated[0]}' is given twice; give each family once")

    @property
    def families(self) -> tuple[str, ...]:
        """The families, in the order given; they are the names of the spaces too."""
        return tuple(space.family for space in self.spaces)

    @cached_property
    def choices(self) -> dict[str, list[Any]]:
        """Every choice by its flat name."""
        if len(self.spaces) == 1:
            return dict(self.spaces[0].choices)
        flat: dict[str, list[Any]] = {FAMILY_CHOICE: list(self.families)}
        for space in self.spaces:
            flat |= {f"{space.family}.{name}": list(values) for name, values in space.choices.items()}
        return flat

    @property
    def size(self) -> int:
        """Number of distinct candidates."""
        return sum(space.size for space in self.spaces)

    def to_nni(self) -> dict[str, dict[str, Any]]:
        """The space in NNI's search-space format."""
        return {name: {"_type": "choice", "_value": values} for name, values in self.choices.items()}

    def candidate(self, parameters: Mapping[str, Any]) -> Candidate:
        """The candidate that a tuner's parameters describe; its family tells which space it is of.

        Raises:
            ConfigError: a choice is missing, unknown, or has a value that its space does not declare.
        """
        return self._chosen(parameters)[1]

    def active(self, parameters: Mapping[str, Any]) -> frozenset[str]:
        """Names of the choices that decide the candidate; whatever the others are, it is the same one. Raises as `candidate`."""
        prefix, candidate = self._chosen(parameters)
        names = frozenset(prefix + name for name in candidate.values)
        return names | {FAMILY_CHOICE} if prefix else names

    def of(self, family: str) -> SearchSpace:
        """The space of that family."""
        return self.spaces[self.families.index(family)]

    def parameters(self, family: str, choices: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of this space for the choices, by their plain names, of one family."""
        if len(self.spaces) == 1:
            return dict(choices)
        return {FAMILY_CHOICE: family} | {f"{family}.{name}": value for name, value in choices.items()}

    def _chosen(self, parameters: Mapping[str, Any]) -> tuple[str, Candidate]:
        """(what stands before the names of the chosen family's choices, the candidate)."""
        if len(self.spaces) == 1:
            return "", self.spaces[0].candidate(parameters)
        for name in parameters:
            if name not in self.choices:
                raise ConfigError(unknown("choice", name, self.choices))
        family = parameters.get(FAMILY_CHOICE)
        if family not in self.families:
            raise ConfigError(f"choice '{FAMILY_CHOICE}': got {family!r}, allowed are {list(self.families)}")
        prefix = f"{family}."
        own = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
        return prefix, self.of(family).candidate(own)


def read_joint(names_or_paths: Sequence[str]) -> JointSpace:
    """The spaces of those names, or in those YAML files, as one.

    Raises:
        ConfigError: no such space, a file that is not one, or a family given twice.
    """
    return JointSpace(tuple(read(name) for name in names_or_paths))
