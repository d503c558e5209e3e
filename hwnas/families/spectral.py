"""Spectral: a bank of band-pass filters shared by all modalities, their mean responses, convolutions along frequency. No torch.

For rates that lie in a few seconds of a noisy signal, such as a heart rate under motion. Every channel of the window (pulse wave, each
axis of acceleration) passes the same filters; the mean over time of what a filter lets through, behind its ReLU, is how strong its band is.
Transposed, bands are the "time" of a signal whose channels are the modalities: convolutions see a peak of the pulse beside what moves at
that frequency, wherever it lies. Where one value is asked for, the answer is a logit for every band, a class of the rate each; several
outputs are those of a dense head behind a mean over bands, as in every family.
"""

from __future__ import annotations

from hwnas.families import head
from hwnas.families.stages import Stage
from hwnas.graph import Add, AvgPool1d, Conv1d, DepthwiseConv1d, GraphBuilder, Split, Transpose


def _bank(builder: GraphBuilder, x: int, bands: int, kernel: int, pool: int, stride: int) -> int:
    signals = builder.add(Split(), x) if builder.shape(x).channels > 1 else x
    slow = builder.add(AvgPool1d(pool, pool), signals) if 1 < pool <= builder.shape(signals).length else signals
    response = builder.add(Conv1d(bands, kernel, stride), slow)
    length = builder.shape(response).length
    strength = builder.add(AvgPool1d(length, 1), response) if length > 1 else response
    return builder.add(Transpose(), strength)


def _mixer(builder: GraphBuilder, x: int, channels: int, kernel: int) -> int:
    return builder.add(Conv1d(channels, kernel), x)


def _block(builder: GraphBuilder, x: int, kernel: int, dilation: int) -> int:
    filtered = builder.add(DepthwiseConv1d(kernel, dilation=dilation), x)
    return builder.add(Add(), x, builder.add(Conv1d(builder.shape(x).channels, relu=False), filtered))


def add_head(builder: GraphBuilder, x: int, outputs: int) -> int:
    """A logit for each band where one value is asked for, else `outputs` logits from the mean over bands."""
    return builder.add(Conv1d(1, relu=False), x) if outputs == 1 else head.add_head(builder, x, outputs)


STAGES = (Stage(_bank, "bank"), Stage(_mixer, "mixer"), Stage(_block, "block", times="blocks"))
