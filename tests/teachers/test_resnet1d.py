"""The teachers: shapes, sizes, seeds, and that a window's answer does not depend on its neighbours."""

from __future__ import annotations

import pytest
import torch

from hwnas.errors import UsageError
from hwnas.teachers import TEACHERS, build
from hwnas.teachers.card import count_parameters


def test_slim_teacher_is_small_and_answers_logits_and_taps() -> None:
    module = build("resnet18_1d", 2, 6)
    assert 150_000 <= count_parameters(module) <= 400_000
    logits, taps = module(torch.randn(3, 2, 1000))
    assert logits.shape == (3, 6)
    assert [tuple(t.shape) for t in taps.values()] == [(3, 24, 250), (3, 32, 125), (3, 48, 63), (3, 64, 32), (3, 64)]


def test_literature_teacher_has_21_million_parameters_and_34_layers() -> None:
    module = build("resnet34_1d", 1, 6).eval()
    assert 20e6 < count_parameters(module) < 22e6
    # The layers that give the network its name: convolutions (not those of shortcuts) and the head.
    layers = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear) and "shortcut" not in n]
    assert len(layers) == 34
    with torch.inference_mode():
        logits, taps = module(torch.randn(2, 1, 400))
    assert logits.shape == (2, 6) and taps["embedding"].shape == (2, 512)


def test_bottleneck_teacher_has_50_layers_and_four_times_the_channels() -> None:
    module = build("resnet50_1d", 1, 6).eval()
    layers = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear) and "shortcut" not in n]
    assert len(layers) == 50
    with torch.inference_mode():
        _, taps = module(torch.randn(2, 1, 400))
    assert [tuple(t.shape) for t in taps.values()] == [(2, 256, 100), (2, 512, 50), (2, 1024, 25), (2, 2048, 13), (2, 2048)]


@pytest.mark.parametrize("length", [37, 1000, 3000])
def test_any_length_is_read(length: int) -> None:
    module = build("resnet18_1d", 1, 2).eval()
    with torch.inference_mode():
        assert module(torch.randn(2, 1, length))[0].shape == (2, 2)


def test_a_window_is_answered_alike_alone_and_in_a_batch() -> None:
    module = build("resnet18_1d", 1, 6).eval()
    x = torch.randn(5, 1, 300, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(module(x)[0][3], module(x[3:4])[0][0], atol=1e-5)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build("resnet18_1d", 1, 6, seed=5).state_dict()
    after = torch.rand(1)
    torch.manual_seed(2)
    again = build("resnet18_1d", 1, 6, seed=5).state_dict()
    other = build("resnet18_1d", 1, 6, seed=6).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after), "the global generator is left as it was"


def test_unknown_teacher_names_the_close_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'resnet34_1d'"):
        build("resnet34-1d", 1, 6)
    assert all(spec.description for spec in TEACHERS.values())
