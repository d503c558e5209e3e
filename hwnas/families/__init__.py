"""Student families: `Candidate -> Graph`, one module a family. Pure Python; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwnas.errors import lookup
from hwnas.families import lstm, microresnet, mobilenet1d, modality_conv
from hwnas.graph import Graph, Node, Shape
from hwnas.space import Candidate, SearchSpace

Builder = Callable[[Candidate, Shape, int], Graph]
Reach = Callable[[SearchSpace, Shape, int], Iterator[tuple[Node, Shape]]]

FAMILIES: dict[str, Builder] = {
    "mobilenet1d": mobilenet1d.build,
    "microresnet": microresnet.build,
    "lstm": lstm.build,
    "modality_conv": modality_conv.build,
}
REACHES: dict[str, Reach] = {
    "mobilenet1d": mobilenet1d.reach,
    "microresnet": microresnet.reach,
    "lstm": lstm.reach,
    "modality_conv": modality_conv.reach,
}


def build(candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for a window of shape (channels, length) and that many outputs."""
    return lookup(FAMILIES, candidate.family, "family")(candidate, window, outputs)


def reach(space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator that some candidate of `space` contains, with the shape it reads; may repeat."""
    return lookup(REACHES, space.family, "family")(space, window, outputs)
