"""Students of a wanted size: `nearest` takes any architecture of a space, `ladder` one shape at several widths. Reads YAML; no torch.

A study over capacity should change capacity alone. Rungs of a ladder therefore share the middle value of everything that is no size
(filter lengths, strides, dilation, pooling), and all their widths stand at about the same place of their choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwnas import families
from hwnas import space as spaces
from hwnas.errors import UsageError
from hwnas.graph import Graph, Shape
from hwnas.space import Candidate, SearchSpace

DRAWS = 2000
SEED = 0
WIDTHS = ("channels", "units", "expansion")  # choices that make a network larger and change nothing else
DEPTHS = ("blocks", "convs")
JITTER = 0.2  # of a width's range, around the place that all widths of a rung share
TOLERANCE = 0.1  # a rung may be so much smaller than wanted

Sized = tuple[Candidate, Graph]


@dataclass(frozen=True)
class Rung:
    """One student of a ladder; `wanted` is the number of parameters that it was chosen for."""

    wanted: int
    candidate: Candidate
    graph: Graph


@dataclass(frozen=True)
class Ladder:
    """Students of growing size, and in `gaps` a sentence for every wanted size that the space does not offer."""

    rungs: tuple[Rung, ...]
    gaps: tuple[str, ...]


def nearest(space_name: str, window: Shape, outputs: int, parameters: int) -> Sized:
    """The student of the space with the most parameters that are not above `parameters`; of several the one with the fewest MACs.

    It is the best of 2,000 random candidates, the same ones every time.

    Raises:
        UsageError: an unknown space, or a size that no candidate is small enough for.
    """
    space = spaces.read(space_name)
    generator = np.random.default_rng(SEED)
    drawn = _built([_any(space, generator) for _ in range(DRAWS)] + _scaled(space, generator, DRAWS // 10), window, outputs)
    fitting = [each for each in drawn if each[1].parameters <= parameters]
    if not fitting:
        least = min(graph.parameters for _, graph in drawn)
        raise UsageError(
            f"space '{space_name}': no student of at most {parameters:,} parameters for windows of {window.channels} x {window.length}; "
            f"the smallest of {len(drawn):,} candidates has {least:,}. Ask for that many at least, or choose another space"
        )
    return max(fitting, key=lambda each: (each[1].parameters, -each[1].macs))


def ladder(space_name: str, window: Shape, outputs: int, smallest: int, largest: int, steps: int) -> Ladder:
    """`steps` students from `smallest` to `largest` parameters, evenly spaced in log parameters, none above what is wanted.

    Of the candidates within a tenth below a wanted size the rung is the one whose depth is nearest to the middle of the space's,
    then the one with the median of MACs.

    Raises:
        UsageError: an unknown space, sizes that do not grow, fewer than two steps, or fewer than two sizes that the space offers.
    """
    if steps < 2 or not 0 < smallest < largest:
        raise UsageError(f"{steps} sizes from {smallest:,} to {largest:,} parameters: ask for two at least, the smallest below the largest")
    space = spaces.read(space_name)
    drawn = _built(_scaled(space, np.random.default_rng(SEED), DRAWS), window, outputs)
    rungs: list[Rung] = []
    gaps = []
    for wanted in (round(float(size)) for size in np.geomspace(smallest, largest, steps)):
        near = [each for each in drawn if wanted * (1 - TOLERANCE) <= each[1].parameters <= wanted]
        taken = {rung.graph.hash for rung in rungs}
        chosen = _typical(space, [each for each in near if each[1].hash not in taken])
        if chosen is None:
            gaps.append(_gap(space_name, wanted, drawn, bool(near)))
        else:
            rungs.append(Rung(wanted, *chosen))
    if len(rungs) < 2:
        raise UsageError(f"space '{space_name}' offers {len(rungs)} of {steps} sizes: {'; '.join(gaps)}. Choose other sizes or spaces")
    return Ladder(tuple(rungs), tuple(gaps))


def _any(space: SearchSpace, generator: np.random.Generator) -> Candidate:
    return space.candidate({name: values[generator.integers(len(values))] for name, values in space.choices.items()})


def _scaled(space: SearchSpace, generator: np.random.Generator, count: int) -> list[Candidate]:
    """Candidates of one shape: each has a scale from 0 to 1, its widths stand there among their values, give or take the jitter."""
    shape = {name: values[(len(values) - 1) // 2] for name, values in space.choices.items()}
    found = []
    for scale in np.linspace(0.0, 1.0, count):
        chosen = dict(shape)
        for name, values in space.choices.items():
            if name.endswith(WIDTHS):
                place = np.clip(scale + generator.uniform(-JITTER, JITTER), 0.0, 1.0)
                chosen[name] = values[round(float(place) * (len(values) - 1))]
            elif name.endswith(DEPTHS):
                chosen[name] = values[generator.integers(len(values))]
        found.append(space.candidate(chosen))
    return found


def _built(candidates: Sequence[Candidate], window: Shape, outputs: int) -> list[Sized]:
    """Each distinct candidate with its network."""
    return [(candidate, families.build(candidate, window, outputs)) for candidate in dict.fromkeys(candidates)]


def _typical(space: SearchSpace, near: Sequence[Sized]) -> Sized | None:
    """Of candidates of one size: nearest to the middle depth, then the median of MACs."""
    if not near:
        return None

    def unusual(each: Sized) -> int:
        values = each[0].values
        return sum(abs(space.choices[n].index(values[n]) - (len(space.choices[n]) - 1) // 2) for n in values if n.endswith(DEPTHS))

    least = min(map(unusual, near))
    usual = sorted((each for each in near if unusual(each) == least), key=lambda each: (each[1].macs, each[1].parameters, each[0].choices))
    return usual[len(usual) // 2]


def _gap(space_name: str, wanted: int, drawn: Sequence[Sized], taken: bool) -> str:
    sizes = sorted(graph.parameters for _, graph in drawn)
    below, above = [size for size in sizes if size <= wanted], [size for size in sizes if size > wanted]
    why = f"the smallest of its students of one shape has {sizes[0]:,}"
    if taken:
        why = "its students of that size are taken already"
    elif below and above:
        why = f"its students of one shape go from {below[-1]:,} to {above[0]:,} there"
    elif below:
        why = f"the largest of its students of one shape has {below[-1]:,}"
    return f"no student of about {wanted:,} parameters in space '{space_name}': {why}"
