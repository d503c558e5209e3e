"""MobileNet-1D: closed forms of one candidate, residual and dilated blocks."""

from __future__ import annotations

from hwnas import families, space
from hwnas.graph import Add, DepthwiseConv1d, Graph, Shape

SPACE = space.read("mobilenet1d")


def built(window: Shape, **changes: int) -> Graph:
    least = {name: values[0] for name, values in SPACE.choices.items()}
    return families.build(SPACE.candidate(least | changes), window, 6)


def test_closed_form_of_one_candidate() -> None:
    graph = built(Shape(1, 1000), stem_channels=16, blocks=2, block1_channels=16, block1_expansion=2, block2_channels=8, block2_stride=2)
    stem = 16 * 7 + 16
    inverted = (16 * 32 + 32) + (32 * 3 + 32) + (32 * 16 + 16)
    separable = (16 * 3 + 16) + (16 * 8 + 8)
    assert graph.parameters == stem + inverted + separable + 8 * 6 + 6
    assert graph.macs == 250 * (16 * 7 + 16 * 32 + 32 * 3 + 32 * 16) + 125 * (16 * 3 + 16 * 8) + 8 * 6
    assert [type(n.op) for n in graph].count(Add) == 1
    assert graph.output_shape == Shape(6, 1)


def test_dilation_costs_nothing_and_is_gone_where_it_is_inactive() -> None:
    narrow = built(Shape(1, 1000), block1_kernel=5, block1_dilation=1)
    wide = built(Shape(1, 1000), block1_kernel=5, block1_dilation=4)
    assert [n.op.dilation for n in wide if isinstance(n.op, DepthwiseConv1d)] == [4, 1]
    assert (wide.parameters, wide.macs) == (narrow.parameters, narrow.macs) and wide.hash != narrow.hash
    strided = [built(Shape(1, 1000), block1_kernel=5, block1_stride=2, block1_dilation=d).hash for d in (1, 4)]
    assert strided[0] == strided[1]
