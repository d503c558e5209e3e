"""MicroResNet: stem convolution, max pool, bottleneck residual blocks, global mean, dense head. Pure Python; no torch.

Block (He et al., "Deep Residual Learning", 2016, in one dimension): pointwise reduction with ReLU to `channels / reduction`, convolution
with ReLU, linear pointwise expansion; the input is added. Where stride or channels change, the input passes a linear pointwise
convolution of the same stride first. Sums have no ReLU, so what is added up stays linear from block to block.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.families.head import add_head
from hwnas.families.walk import Walk
from hwnas.graph import Add, Conv1d, Graph, GraphBuilder, Input, MaxPool1d, Node, Shape
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


def _stem(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int, pool: int) -> int:
    y = builder.add(Conv1d(channels, kernel, stride), x)
    return builder.add(MaxPool1d(pool, pool), y) if 1 < pool <= builder.shape(y).length else y


def _block(builder: GraphBuilder, x: int, channels: int, reduction: int, kernel: int, stride: int, dilation: int = 1) -> int:
    narrow = max(channels // reduction, 1)
    y = builder.add(Conv1d(narrow), x)
    y = builder.add(Conv1d(narrow, kernel, stride, dilation=dilation), y)
    y = builder.add(Conv1d(channels, relu=False), y)
    same = stride == 1 and channels == builder.shape(x).channels
    return builder.add(Add(), x if same else builder.add(Conv1d(channels, stride=stride, relu=False), x), y)
