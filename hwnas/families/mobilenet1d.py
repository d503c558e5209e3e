"""MobileNet-1D: stem convolution, inverted-residual blocks, global mean, dense head. Pure Python; no torch.

Block (Sandler et al., MobileNetV2, 2018, in one dimension): pointwise expansion with ReLU (left out when `expansion` is 1),
depthwise convolution with ReLU, linear pointwise projection; the input is added where stride is 1 and channels are equal.
Without expansion the projection keeps its ReLU where nothing is added (the depthwise-separable block of Howard et al., 2017).
"""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Node, Shape
from hwnas.space import Candidate, SearchSpace


def build(candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for windows of shape `window` (channels, length) with `outputs` logits."""
    choices = candidate.values
    builder = GraphBuilder()
    x = builder.add(Input(window.channels, window.length))
    x = builder.add(Conv1d(choices["stem_channels"], choices["stem_kernel"], choices["stem_stride"]), x)
    for i in range(1, choices["blocks"] + 1):
        b = f"block{i}_"
        x = _block(builder, x, choices[b + "channels"], choices[b + "kernel"], choices[b + "stride"], choices[b + "expansion"])
    return _head(builder, x, outputs)


def reach(space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator of the space: the states (channels, length) that blocks can stand at, and what each choice adds there."""
    states: set[Shape] = set()
    for channels in space.stem.channels:
        for kernel in space.stem.kernel:
            for stride in space.stem.stride:
                builder = GraphBuilder()
                builder.add(Conv1d(channels, kernel, stride), builder.add(Input(window.channels, window.length)))
                states.add(builder.shape(1))
                yield from _operators(builder)
    seen: set[Shape] = set()
    for _ in range(max(space.blocks)):
        following: set[Shape] = set()
        for state in states - seen:
            for builder in _all_blocks(space, state):
                following.add(builder.shape(-1))
                yield from _operators(builder)
        seen |= states
        states = following
    for state in seen | states:
        builder = GraphBuilder()
        yield from _operators_of(_head(builder, builder.add(Input(state.channels, state.length)), outputs))


def _block(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int, expansion: int) -> int:
    source = builder.shape(x)
    residual = stride == 1 and channels == source.channels
    y = builder.add(Conv1d(source.channels * expansion), x) if expansion > 1 else x
    y = builder.add(DepthwiseConv1d(kernel, stride), y)
    y = builder.add(Conv1d(channels, relu=expansion == 1 and not residual), y)
    return builder.add(Add(), x, y) if residual else y


def _head(builder: GraphBuilder, x: int, outputs: int) -> Graph:
    pooled = builder.add(GlobalAvgPool(), x) if builder.shape(x).length > 1 else x
    builder.add(Dense(outputs), pooled)
    return builder.build()


def _all_blocks(space: SearchSpace, state: Shape) -> Iterator[GraphBuilder]:
    for channels in space.block.channels:
        for kernel in space.block.kernel:
            for stride in space.block.stride:
                for expansion in space.block.expansion:
                    builder = GraphBuilder()
                    _block(builder, builder.add(Input(state.channels, state.length)), channels, kernel, stride, expansion)
                    yield builder


def _operators(builder: GraphBuilder) -> Iterator[tuple[Node, Shape]]:
    return _operators_of(builder.build())


def _operators_of(graph: Graph) -> Iterator[tuple[Node, Shape]]:
    return ((node, graph.in_shape(node)) for node in graph.nodes[1:])
