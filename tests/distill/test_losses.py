"""Losses against closed forms, autograd identities and each other."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from hwnas.distill import LOSSES, LossSettings
from hwnas.distill.losses import dkd, hard, soft
from hwnas.errors import ConfigError, UsageError

B, K = 7, 6


def draw(seed: int, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    shape = (B, K)
    student = scale * torch.randn(shape, generator=g, dtype=torch.float64)
    teacher = scale * torch.randn(shape, generator=g, dtype=torch.float64)
    return student, teacher, torch.randint(0, K, (B,), generator=g)


def kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """KL(t || s) per row from the definition, on probabilities."""
    t, s = teacher.softmax(1), student.softmax(1)
    return (t * (t / s).log()).sum(1)


def test_hard_is_the_mean_negative_log_probability() -> None:
    s, _, y = draw(0)
    p = s.softmax(1)
    expected = -sum(math.log(float(p[i, y[i]])) for i in range(B)) / B
    assert float(hard(s, y)) == pytest.approx(expected, rel=1e-12)


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    s, _, y = draw(1)
    logp = s.log_softmax(1)
    q = 0.9 * F.one_hot(y, K).double() + 0.1 / K
    assert float(hard(s, y, label_smoothing=0.1)) == pytest.approx(float(-(q * logp).sum(1).mean()), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_soft_is_the_published_formula(temperature: float, weight: float) -> None:
    s, t, y = draw(2)
    expected = weight * temperature**2 * kl(t / temperature, s / temperature).mean() + (1 - weight) * F.cross_entropy(s, y)
    assert float(soft(s, t, y, temperature=temperature, soft_weight=weight)) == pytest.approx(float(expected), rel=1e-10)


def test_soft_alone_has_zero_value_and_gradient_where_student_equals_teacher() -> None:
    _, t, y = draw(3)
    s = t.clone().requires_grad_()
    loss = soft(s, t, y, temperature=4.0, soft_weight=1.0)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-12
    assert s.grad is not None and float(s.grad.abs().max()) < 1e-12
    # and not because gradients are lost
    other = (t + torch.randn(t.shape, dtype=t.dtype, generator=torch.Generator().manual_seed(0))).requires_grad_()
    soft(other, t, y, temperature=4.0, soft_weight=1.0).backward()
    assert other.grad is not None and float(other.grad.abs().max()) > 1e-3


def test_soft_gradient_is_the_difference_of_probabilities() -> None:
    s, t, y = draw(4)
    s.requires_grad_()
    soft(s, t, y, temperature=3.0, soft_weight=1.0).backward()
    expected = 3.0 * ((s.detach() / 3).softmax(1) - (t / 3).softmax(1)) / B
    assert torch.allclose(s.grad, expected, atol=1e-12)  # type: ignore[arg-type]


def test_no_gradient_reaches_the_teacher() -> None:
    s, t, y = draw(5)
    t.requires_grad_()
    s.requires_grad_()
    (soft(s, t, y, temperature=4.0, soft_weight=0.5) + dkd(s, t, y, alpha=1, beta=8, temperature=4)).backward()
    assert t.grad is None and s.grad is not None


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 10.0))
def test_kl_is_tckd_plus_the_rest_times_nckd(seed: int, temperature: float) -> None:
    """Zhao et al., eq. 5, for each window by itself: the weight 1 - p belongs to the window."""
    s, t, y = draw(seed)
    p = (t / temperature).softmax(1).gather(1, y[:, None])[:, 0]
    whole = temperature**2 * kl(t / temperature, s / temperature)
    for i in range(B):
        row = (s[i : i + 1], t[i : i + 1], y[i : i + 1])
        got = dkd(*row, alpha=1.0, beta=float(1 - p[i]), temperature=temperature)
        assert float(got) == pytest.approx(float(whole[i]), rel=1e-8, abs=1e-10)


def test_dkd_of_two_classes_has_no_part_for_the_others() -> None:
    s, t, y = (v[:, :2] if v.ndim == 2 else v % 2 for v in draw(6))
    assert float(dkd(s, t, y, alpha=0.0, beta=8.0, temperature=2.0)) == 0.0
    expected = 4 * kl(t / 2, s / 2).mean()
    assert float(dkd(s, t, y, alpha=1.0, beta=8.0, temperature=2.0)) == pytest.approx(float(expected), rel=1e-10)


def test_dkd_survives_a_saturated_teacher() -> None:
    y = torch.arange(K)
    t = 1e4 * F.one_hot(y, K).float()
    s = (-1e4 * F.one_hot(y, K).float()).requires_grad_()
    loss = dkd(s, t, y, alpha=1.0, beta=8.0, temperature=4.0)
    loss.backward()
    assert math.isfinite(float(loss.detach())) and s.grad is not None and bool(torch.isfinite(s.grad).all())


@pytest.mark.parametrize("temperature", [0.0, -1.0, 10.5, math.nan])
def test_temperature_out_of_range_is_refused_with_the_reason(temperature: float) -> None:
    s, t, y = draw(7)
    with pytest.raises(ConfigError, match="uniform"):
        soft(s, t, y, temperature=temperature, soft_weight=0.5)
    with pytest.raises(ConfigError, match="uniform"):
        dkd(s, t, y, alpha=1, beta=1, temperature=temperature)
    with pytest.raises(ConfigError, match="uniform"):
        LossSettings(name="soft", temperature=temperature)


def test_settings_refuse_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="Did you mean 'soft'"):
        LossSettings(name="sotf")
    with pytest.raises(ConfigError, match="soft weight"):
        LossSettings(soft_weight=1.2)
    with pytest.raises(ConfigError, match="label smoothing"):
        LossSettings(label_smoothing=1.0)
    with pytest.raises(ConfigError, match="regression"):
        LossSettings(name="dkd").allow("regression")
    LossSettings(name="dkd").allow("classification")


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_of_the_table_computes_and_says_whether_it_needs_a_teacher(name: str) -> None:
    s, t, y = draw(8)
    settings = LossSettings(name=name)
    assert math.isfinite(float(LOSSES[name].compute(s, t, y, settings)))
    if LOSSES[name].needs_teacher:
        with pytest.raises(ConfigError, match="cache"):
            LOSSES[name].compute(s, None, y, settings)
    else:
        assert float(LOSSES[name].compute(s, None, y, settings)) == float(LOSSES[name].compute(s, t, y, settings))


def test_soft_weight_weighs_the_soft_term_in_every_loss() -> None:
    s, t, y = draw(9)
    for name in ("soft", "dkd"):
        alone = LOSSES[name].compute(s, t, y, LossSettings(name=name, soft_weight=0.0))
        assert float(alone) == pytest.approx(float(F.cross_entropy(s, y)), rel=1e-12)
