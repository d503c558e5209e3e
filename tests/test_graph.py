"""Shapes, padding and counts against closed forms and an independent count; the text form; what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import GraphError
from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    Input,
    Join,
    Lstm,
    MaxPool1d,
    Op,
    Shape,
    Split,
    Transpose,
    same_length,
    same_padding,
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Small students: at times shared convolutions on each channel first; convolutions, residual sums, a head."""
    size = st.integers(1, 9)
    builder = GraphBuilder()
    last = builder.add(Input(draw(st.integers(1, 3)), draw(st.integers(1, 60))))
    if builder.shape(last).channels > 1 and draw(st.booleans()):
        last = builder.add(Split(), last)
        for _ in range(draw(st.integers(0, 2))):
            conv = builder.add(Conv1d(draw(size), draw(size), draw(st.integers(1, 4)), dilation=draw(st.integers(1, 3))), last)
            last = builder.add(Add(), conv, builder.add(DepthwiseConv1d(draw(size)), conv))
        last = builder.add(Join(), builder.add(AvgPool1d(1, draw(size)), last))
    for kind in draw(st.lists(st.sampled_from(["conv", "depthwise", "residual", "concat", "pool", "lstm"]), max_size=6)):
        if kind == "conv":
            last = builder.add(Conv1d(draw(size), draw(size), draw(st.integers(1, 4)), draw(st.booleans()), draw(st.integers(1, 3))), last)
        elif kind == "concat":
            last = builder.add(Concat(), last, builder.add(Conv1d(draw(size)), last))
        elif kind == "pool":
            pool = draw(st.sampled_from([AvgPool1d, MaxPool1d]))
            last = builder.add(pool(draw(st.integers(1, builder.shape(last).length)), draw(st.integers(1, 3))), last)
        elif kind == "lstm":
            last = builder.add(Lstm(draw(size), draw(st.booleans())), last)
        elif kind == "depthwise":
            last = builder.add(DepthwiseConv1d(draw(size), draw(st.integers(1, 4)), draw(st.booleans())), last)
        else:
            branch = builder.add(DepthwiseConv1d(draw(size)), last)
            last = builder.add(Add(), last, branch)
    builder.add(Dense(draw(size)), builder.add(GlobalAvgPool(), last))
    return builder.build()


def slow_counts(graph: Graph) -> tuple[int, int]:
    """(MACs, parameters) counted by walking every output sample; padding counts as a multiplication, as on the target."""
    macs = parameters = 0
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv1d):
            source = graph.nodes[node.inputs[0]].shape
            weights = np.ones((op.out_channels, op.kernel, source.channels))
        elif isinstance(op, DepthwiseConv1d):
            weights = np.ones((node.shape.channels, op.kernel, 1))
        elif isinstance(op, Dense):
            weights = np.ones((op.units, 1, graph.nodes[node.inputs[0]].shape.channels))
        elif isinstance(op, Lstm):
            source = graph.nodes[node.inputs[0]].shape
            weights = np.ones((4 * op.units, 1, source.channels + op.units))
        else:
            continue
        steps = graph.in_shape(node).length if isinstance(op, Lstm) else node.shape.length * node.shape.modalities
        macs += sum(int(weights.size) for _ in range(steps))
        parameters += int(weights.size) + weights.shape[0]
    return macs, parameters


@given(length=st.integers(1, 400), taps=st.integers(1, 31), stride=st.integers(1, 8), dilation=st.integers(1, 4))
def test_same_padding_is_the_least_that_covers_the_signal(length: int, taps: int, stride: int, dilation: int) -> None:
    left, right = same_padding(length, taps, stride, dilation)
    kernel = (taps - 1) * dilation + 1
    out = same_length(length, stride)
    assert out == len(range(0, length, stride))
    # As many outputs as a plain convolution over the padded signal has, and not one sample of padding to spare.
    padded = length + left + right
    assert (padded - kernel) // stride + 1 == out or padded < kernel
    assert right - left in (0, 1)
    if left + right:
        assert (out - 1) * stride + kernel == padded


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "expected"),
    [
        (1000, 3, 1, (1, 1)),
        (1000, 3, 2, (0, 1)),
        (999, 3, 2, (1, 1)),
        (1000, 8, 4, (2, 2)),
        (10, 1, 3, (0, 0)),
        (5, 7, 5, (1, 1)),
    ],
)
def test_same_padding_of_tflite(length: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(length, kernel, stride) == expected


@given(graphs())
def test_counts_agree_with_a_walk_over_every_sample(graph: Graph) -> None:
    assert (graph.macs, graph.parameters) == slow_counts(graph)


def test_counts_of_one_network_by_hand() -> None:
    builder = GraphBuilder()
    stem = builder.add(Conv1d(8, kernel=5, stride=2), builder.add(Input(1, 1000)))
    body = builder.add(Conv1d(16), builder.add(DepthwiseConv1d(3, stride=2), stem))
    builder.add(Dense(6), builder.add(GlobalAvgPool(), body))
    graph = builder.build()
    assert [n.shape[:2] for n in graph] == [(1, 1000), (8, 500), (8, 250), (16, 250), (16, 1), (6, 1)]
    assert graph.macs == 500 * 8 * 5 + 250 * 8 * 3 + 250 * 16 * 8 + 16 * 6
    assert graph.parameters == (8 * 5 + 8) + (8 * 3 + 8) + (16 * 8 + 16) + (16 * 6 + 6)
    assert graph.input_shape.elements == 1000
    assert graph.output_shape == Shape(6, 1)


@given(graphs())
def test_text_form_round_trip(graph: Graph) -> None:
    again = Graph.from_json(graph.to_json())
    assert again == graph
    assert again.hash == graph.hash
    assert again.to_json() == graph.to_json()


@given(graphs(), graphs())
def test_hash_is_equal_exactly_for_equal_networks(one: Graph, other: Graph) -> None:
    assert (one.hash == other.hash) == (one == other)


def test_every_choice_changes_the_hash() -> None:
    def head(op: Op) -> Graph:
        builder = GraphBuilder()
        builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(op, builder.add(Input(4, 64)))))
        return builder.build()

    base = Conv1d(4, 3, 1, True)
    depthwise = DepthwiseConv1d(3)
    variants: list[Op] = [
        replace(base, out_channels=8),
        replace(base, kernel=5),
        replace(base, stride=2),
        replace(base, relu=False),
        replace(base, dilation=2),
        MaxPool1d(2, 2),
        AvgPool1d(2, 2),
        Lstm(4),
        Lstm(4, last=True),
    ]
    hashes = {head(op).hash for op in [base, depthwise, *variants]}
    assert len(hashes) == 11


def test_the_hash_is_stable_between_versions() -> None:
    """Run directories name students by it: a change of the canonical form must be seen."""
    builder = GraphBuilder()
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(Conv1d(4, 3), builder.add(Input(1, 100)))))
    assert builder.build().hash == "7cca172339b0"


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        (Conv1d(4), (), "got 0 inputs, needs 1"),
        (Add(), (0,), "got 1 inputs, needs 2"),
        (Conv1d(4), (1,), "only nodes 0..0 exist"),
        (Conv1d(4), (-1,), "only nodes 0..0 exist"),
        (Conv1d(4, kernel=0), (0,), "kernel 0"),
        (DepthwiseConv1d(3, stride=0), (0,), "stride 0"),
        (Conv1d(0), (0,), "empty shape"),
        (Conv1d(2, dilation=0), (0,), "dilation 0"),
        (MaxPool1d(0, 1), (0,), "kernel 0"),
        (AvgPool1d(51, 1), (0,), "windows of 51 over a length of 50"),
        (Lstm(0), (0,), "empty shape"),
        (Dense(2), (0,), "pool over time first"),
    ],
)
def test_what_does_not_fit_is_refused(op: Op, inputs: tuple[int, ...], message: str) -> None:
    builder = GraphBuilder()
    builder.add(Input(2, 50))
    with pytest.raises(GraphError, match=message):
        builder.add(op, *inputs)


def test_a_sum_needs_equal_shapes() -> None:
    builder = GraphBuilder()
    source = builder.add(Input(2, 50))
    halved = builder.add(DepthwiseConv1d(3, stride=2), source)
    with pytest.raises(GraphError, match="shapes must be equal"):
        builder.add(Add(), source, halved)


def test_a_concatenation_needs_equal_lengths() -> None:
    builder = GraphBuilder()
    source = builder.add(Input(2, 50))
    with pytest.raises(GraphError, match="lengths must be equal"):
        builder.add(Concat(), source, builder.add(MaxPool1d(2, 2), source))


@pytest.mark.parametrize(("kernel", "stride", "length"), [(2, 2, 25), (3, 2, 24), (50, 1, 1), (3, 1, 48), (2, 3, 17)])
def test_pooling_windows_lie_inside_the_signal(kernel: int, stride: int, length: int) -> None:
    builder = GraphBuilder()
    source = builder.add(Input(2, 50))
    for pool in (AvgPool1d, MaxPool1d):
        assert builder.shape(builder.add(pool(kernel, stride), source)) == Shape(2, length)


def test_modalities_by_hand() -> None:
    builder = GraphBuilder()
    x = builder.add(Split(), builder.add(Input(3, 21)))
    assert builder.shape(x) == Shape(1, 21, 3)
    x = builder.add(Conv1d(4, 5, 2), x)
    assert builder.shape(x) == Shape(4, 11, 3) and (builder.shape(x).rows, builder.shape(x).elements) == (33, 132)
    x = builder.add(MaxPool1d(2, 2), builder.add(Add(), x, builder.add(DepthwiseConv1d(3), x)))
    assert builder.shape(x) == Shape(4, 5, 3)
    builder.add(Join(), x)
    graph = builder.build()
    assert graph.output_shape == Shape(12, 5)
    # Weights are shared, positions are not.
    assert graph.parameters == (4 * 5 + 4) + (4 * 3 + 4)
    assert graph.macs == 3 * 11 * (4 * 5) + 3 * 11 * (4 * 3)
    assert Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (GlobalAvgPool(), "reads 3 modalities; join them first"),
        (Dense(2), "reads 3 modalities"),
        (Lstm(4), "reads 3 modalities"),
        (Concat(), "reads 3 modalities"),
        (Split(), "reads 3 modalities"),
        (Transpose(), "reads length 8; take the mean over time first"),
    ],
)
def test_what_mixes_modalities_needs_them_joined(op: Op, message: str) -> None:
    builder = GraphBuilder()
    x = builder.add(Split(), builder.add(Input(3, 8)))
    with pytest.raises(GraphError, match=message):
        builder.add(op, *[x] * (2 if isinstance(op, Concat) else 1))
    with pytest.raises(GraphError, match="output of a graph is of one modality"):
        builder.build()


@pytest.mark.parametrize("modalities", [1, 3])
def test_transposed_channels_are_time_and_modalities_are_channels(modalities: int) -> None:
    builder = GraphBuilder()
    x = builder.add(Input(modalities, 8))
    bank = builder.add(Conv1d(5, 3), builder.add(Split(), x) if modalities > 1 else x)
    strength = builder.add(AvgPool1d(8, 1), bank)
    assert builder.shape(strength) == Shape(5, 1, modalities)
    turned = builder.add(Transpose(), strength)
    assert builder.shape(turned) == Shape(modalities, 5)
    builder.add(Conv1d(1, 3, relu=False), turned)
    graph = builder.build()
    assert graph.output_shape == Shape(1, 5)
    # The transposition has no weights and does no work; the bank runs on every modality.
    assert graph.parameters == (5 * 3 + 5) + (3 * modalities + 1)
    assert graph.macs == modalities * 8 * 5 * 3 + 5 * 3 * modalities
    assert Graph.from_json(graph.to_json()) == graph
    assert json.loads(graph.to_json())["nodes"][turned]["op"] == "transpose"
    with pytest.raises(GraphError, match=r"reads length 8; take the mean over time first"):
        builder.add(Transpose(), bank)


def test_one_signal_has_nothing_to_split_or_join() -> None:
    builder = GraphBuilder()
    x = builder.add(Input(1, 8))
    with pytest.raises(GraphError, match="splits 1 channel"):
        builder.add(Split(), x)
    with pytest.raises(GraphError, match="joins 1 modality"):
        builder.add(Join(), x)


def test_a_graph_begins_with_its_only_input() -> None:
    with pytest.raises(GraphError, match="input node first"):
        GraphBuilder().build()
    builder = GraphBuilder()
    builder.add(GlobalAvgPool(), builder.add(Input(1, 4)))
    builder.add(Input(1, 4))
    with pytest.raises(GraphError, match="exactly one input"):
        builder.build()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"nodes": 3}',
        '{"nodes": [1]}',
        '{"nodes": [{"op": "input"}]}',
        '{"nodes": [{"op": "input", "channels": 1, "length": 8, "inputs": [], "colour": 1}]}',
        '{"nodes": [{"op": "lstm", "inputs": []}]}',
        '{"nodes": [{"op": "input", "channels": "x", "length": 8, "inputs": []}]}',
        '{"nodes": [{"op": "input", "channels": 1.5, "length": 8, "inputs": []}, {"op": "global_avg_pool", "inputs": [0]}]}',
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match="not a hwnas graph"):
        Graph.from_json(text)


@given(graphs(), st.data())
def test_damaged_text_is_refused_or_read_as_another_graph(graph: Graph, data: st.DataObject) -> None:
    """Whatever one value is turned into, the reader answers with a graph or a GraphError, never another exception."""
    content = json.loads(graph.to_json())
    row = data.draw(st.sampled_from(content["nodes"]))
    key = data.draw(st.sampled_from(sorted(row)))
    row[key] = data.draw(st.one_of(st.none(), st.integers(-3, 99), st.text(max_size=3), st.floats(), st.lists(st.integers(-2, 9))))
    try:
        again = Graph.from_json(json.dumps(content))
    except GraphError:
        return
    assert again.macs >= 0
    assert all(n.shape.elements >= 1 for n in again)
