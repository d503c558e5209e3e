"""LSTM: closed forms of one candidate, frames, and what the head reads."""

from __future__ import annotations

import pytest

from hwnas import families, space
from hwnas.graph import Conv1d, GlobalAvgPool, Graph, Lstm, Shape

SPACE = space.read("lstm")


def built(window: Shape, **changes: int) -> Graph:
    least = {name: values[0] for name, values in SPACE.choices.items()}
    return families.build(SPACE.candidate(least | changes), window, 6)


@pytest.mark.parametrize(("mean", "steps_kept"), [(0, 1), (1, 24)])
def test_closed_form_of_one_candidate(mean: int, steps_kept: int) -> None:
    graph = built(
        Shape(1, 3000),
        frame_channels=16,
        frame_stride=64,
        frame_overlap=2,
        convs=1,
        conv1_channels=32,
        conv1_kernel=5,
        conv1_stride=2,
        lstm_units=64,
        lstm_mean=mean,
    )
    frames, steps = 47, 24
    gates = 4 * 64 * (32 + 64)
    assert graph.parameters == (16 * 128 + 16) + (32 * 5 * 16 + 32) + (gates + 4 * 64) + (64 * 6 + 6)
    assert graph.macs == frames * 16 * 128 + steps * (32 * 5 * 16) + steps * gates + 64 * 6
    (state,) = (n for n in graph if isinstance(n.op, Lstm))
    assert state.shape == Shape(64, steps_kept)
    assert any(isinstance(n.op, GlobalAvgPool) for n in graph) == bool(mean)


def test_frames_overlap_by_whole_strides() -> None:
    for overlap in SPACE.choices["frame_overlap"]:
        (embedding, *_) = (n.op for n in built(Shape(1, 1000), frame_stride=32, frame_overlap=overlap) if isinstance(n.op, Conv1d))
        assert embedding == Conv1d(4, 32 * overlap, 32)
