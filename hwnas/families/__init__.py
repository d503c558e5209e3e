"""Student families: `Candidate -> Graph`, one module a family. Pure Python; no torch."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.errors import lookup
from hwnas.families import lstm, microresnet, mobilenet1d, modality_conv, spectral, stages
from hwnas.families.stages import Family
from hwnas.graph import Graph, Node, Shape
from hwnas.space import Candidate, SearchSpace

FAMILIES: dict[str, Family] = {
    "mobilenet1d": Family(mobilenet1d.STAGES),
    "microresnet": Family(microresnet.STAGES),
    "lstm": Family(lstm.STAGES),
    "modality_conv": Family(modality_conv.STAGES),
    "spectral": Family(spectral.STAGES, spectral.add_head),
}


def build(candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for a window of shape (channels, length) and that many outputs.

    Where one output is asked for, a value, a family may answer by classes of it: `spectral` has a logit for each of its bands.
    """
    return stages.build(lookup(FAMILIES, candidate.family, "family"), candidate, window, outputs)


def reach(space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator that some candidate of `space` contains, with the shape it reads; may repeat."""
    return stages.reach(lookup(FAMILIES, space.family, "family"), space, window, outputs)
