"""Modality convolution: temporal convolutions shared by all modalities, one over modalities, plain temporal ones. Pure Python; no torch.

The student of PULSE (Kasnesis et al.), whose teacher attends across modalities: every channel of the window (pulse wave, each axis of
acceleration) is a modality and passes the same stem and temporal convolutions; then one convolution over modalities takes the place of
attention. Joined, modalities are channels, so that convolution is a pointwise one. A window of one channel has nothing to split or to
join; the rest is the same.
"""

from __future__ import annotations

from hwnas.families.stages import Stage
from hwnas.graph import AvgPool1d, Conv1d, GraphBuilder, Join, Split


def _stem(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int) -> int:
    signals = builder.add(Split(), x) if builder.shape(x).channels > 1 else x
    return builder.add(Conv1d(channels, kernel, stride), signals)


def _block(builder: GraphBuilder, x: int, channels: int, kernel: int, pool: int, dilation: int = 1) -> int:
    y = builder.add(Conv1d(channels, kernel, dilation=dilation), x)
    return builder.add(AvgPool1d(pool, pool), y) if 1 < pool <= builder.shape(y).length else y


def _mixer(builder: GraphBuilder, x: int, channels: int) -> int:
    joined = builder.add(Join(), x) if builder.shape(x).modalities > 1 else x
    return builder.add(Conv1d(channels), joined)


STAGES = (
    Stage(_stem, "stem"),
    Stage(_block, "shared_block", times="shared_blocks"),
    Stage(_mixer, "mixer"),
    Stage(_block, "block", times="blocks"),
)
