"""A family as a sequence of stages, and what follows from it: networks of candidates, and everything they can contain. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hwnas.families.head import add_head
from hwnas.families.walk import Part, Walk
from hwnas.graph import Graph, GraphBuilder, Input, Node, Shape
from hwnas.space import Candidate, SearchSpace


class Stage(NamedTuple):
    """A part of the network and the group of choices that it takes; `times` names the choice that says how often it stands there."""

    part: Part
    group: str
    times: str = ""


class Family(NamedTuple):
    """Stages, and the head behind them: it takes the choice `outputs`, how many are asked for."""

    stages: Sequence[Stage]
    head: Part = add_head


def build(family: Family, candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for windows of shape `window` (channels, length): its stages, then a head of `outputs` logits."""
    builder = GraphBuilder()
    x = builder.add(Input(window.channels, window.length))
    for part, group, times in family.stages:
        groups = [f"{group}{i}" for i in range(1, candidate.values[times] + 1)] if times else [group]
        for each in groups:
            x = part(builder, x, **candidate.group(each))
    family.head(builder, x, outputs)
    return builder.build()


def reach(family: Family, space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator of the space: the shapes that each stage can stand at, and what each choice adds there."""
    walk = Walk()
    shapes = {window}
    for part, group, times in family.stages:
        choices = space.combinations(group)
        shapes = walk.repeat(shapes, part, choices, space.choices[times]) if times else walk.step(shapes, part, choices)
    walk.step(shapes, family.head, [{"outputs": outputs}])
    return iter(walk)
