"""MicroResNet: stem convolution, max pool, bottleneck residual blocks, global mean, dense head. Pure Python; no torch.

Block (He et al., "Deep Residual Learning", 2016, in one dimension): pointwise reduction with ReLU to `channels / reduction`, convolution
with ReLU, linear pointwise expansion; the input is added. Where stride or channels change, the input passes a linear pointwise
convolution of the same stride first. Sums have no ReLU, so what is added up stays linear from block to block.
"""

from __future__ import annotations

from hwnas.families.stages import Stage
from hwnas.graph import Add, Conv1d, GraphBuilder, MaxPool1d


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


STAGES = (Stage(_stem, "stem"), Stage(_block, "block", times="blocks"))
