"""Modality convolution: temporal convolutions shared by all modalities, one over modalities, plain temporal ones. Pure Python; no torch.

The student of PULSE (Kasnesis et al.), whose teacher attends across modalities: every channel of the window (pulse wave, each axis of
acceleration) is a modality and passes the same stem and temporal convolutions; then one convolution over modalities takes the place of
attention. Joined, modalities are channels, so that convolution is a pointwise one. A window of one channel has nothing to split or to
join; the rest is the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.families.head import add_head
from hwnas.families.walk import Walk
from hwnas.graph import AvgPool1d, Conv1d, Graph, GraphBuilder, Input, Join, Node, Shape, Split
from hwnas.space import Candidate, SearchSpace


def build(candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for windows of shape `window` (channels, length) with `outputs` logits."""
    builder = GraphBuilder()
    x = builder.add(Input(window.channels, window.length))
    x = _stem(builder, x, **candidate.group("stem"))
    for i in range(1, candidate.values["shared_blocks"] + 1):
        x = _block(builder, x, **candidate.group(f"shared_block{i}"))
    x = _mixer(builder, x, **candidate.group("mixer"))
    for i in range(1, candidate.values["blocks"] + 1):
        x = _block(builder, x, **candidate.group(f"block{i}"))
    add_head(builder, x, outputs)
    return builder.build()


def reach(space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator of the space: the shapes that each part can stand at, and what each choice adds there."""
    walk = Walk()
    shapes = walk.step([window], _stem, space.combinations("stem"))
    shapes = walk.repeat(shapes, _block, space.combinations("shared_block"), space.choices["shared_blocks"])
    shapes = walk.step(shapes, _mixer, space.combinations("mixer"))
    shapes = walk.repeat(shapes, _block, space.combinations("block"), space.choices["blocks"])
    walk.step(shapes, add_head, [{"outputs": outputs}])
    return iter(walk)


def _stem(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int) -> int:
    signals = builder.add(Split(), x) if builder.shape(x).channels > 1 else x
    return builder.add(Conv1d(channels, kernel, stride), signals)


def _block(builder: GraphBuilder, x: int, channels: int, kernel: int, pool: int, dilation: int = 1) -> int:
    y = builder.add(Conv1d(channels, kernel, dilation=dilation), x)
    return builder.add(AvgPool1d(pool, pool), y) if 1 < pool <= builder.shape(y).length else y


def _mixer(builder: GraphBuilder, x: int, channels: int) -> int:
    joined = builder.add(Join(), x) if builder.shape(x).modalities > 1 else x
    return builder.add(Conv1d(channels), joined)
