"""LSTM: embedded frames, convolutions, one LSTM over time, dense head. Pure Python; no torch.

A frame is `stride * overlap` samples; one begins every `stride` samples and is embedded by one convolution. The LSTM is by far the
dearest operator a time step, so strides come before it: it sees tens of steps, not thousands of samples. Its last state, or the mean of
its states, is what the head reads.
"""

from __future__ import annotations

from hwnas.families.stages import Stage
from hwnas.graph import Conv1d, GraphBuilder, Lstm


def _frames(builder: GraphBuilder, x: int, channels: int, stride: int, overlap: int) -> int:
    return builder.add(Conv1d(channels, stride * overlap, stride), x)


def _conv(builder: GraphBuilder, x: int, channels: int, kernel: int, stride: int) -> int:
    return builder.add(Conv1d(channels, kernel, stride), x)


def _lstm(builder: GraphBuilder, x: int, units: int, mean: int) -> int:
    return builder.add(Lstm(units, last=not mean), x)


STAGES = (Stage(_frames, "frame"), Stage(_conv, "conv", times="convs"), Stage(_lstm, "lstm"))
