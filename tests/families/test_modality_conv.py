"""Modality convolution: closed forms of one candidate with four modalities and with one, and what is shared."""

from __future__ import annotations

from hwnas import families, space
from hwnas.graph import AvgPool1d, Conv1d, Graph, Join, Shape, Split

SPACE = space.read("modality_conv")
CHOSEN = {
    "stem_channels": 8,
    "stem_kernel": 7,
    "stem_stride": 2,
    "shared_blocks": 1,
    "shared_block1_channels": 16,
    "shared_block1_kernel": 3,
    "shared_block1_dilation": 4,
    "shared_block1_pool": 4,
    "mixer_channels": 32,
    "blocks": 1,
    "block1_channels": 64,
    "block1_kernel": 5,
    "block1_pool": 2,
}


def built(window: Shape, outputs: int, **changes: int) -> Graph:
    least = {name: values[0] for name, values in SPACE.choices.items()}
    return families.build(SPACE.candidate(least | CHOSEN | changes), window, outputs)


def test_closed_form_of_four_modalities() -> None:
    graph = built(Shape(4, 256), 1)
    shared = (8 * 7 + 8) + (16 * 3 * 8 + 16)  # the same weights for all four
    mixer = 64 * 32 + 32
    assert graph.parameters == shared + mixer + (64 * 5 * 32 + 64) + (64 + 1)
    assert graph.macs == 4 * 128 * (8 * 7 + 16 * 3 * 8) + 32 * (64 * 32) + 32 * (64 * 5 * 32) + 64
    kinds = [type(n.op) for n in graph]
    assert kinds.count(Split) == kinds.count(Join) == 1
    between = graph.nodes[kinds.index(Split) : kinds.index(Join)]
    assert [n.shape for n in between] == [Shape(1, 256, 4), Shape(8, 128, 4), Shape(16, 128, 4), Shape(16, 32, 4)]
    assert [n.op for n in graph if isinstance(n.op, AvgPool1d)] == [AvgPool1d(4, 4), AvgPool1d(2, 2)]


def test_one_channel_is_one_modality() -> None:
    graph = built(Shape(1, 3000), 6)
    assert not any(isinstance(n.op, Split | Join) for n in graph)
    assert graph.parameters == (8 * 7 + 8) + (16 * 3 * 8 + 16) + (16 * 32 + 32) + (64 * 5 * 32 + 64) + (64 * 6 + 6)
    assert graph.macs == 1500 * (8 * 7 + 16 * 3 * 8) + 375 * (16 * 32) + 375 * (64 * 5 * 32) + 64 * 6


def test_modalities_are_mixed_once_by_a_pointwise_convolution() -> None:
    graph = built(Shape(4, 256), 1)
    join = next(i for i, n in enumerate(graph) if isinstance(n.op, Join))
    assert graph.nodes[join + 1].op == Conv1d(32) and graph.nodes[join + 1].inputs == (join,)


def test_the_published_size_lies_in_the_space() -> None:
    """Kasnesis et al. publish a student of 27,241 parameters and 3.4 million MACs for 8 s at 32 Hz; candidates lie on both sides."""
    near = {"stem_stride": 2, "shared_blocks": 2, "shared_block2_channels": 32, "shared_block2_kernel": 5, "shared_block1_pool": 1}
    sizes = [built(Shape(4, 256), 1, **near, mixer_channels=m, block1_channels=64, block1_kernel=k) for m in (32, 64) for k in (3, 5)]
    assert min(g.parameters for g in sizes) < 27_241 < max(g.parameters for g in sizes)
    assert min(g.macs for g in sizes) < 3_400_000 < max(g.macs for g in sizes)
