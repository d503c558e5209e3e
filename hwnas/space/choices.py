"""Search spaces: YAML -> choices -> NNI search space, and `Candidate`, one frozen point of it. Reads YAML; no torch.

A space is a flat list of named choices, because that is what every NNI tuner understands. Choices of blocks that a candidate does
not have are inactive; `Candidate` drops them, so that two points that differ only there are one candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt, MinLen
from pydantic import field_validator

from hwnas.config import Model, load
from hwnas.errors import ConfigError, unknown
from hwnas.resources import folder

Choices = Annotated[list[Annotated[int, Gt(0)]], MinLen(1)]


class _Group(Model):
    @field_validator("*", mode="after")
    @classmethod
    def _distinct(cls, value: Any) -> Any:
        if isinstance(value, list) and len(set(value)) != len(value):
            raise ValueError("choices must be distinct")
        return value


class StemChoices(_Group):
    """Choices of the first convolution."""

    channels: Choices
    kernel: Choices
    stride: Choices


class BlockChoices(_Group):
    """Choices of one block; every block has the same."""

    channels: Choices
    kernel: Choices
    stride: Choices
    expansion: Choices


class SearchSpace(_Group):
    """One student family's choices, as its YAML file holds them."""

    family: str
    description: str
    stem: StemChoices
    blocks: Choices
    block: BlockChoices

    @cached_property
    def choices(self) -> dict[str, list[int]]:
        """Every choice by its flat name: `stem_kernel`, `blocks`, `block1_channels`..."""
        flat = {f"stem_{name}": list(values) for name, values in self.stem.model_dump().items()}
        flat["blocks"] = list(self.blocks)
        for i in range(1, max(self.blocks) + 1):
            flat |= {f"block{i}_{name}": list(values) for name, values in self.block.model_dump().items()}
        return flat

    @property
    def size(self) -> int:
        """Number of distinct candidates (active choices only)."""
        stem = math.prod(len(v) for v in self.stem.model_dump().values())
        block = math.prod(len(v) for v in self.block.model_dump().values())
        return int(stem * sum(block**n for n in self.blocks))

    def to_nni(self) -> dict[str, dict[str, Any]]:
        """The space in NNI's search-space format."""
        return {name: {"_type": "choice", "_value": values} for name, values in self.choices.items()}

    def candidate(self, parameters: Mapping[str, Any]) -> Candidate:
        """The candidate that a tuner's parameters describe.

        Raises:
            ConfigError: a choice is missing, unknown, or has a value that the space does not declare.
        """
        choices = self.choices
        count = parameters.get("blocks")
        for name in parameters:
            if name not in choices:
                raise ConfigError(unknown("choice", name, choices))
        active = []
        for name, allowed in choices.items():
            if name.startswith("block") and name != "blocks" and count is not None and _block_number(name) > count:
                continue
            value = parameters.get(name)
            if value not in allowed:
                raise ConfigError(f"choice '{name}' of space '{self.family}': got {value!r}, allowed are {allowed}")
            active.append((name, int(value)))
        return Candidate(self.family, tuple(active))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of a space: the family and its active choices, in the space's order."""

    family: str
    choices: tuple[tuple[str, int], ...]

    @property
    def values(self) -> dict[str, int]:
        """The active choices by name."""
        return dict(self.choices)


def _block_number(name: str) -> int:
    return int(name[5 : name.index("_")])


def names() -> list[str]:
    """Names of the spaces that are installed."""
    return sorted(path.stem for path in folder("search_spaces").glob("*.yaml"))


def read(name_or_path: str) -> SearchSpace:
    """The space of that name, or in that YAML file.

    Raises:
        ConfigError: no such space, or a file that is not one.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return load(Path(name_or_path), SearchSpace)
    if name_or_path not in names():
        raise ConfigError(unknown("search space", name_or_path, names()))
    return load(folder("search_spaces") / f"{name_or_path}.yaml", SearchSpace)
