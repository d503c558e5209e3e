"""Spectral family: closed form of one candidate, its two heads, the order of its filters, and that a peak may lie anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas import families, space
from hwnas.graph import Conv1d, Dense, Graph, GraphBuilder, Input, Shape, Split, Transpose
from hwnas.report.architecture import summary
from hwnas.student import BANK_PERIODS, Student
from hwnas.tasks.heart_rate import HEART_RATE

SPACE = space.read("spectral")
CHOSEN = {"bank_bands": 60, "bank_kernel": 48, "bank_pool": 2, "bank_stride": 2, "mixer_channels": 16, "mixer_kernel": 7, "blocks": 2}
BLOCKS = {"block1_kernel": 7, "block1_dilation": 1, "block2_kernel": 5, "block2_dilation": 2}
WINDOW = Shape(4, 256)


def built(window: Shape, outputs: int, **changes: int) -> Graph:
    least = {name: values[0] for name, values in SPACE.choices.items()}
    return families.build(SPACE.candidate(least | CHOSEN | BLOCKS | changes), window, outputs)


def test_closed_form_of_four_modalities() -> None:
    graph = built(WINDOW, 1)
    bank, mixer = 60 * 48 + 60, 16 * 7 * 4 + 16
    blocks = (16 * 7 + 16) + (16 * 5 + 16) + 2 * (16 * 16 + 16)
    assert graph.parameters == bank + mixer + blocks + 17
    # 128 samples at half the rate, a response at every other one
    assert graph.macs == 4 * 64 * 60 * 48 + 60 * (16 * 7 * 4 + 16 * (7 + 5) + 2 * 16 * 16 + 16)
    kinds = [type(n.op) for n in graph]
    assert kinds.count(Split) == kinds.count(Transpose) == 1
    assert graph.nodes[kinds.index(Transpose)].shape == Shape(4, 60)
    assert graph.output_shape == Shape(1, 60) and isinstance(graph.nodes[-1].op, Conv1d)


def test_one_channel_and_a_head_of_classes() -> None:
    graph = built(Shape(1, 3000), 6, bank_pool=1)
    assert not any(isinstance(n.op, Split) for n in graph) and any(isinstance(n.op, Transpose) for n in graph)
    assert graph.output_shape == Shape(6, 1) and isinstance(graph.nodes[-1].op, Dense)


@pytest.mark.parametrize("bands", SPACE.choices["bank_bands"])
def test_every_number_of_bands_is_that_of_classes_of_heart_rate(bands: int) -> None:
    graph = built(WINDOW, 1, bank_bands=bands)
    assert len(HEART_RATE.answers(graph.output_shape.elements)) == bands
    assert summary(graph).split(" · ")[:1] == ["split"] and "transpose" in summary(graph) and summary(graph).endswith("pw 1")


def bank_responses(graph: Graph, x: torch.Tensor) -> torch.Tensor:
    """Mean responses (B, bands) of the first modality before training."""
    student = Student(graph, torch.Generator().manual_seed(3)).eval()
    index = next(i for i, n in enumerate(graph) if isinstance(n.op, Transpose))
    with torch.inference_mode():
        return student(x)[1][str(index)][:, 0]


def test_the_filters_stand_in_order_of_frequency() -> None:
    graph = built(WINDOW, 1, bank_stride=1)
    low, high = BANK_PERIODS
    wanted = np.linspace(6, 26, 21)
    sines = np.sin(2 * np.pi * wanted[:, None] * np.arange(256) / 256)
    x = torch.from_numpy(np.repeat(sines[:, None], 4, axis=1).astype(np.float32))
    loudest = bank_responses(graph, x).argmax(dim=1).numpy()
    assert np.abs(low + (loudest + 0.5) * (high - low) / 60 - wanted).max() < 1.0


def test_the_order_is_that_of_any_seed_but_not_the_phase() -> None:
    graph = built(WINDOW, 1)
    first, second = (Student(graph, torch.Generator().manual_seed(seed)).nodes["3"].conv.weight for seed in (0, 1))
    assert not torch.allclose(first, second)
    spectra = [np.abs(np.fft.rfft(w.detach().numpy()[:, 0, 0], 512)).argmax(axis=1) for w in (first, second)]
    assert np.abs(spectra[0] - spectra[1]).max() <= 4 and (np.diff(spectra[0]) >= -4).all()


def test_other_convolutions_before_a_transpose_keep_their_draw() -> None:
    """Only a bank that reads single signals is one."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(5, 3), builder.add(Input(2, 1)))
    builder.add(Transpose(), x)
    weights = Student(builder.build(), torch.Generator().manual_seed(0)).nodes["1"].conv.weight
    assert not torch.allclose(weights.flatten(1).norm(dim=1), torch.ones(5))
