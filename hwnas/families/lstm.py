"""LSTM: embedded frames, convolutions, one LSTM over time, dense head. Pure Python; no torch.

A frame is `stride * overlap` samples; one begins every `stride` samples and is embedded by one convolution. The LSTM is by far the
dearest operator a time step, so strides come before it: it sees tens of steps, not thousands of samples. Its last state, or the mean of
its states, is what the head reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.families.head import add_head
from hwnas.families.walk import Walk
from hwnas.graph import Conv1d, Graph, GraphBuilder, Input, Lstm, Node, Shape
from hwnas.space import Candidate, SearchSpace


def build(candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for windows of shape `window` (channels, length) with `outputs` logits."""
    builder = GraphBuilder()
    x = builder.add(Input(window.channels, window.length))
    x = _frames(builder, x, **candidate.group("frame"))
    for i in range(1, candidate.values["convs"] + 1):
        x = _conv(builder, x, **candidate.group(f"conv{i}"))
    x = _lstm(builder, x, **candidate.group("lstm"))
    add_head(builder, x, outputs)
    return builder.build()


def reach(space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator of the space: the shapes that each part can stand at, and what each choice adds there."""
    walk = Walk()
    shapes = walk.step([window], _frames, space.combinations("frame"))
    shapes = walk.repeat(shapes, _conv, space.combinations("conv"), space.choices["convs"])
    shapes = walk.step(shapes, _lstm, space.combinations("lstm"))
    walk.step(shapes, add_head, [{"outputs": outputs}])
    return iter(walk)


def _frames(builder: GraphBuilder, x: int, channels: int, stride: int, overlap: int) -> int:
    return builder.add(Conv1d(channels, stride * overlap, stride), x)


def _conv(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int) -> int:
    return builder.add(Conv1d(channels, kernel, stride), x)


def _lstm(builder: GraphBuilder, x: int, units: int, mean: int) -> int:
    return builder.add(Lstm(units, last=not mean), x)
