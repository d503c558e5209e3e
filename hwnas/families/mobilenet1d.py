"""MobileNet-1D: stem convolution, inverted-residual blocks, global mean, dense head. Pure Python; no torch.

Block (Sandler et al., MobileNetV2, 2018, in one dimension): pointwise expansion with ReLU (left out when `expansion` is 1),
depthwise convolution with ReLU, linear pointwise projection; the input is added where stride is 1 and channels are equal.
Without expansion the projection keeps its ReLU where nothing is added (the depthwise-separable block of Howard et al., 2017).
"""

from __future__ import annotations

from hwnas.families.stages import Stage
from hwnas.graph import Add, Conv1d, DepthwiseConv1d, GraphBuilder


def _stem(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int) -> int:
    return builder.add(Conv1d(channels, kernel, stride), x)


def _block(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int, expansion: int, dilation: int = 1) -> int:
    source = builder.shape(x)
    residual = stride == 1 and channels == source.channels
    y = builder.add(Conv1d(source.channels * expansion), x) if expansion > 1 else x
    y = builder.add(DepthwiseConv1d(kernel, stride, dilation=dilation), y)
    y = builder.add(Conv1d(channels, relu=expansion == 1 and not residual), y)
    return builder.add(Add(), x, y) if residual else y


STAGES = (Stage(_stem, "stem"), Stage(_block, "block", times="blocks"))
