"""Student families: `Candidate -> Graph`, one module a family. Pure Python; no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hwnas.errors import lookup
from hwnas.families import lstm, microresnet, mobilenet1d, modality_conv, stages
from hwnas.families.stages import Stage
from hwnas.graph import Graph, Node, Shape
from hwnas.space import Candidate, SearchSpace

FAMILIES: dict[str, Sequence[Stage]] = {
    "mobilenet1d": mobilenet1d.STAGES,
    "microresnet": microresnet.STAGES,
    "lstm": lstm.STAGES,
    "modality_conv": modality_conv.STAGES,
}


def build(candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for a window of shape (channels, length) and that many outputs."""
    return stages.build(lookup(FAMILIES, candidate.family, "family"), candidate, window, outputs)


def reach(space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator that some candidate of `space` contains, with the shape it reads; may repeat."""
    return stages.reach(lookup(FAMILIES, space.family, "family"), space, window, outputs)
