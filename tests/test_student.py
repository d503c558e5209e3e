"""The module of a graph: against plain Conv1d arithmetic, folding, seeds, shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from random_students import random_graph, random_windows, warmed_student
from torch import Tensor

from hwnas.errors import GraphError
from hwnas.graph import Add, Conv1d, DepthwiseConv1d, GlobalAvgPool, Graph, same_padding
from hwnas.student import Student, fold, initialise


def folded_forward(graph: Graph, student: Student, x: Tensor) -> list[Tensor]:
    """Every node's tensor from the folded weights, by `conv1d` in float64."""
    folded = fold(student)
    tensors = [x.double()]
    for index, node in enumerate(graph.nodes[1:], start=1):
        op, first = node.op, tensors[node.inputs[0]]
        if isinstance(op, Add):
            out = first + tensors[node.inputs[1]]
        elif isinstance(op, GlobalAvgPool):
            out = first.mean(2, keepdim=True)
        else:
            weight, bias = (torch.from_numpy(a).double() for a in folded[index])
            if isinstance(op, Conv1d | DepthwiseConv1d):
                padded = F.pad(first, same_padding(first.shape[2], op.kernel, op.stride))
                groups = first.shape[1] if isinstance(op, DepthwiseConv1d) else 1
                out = F.conv1d(padded, weight, bias, op.stride, groups=groups)
                out = out.relu() if op.relu else out
            else:
                out = F.linear(first[:, :, 0], weight, bias)[:, :, None]
        tensors.append(out)
    return tensors


@given(st.integers(0, 2**16))
@settings(max_examples=20)
def test_folded_arithmetic_equals_the_module(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed))
    student = warmed_student(graph, seed)
    x = torch.from_numpy(random_windows(graph, 3, seed))
    with torch.no_grad():
        logits, taps = student(x)
    expected = folded_forward(graph, student, x)
    assert list(taps) == [str(i) for i in range(1, len(graph.nodes))]
    for index, node in enumerate(graph.nodes[1:], start=1):
        found = taps[str(index)]
        assert tuple(found.shape) == (3, *node.shape)
        scale = expected[index].abs().max().item() + 1e-3
        assert torch.allclose(found.double(), expected[index], atol=2e-4 * scale), f"node {index} {node}"
    assert torch.equal(logits, taps[str(len(graph.nodes) - 1)][:, :, 0])


def test_fold_has_the_graphs_parameters() -> None:
    graph = random_graph(np.random.default_rng(1))
    assert sum(n.weight.size + n.bias.size for n in fold(Student(graph)).values()) == graph.parameters
    assert all(a.dtype == np.float32 for n in fold(Student(graph)).values() for a in n)


def test_gradients_reach_every_parameter() -> None:
    graph = random_graph(np.random.default_rng(2), length=40)
    student = Student(graph)
    student(torch.from_numpy(random_windows(graph, 8, 0)))[0].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in student.parameters())


def test_the_generator_alone_decides_the_weights() -> None:
    graph = random_graph(np.random.default_rng(3))
    state = torch.random.get_rng_state()
    first, second = (Student(graph, torch.Generator().manual_seed(7)) for _ in range(2))
    other = Student(graph, torch.Generator().manual_seed(8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    initialise(other, torch.Generator().manual_seed(7))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_training_twice_gives_the_same_bits() -> None:
    graph = random_graph(np.random.default_rng(4), length=50)
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
