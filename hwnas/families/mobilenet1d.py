"""MobileNet-1D: stem convolution, inverted-residual blocks, global mean, dense head. Pure Python; no torch.

Block (Sandler et al., MobileNetV2, 2018, in one dimension): pointwise expansion with ReLU (left out when `expansion` is 1),
depthwise convolution with ReLU, linear pointwise projection; the input is added where stride is 1 and channels are equal.
Without expansion the projection keeps its ReLU where nothing is added (the depthwise-separable block of Howard et al., 2017).
"""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.families.head import add_head
from hwnas.families.walk import Walk
from hwnas.graph import Add, Conv1d, DepthwiseConv1d, Graph, GraphBuilder, Input, Node, Shape
from hwnas.space import Candidate, SearchSpace


def build(candidate: Candidate, window: Shape, outputs: int) -> Graph:
    """The network of `candidate` for windows of shape `window` (channels, length) with `outputs` logits."""
    builder = GraphBuilder()
    x = builder.add(Input(window.channels, window.length))
    x = _stem(builder, x, **candidate.group("stem"))
    for i in range(1, candidate.values["blocks"] + 1):
        x = _block(builder, x, **candidate.group(f"block{i}"))
    add_head(builder, x, outputs)
    return builder.build()


def reach(space: SearchSpace, window: Shape, outputs: int) -> Iterator[tuple[Node, Shape]]:
    """Every operator of the space: the shapes that blocks can stand at, and what each choice adds there."""
    walk = Walk()
    shapes = walk.step([window], _stem, space.combinations("stem"))
    shapes = walk.repeat(shapes, _block, space.combinations("block"), space.choices["blocks"])
    walk.step(shapes, add_head, [{"outputs": outputs}])
    return iter(walk)


def _stem(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int) -> int:
    return builder.add(Conv1d(channels, kernel, stride), x)


def _block(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int, expansion: int, dilation: int = 1) -> int:
    source = builder.shape(x)
    residual = stride == 1 and channels == source.channels
    y = builder.add(Conv1d(source.channels * expansion), x) if expansion > 1 else x
    y = builder.add(DepthwiseConv1d(kernel, stride, dilation=dilation), y)
    y = builder.add(Conv1d(channels, relu=expansion == 1 and not residual), y)
    return builder.add(Add(), x, y) if residual else y
