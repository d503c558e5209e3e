"""The module of a graph: every operator against plain arithmetic in float64, folding, modalities, seeds, shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_students import random_graph, random_windows, warmed_student
from torch import Tensor

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
    Split,
)
from hwnas.student import FoldedNode, Student, fold, initialise

Doubles = NDArray[np.float64]


def sigmoid(x: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm(op: Lstm, weights: FoldedNode, x: Doubles) -> Doubles:
    """(N, C, L) -> (N, units, L or 1), gate by gate and step by step."""
    channels = x.shape[1]
    weight, bias = weights.weight.astype(float), weights.bias.astype(float)
    i, f, g, o = (slice(k * op.units, (k + 1) * op.units) for k in range(4))
    hidden, cell = np.zeros((len(x), op.units)), np.zeros((len(x), op.units))
    rows = []
    for t in range(x.shape[2]):
        gates = x[:, :, t] @ weight[:, :channels].T + hidden @ weight[:, channels:].T + bias
        cell = sigmoid(gates[:, f]) * cell + sigmoid(gates[:, i]) * np.tanh(gates[:, g])
        hidden = sigmoid(gates[:, o]) * np.tanh(cell)
        rows.append(hidden)
    return np.stack(rows[-1:] if op.last else rows, axis=2)


def convolution(op: Conv1d | DepthwiseConv1d, weights: FoldedNode, x: Doubles) -> Doubles:
    """(N, C, L) -> (N, C', ceil(L / stride)): one output sample and one tap at a time, zeros outside the signal."""
    length = x.shape[2]
    samples = -(-length // op.stride)
    reach = (op.kernel - 1) * op.dilation + 1
    left = max((samples - 1) * op.stride + reach - length, 0) // 2
    out = np.zeros((len(x), len(weights.bias), samples)) + weights.bias[None, :, None]
    for t in range(samples):
        for tap in range(op.kernel):
            at = t * op.stride - left + tap * op.dilation
            if 0 <= at < length:
                w = weights.weight[:, :, tap].astype(float)
                out[:, :, t] += x[:, :, at] * w[:, 0] if isinstance(op, DepthwiseConv1d) else x[:, :, at] @ w.T
    return np.maximum(out, 0) if op.relu else out


def plain(op: Op, weights: FoldedNode | None, x: Doubles, *others: Doubles) -> Doubles:
    """One operator on tensors (N, C, L) of one modality."""
    if isinstance(op, AvgPool1d | MaxPool1d):
        starts = range(0, x.shape[2] - op.kernel + 1, op.stride)
        pool: Any = np.mean if isinstance(op, AvgPool1d) else np.max
        return np.stack([pool(x[:, :, s : s + op.kernel], axis=2) for s in starts], axis=2)
    if isinstance(op, Add | Concat):
        return x + others[0] if isinstance(op, Add) else np.concatenate([x, others[0]], axis=1)
    if isinstance(op, GlobalAvgPool):
        return x.mean(2, keepdims=True)
    assert weights is not None
    if isinstance(op, Lstm):
        return lstm(op, weights, x)
    if isinstance(op, Conv1d | DepthwiseConv1d):
        return convolution(op, weights, x)
    return (x[:, :, 0] @ weights.weight.T.astype(float) + weights.bias)[:, :, None]


def float_tensors(graph: Graph, folded: dict[int, FoldedNode], x: NDArray[np.float32]) -> list[list[Doubles]]:
    """Every node's tensor, one (N, C, L) a modality; convolutions and pools run on each modality by itself."""
    tensors = [[x.astype(np.float64)]]
    for index, node in enumerate(graph.nodes[1:], start=1):
        sources = [tensors[i] for i in node.inputs]
        if isinstance(node.op, Split):
            tensors.append([sources[0][0][:, c : c + 1] for c in range(sources[0][0].shape[1])])
        elif isinstance(node.op, Join):
            tensors.append([np.concatenate(sources[0], axis=1)])
        else:
            tensors.append([plain(node.op, folded.get(index), *parts) for parts in zip(*sources, strict=True)])
    return tensors


def check_against_plain_arithmetic(student: Student, x: NDArray[np.float32], tolerance: float = 2e-4) -> None:
    graph = student.graph
    with torch.no_grad():
        logits, taps = student(torch.from_numpy(x))
    expected = float_tensors(graph, fold(student), x)
    assert list(taps) == [str(i) for i in range(1, len(graph.nodes))]
    for index, node in enumerate(graph.nodes[1:], start=1):
        channels, length, modalities = node.shape
        found = taps[str(index)].numpy()
        assert found.shape == (len(x), channels, *([modalities] if modalities > 1 else []), length)
        stacked = np.stack(expected[index], axis=2) if modalities > 1 else expected[index][0]
        assert np.allclose(found, stacked, rtol=0, atol=tolerance * (np.abs(stacked).max() + 1e-3)), f"node {index} {node}"
    assert torch.equal(logits, taps[str(len(graph.nodes) - 1)][:, :, 0])
    heads = [node for node in graph.nodes if isinstance(node.op, Dense)]
    if heads:
        assert torch.equal(taps["embedding"], taps[str(heads[-1].inputs[0])].flatten(1))


@given(st.integers(0, 2**16))
@settings(max_examples=20)
def test_folded_arithmetic_equals_the_module(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flags = dict(zip(("concat", "pools", "dilation", "lstm", "modalities"), (rng.random(5) < 0.5).tolist(), strict=True))
    graph = random_graph(rng, **flags)
    check_against_plain_arithmetic(warmed_student(graph, seed), random_windows(graph, 3, seed))


OPERATORS = {
    "conv": Conv1d(4, 5, 2, True, 3),
    "even conv": Conv1d(4, 4, 3, False),
    "depthwise": DepthwiseConv1d(6, 2, True, 2),
    "average": AvgPool1d(3, 2),
    "overlapping maximum": MaxPool1d(4, 1),
    "global mean": GlobalAvgPool(),
    "lstm": Lstm(5),
    "last hidden state": Lstm(5, True),
    "concat": Concat(),
    "add": Add(),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("length", [4, 11])
def test_each_operator_alone(name: str, length: int) -> None:
    op = OPERATORS[name]
    builder = GraphBuilder()
    x = builder.add(Input(3, length))
    builder.add(op, *([x, x] if isinstance(op, Add | Concat) else [x]))
    graph = builder.build()
    check_on = random_windows(graph, 5, 1)
    student = warmed_student(graph, 0)
    with torch.no_grad():
        _, taps = student(torch.from_numpy(check_on))
    expected = float_tensors(graph, fold(student), check_on)[1][0]
    assert taps["1"].shape == expected.shape == (5, *graph.output_shape[:2])
    assert np.allclose(taps["1"].numpy(), expected, rtol=0, atol=1e-5 * (1 + np.abs(expected).max()))
    assert expected.std() > 0.05


def test_modalities_share_their_weights() -> None:
    """Three modalities give, joined, what a student of one modality with the very same weights gives for each channel."""

    def body(builder: GraphBuilder, x: int) -> int:
        x = builder.add(Conv1d(5, 4, 2), x)
        y = builder.add(DepthwiseConv1d(3, relu=False), x)
        return builder.add(MaxPool1d(2, 2), builder.add(Add(), x, y))

    several, one = GraphBuilder(), GraphBuilder()
    several.add(Join(), body(several, several.add(Split(), several.add(Input(3, 21)))))
    body(one, one.add(Input(1, 21)))
    student = warmed_student(several.build(), 3)
    alone = Student(one.build()).eval()
    alone.load_state_dict({f"nodes.{int(k.split('.')[1]) - 1}.{k.split('.', 2)[2]}": v for k, v in student.state_dict().items()})
    x = torch.from_numpy(random_windows(student.graph, 4, 5))
    with torch.no_grad():
        joined = student(x)[0].reshape(4, 15, -1)
        parts = [alone(x[:, c : c + 1])[0].reshape(4, 5, -1) for c in range(3)]
    assert torch.allclose(joined, torch.cat(parts, dim=1), atol=1e-6)
    assert not torch.allclose(parts[0], parts[1], atol=0.1)


def test_the_embedding_is_what_the_last_dense_layer_reads() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(3, 5), builder.add(Split(), builder.add(Input(2, 20))))
    x = builder.add(Dense(7), builder.add(GlobalAvgPool(), builder.add(Join(), x)))
    builder.add(Dense(4), x)
    student = warmed_student(builder.build(), 0)
    outputs, taps = student(torch.from_numpy(random_windows(student.graph, 5, 0)))
    head = student.nodes["6"]
    assert taps["embedding"].shape == (5, 7) and torch.equal(head(taps["embedding"]), outputs)
    outputs.sum().backward()
    assert taps["embedding"].requires_grad and list(taps) == ["1", "2", "3", "4", "5", "6"]
    builder = GraphBuilder()
    builder.add(GlobalAvgPool(), builder.add(Input(2, 20)))
    with pytest.raises(KeyError, match="embedding"):
        Student(builder.build())(torch.zeros(3, 2, 20))[1]["embedding"]


def test_batch_norms_see_all_modalities_as_one() -> None:
    builder = GraphBuilder()
    builder.add(Join(), builder.add(Conv1d(2, relu=False), builder.add(Split(), builder.add(Input(2, 50)))))
    student = Student(builder.build())
    x = torch.from_numpy(random_windows(student.graph, 8, 0))
    student.train()(x * torch.tensor([1.0, 0.1])[None, :, None])
    weight = student.get_parameter("nodes.2.conv.weight").flatten()
    everything = torch.cat([x[:, 0], 0.1 * x[:, 1]]).flatten()
    assert torch.allclose(student.get_buffer("nodes.2.bn.running_mean"), 0.1 * weight * everything.mean(), atol=1e-6)


def test_lstms_start_with_an_open_forget_gate_and_orthogonal_recurrence() -> None:
    builder = GraphBuilder()
    builder.add(Lstm(8), builder.add(Input(3, 5)))
    student = Student(builder.build(), torch.Generator().manual_seed(3))
    (folded,) = fold(student).values()
    assert folded.bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
    for gate in folded.weight.astype(float).reshape(4, 8, 11):
        assert np.allclose(gate[:, 3:] @ gate[:, 3:].T, np.eye(8), atol=1e-6)
        assert 0.3 < np.abs(gate[:, :3]).max() <= (6 / 11) ** 0.5


def test_fold_has_the_graphs_parameters() -> None:
    graph = random_graph(np.random.default_rng(1), concat=True, pools=True, lstm=True, modalities=True)
    assert sum(n.weight.size + n.bias.size for n in fold(Student(graph)).values()) == graph.parameters
    assert all(a.dtype == np.float32 for n in fold(Student(graph)).values() for a in n)


def test_gradients_reach_every_parameter() -> None:
    graph = random_graph(np.random.default_rng(2), length=40, concat=True, pools=True, lstm=True, modalities=True)
    student = Student(graph)
    student(torch.from_numpy(random_windows(graph, 8, 0)))[0].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in student.parameters())


def test_the_generator_alone_decides_the_weights() -> None:
    graph = random_graph(np.random.default_rng(3), concat=True, pools=True, lstm=True, modalities=True)
    state = torch.random.get_rng_state()
    first, second = (Student(graph, torch.Generator().manual_seed(7)) for _ in range(2))
    other = Student(graph, torch.Generator().manual_seed(8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    initialise(other, torch.Generator().manual_seed(7))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_training_twice_gives_the_same_bits() -> None:
    graph = random_graph(np.random.default_rng(4), length=50, concat=True, pools=True, lstm=True, modalities=True)
    x = torch.from_numpy(random_windows(graph, 32, 0))

    def trained() -> Tensor:
        student = Student(graph, torch.Generator().manual_seed(1))
        optimizer = torch.optim.AdamW(student.parameters(), 1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            student(x)[0].square().sum().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in student.parameters()])

    assert torch.equal(trained(), trained())


def test_another_shape_is_refused() -> None:
    graph = random_graph(np.random.default_rng(5), length=50)
    with pytest.raises(GraphError, match="50 samples"):
        Student(graph)(torch.zeros(2, graph.input_shape.channels, 51))
