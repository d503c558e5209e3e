"""MicroResNet: closed forms of one candidate, shortcuts, the pool after the stem."""

from __future__ import annotations

from hwnas import families, space
from hwnas.graph import Add, Conv1d, Graph, MaxPool1d, Shape

SPACE = space.read("microresnet")


def built(window: Shape, **changes: int) -> Graph:
    least = {name: values[0] for name, values in SPACE.choices.items()}
    return families.build(SPACE.candidate(least | changes), window, 6)


def bottleneck(source: int, narrow: int, kernel: int, channels: int) -> int:
    return (source * narrow + narrow) + (narrow * kernel * narrow + narrow) + (narrow * channels + channels)


def test_closed_form_of_one_candidate() -> None:
    first = {"block1_channels": 32, "block1_reduction": 4, "block1_kernel": 5, "block1_stride": 2}
    second = {"block2_channels": 32, "block2_reduction": 2, "block2_kernel": 3, "block2_dilation": 4}
    graph = built(Shape(1, 1000), stem_channels=16, stem_kernel=11, stem_stride=4, stem_pool=2, blocks=2, **first, **second)
    stem, shortcut = 16 * 11 + 16, 16 * 32 + 32
    assert graph.parameters == stem + bottleneck(16, 8, 5, 32) + shortcut + bottleneck(32, 16, 3, 32) + 32 * 6 + 6
    # stem at 250 samples, pooled to 125; the first block reduces there and goes on at 63
    strided = 125 * 16 * 8 + 63 * (8 * 5 * 8 + 8 * 32 + 16 * 32)
    plain = 63 * (32 * 16 + 16 * 3 * 16 + 16 * 32)
    assert graph.macs == 250 * 16 * 11 + strided + plain + 32 * 6
    assert [n.op for n in graph if isinstance(n.op, MaxPool1d)] == [MaxPool1d(2, 2)]


def test_a_shortcut_is_projected_only_where_the_block_changes_the_shape() -> None:
    same = {"stem_channels": 16, "block1_channels": 16, "block2_channels": 16}
    plain = built(Shape(1, 1000), **same, block1_stride=1, block2_stride=1)
    assert [n.inputs for n in plain if isinstance(n.op, Add)] == [(1, 4), (5, 8)]
    strided = built(Shape(1, 1000), **same, block1_stride=2, block2_stride=1)
    (first, second) = (n for n in strided if isinstance(n.op, Add))
    assert strided.nodes[first.inputs[0]].op == Conv1d(16, stride=2, relu=False)
    assert strided.nodes[second.inputs[0]] is first
    wider = built(Shape(1, 1000), **(same | {"block2_channels": 32}))
    last = [n for n in wider if isinstance(n.op, Add)][-1]
    assert wider.nodes[last.inputs[0]].op == Conv1d(32, relu=False)


def test_around_150k_parameters_there_are_students_that_run_in_a_few_million_macs() -> None:
    wide = {f"block{i}_{name}": value for i in range(1, 5) for name, value in (("channels", 128), ("reduction", 2), ("kernel", 3))}
    graph = built(Shape(1, 3000), stem_channels=32, stem_stride=16, stem_pool=4, blocks=4, **wide)
    assert 100_000 < graph.parameters < 200_000
    strided = built(Shape(1, 3000), stem_channels=32, stem_stride=16, stem_pool=4, blocks=4, **(wide | {"block1_stride": 2}))
    assert strided.macs < 4_000_000
