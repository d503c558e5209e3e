"""Losses against closed forms, numpy and scipy, autograd identities and each other, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor

from hwnas.distill import bpm, losses
from hwnas.distill.losses import angle_relation, at_length, distance_relation, dkd, hard, hard_bpm, hint, pulse, soft
from hwnas.errors import ConfigError
from hwnas.tasks import bpm as arrays

B, K, W = 7, 6, 5


def draw(seed: int, scale: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shape = (B, K)
    student = scale * torch.randn(shape, generator=g, dtype=torch.float64)
    teacher = scale * torch.randn(shape, generator=g, dtype=torch.float64)
    return student, teacher, torch.randint(0, K, (B,), generator=g)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kl(teacher: Tensor, student: Tensor) -> np.ndarray:
    """KL(t || s) of each row, by scipy, on probabilities."""
    return np.asarray(rel_entr(softmax(teacher.numpy(), axis=1), softmax(student.numpy(), axis=1)).sum(1))


def near(found: Tensor, expected: float, tolerance: float = 1e-10) -> None:
    assert float(found) == pytest.approx(float(expected), rel=tolerance, abs=tolerance)


def test_hard_is_the_mean_negative_log_probability() -> None:
    s, _, y = draw(0)
    near(hard(s, y), -log_softmax(s.numpy(), axis=1)[np.arange(B), y.numpy()].mean(), 1e-12)


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    s, _, y = draw(1)
    q = 0.9 * np.eye(K)[y.numpy()] + 0.1 / K
    near(hard(s, y, label_smoothing=0.1), -(q * log_softmax(s.numpy(), axis=1)).sum(1).mean(), 1e-12)


def test_heart_rates_as_tensors_are_what_they_are_as_arrays() -> None:
    rates = np.concatenate([np.random.default_rng(0).uniform(20, 230, 300), [29.4, 30.5, 31.5, 209.0, 209.6]])
    tensor, logits = torch.from_numpy(rates), random(40, 180, seed=1)
    assert np.array_equal(bpm.classes(tensor).numpy(), arrays.classes(rates))
    assert np.allclose(bpm.soft_targets(tensor, 2.0).numpy(), arrays.soft_targets(rates, 2.0), rtol=1e-12, atol=0)
    assert np.allclose(bpm.expectation(logits).numpy(), (arrays.expectation(logits.numpy()) - 120) / 90, rtol=1e-12)
    assert np.allclose(bpm.to_output(tensor).numpy(), arrays.to_output(rates), atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_of_heart_rates_are_learnt_from_gaussian_targets(smoothing: float) -> None:
    logits, rates = random(9, 180, seed=2), np.random.default_rng(2).uniform(40, 200, 9)
    q = (1 - smoothing) * arrays.soft_targets(rates, 2.0) + smoothing / 180
    expected = -(q * log_softmax(logits.numpy(), axis=1)).sum(1).mean()
    near(hard_bpm(logits, torch.from_numpy(rates), sigma_bpm=2.0, label_smoothing=smoothing), expected, 1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_soft_is_the_published_formula(temperature: float, weight: float) -> None:
    s, t, y = draw(2)
    label = hard(s, y)
    expected = weight * temperature**2 * kl(t / temperature, s / temperature).mean() + (1 - weight) * float(label)
    near(soft(s, t, label, temperature=temperature, soft_weight=weight), expected)


def only_soft(s: Tensor, t: Tensor, temperature: float = 4.0) -> Tensor:
    return soft(s, t, torch.zeros((), dtype=s.dtype), temperature=temperature, soft_weight=1.0)


def test_soft_alone_has_zero_value_and_gradient_where_student_equals_teacher() -> None:
    _, t, _ = draw(3)
    s = t.clone().requires_grad_()
    loss = only_soft(s, t)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-12
    assert s.grad is not None and float(s.grad.abs().max()) < 1e-12
    # and not because gradients are lost
    other = (t + random(*t.shape)).requires_grad_()
    only_soft(other, t).backward()
    assert other.grad is not None and float(other.grad.abs().max()) > 1e-3


def test_soft_gradient_is_the_difference_of_probabilities() -> None:
    s, t, _ = draw(4)
    s.requires_grad_()
    only_soft(s, t, 3.0).backward()
    expected = 3.0 * ((s.detach() / 3).softmax(1) - (t / 3).softmax(1)) / B
    assert torch.allclose(s.grad, expected, atol=1e-12)  # type: ignore[arg-type]


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 10.0))
def test_kl_is_tckd_plus_the_rest_times_nckd(seed: int, temperature: float) -> None:
    """Zhao et al., eq. 5, for each window by itself: the weight 1 - p belongs to the window."""
    s, t, y = draw(seed)
    p = (t / temperature).softmax(1).gather(1, y[:, None])[:, 0]
    whole = temperature**2 * kl(t / temperature, s / temperature)
    parts = []
    for i in range(B):
        row = (s[i : i + 1], t[i : i + 1], y[i : i + 1])
        parts.append(float(dkd(*row, alpha=1.0, beta=float(1 - p[i]), temperature=temperature)))
    assert np.allclose(parts, whole, rtol=1e-10, atol=1e-10)


def test_dkd_of_equal_weights_is_not_the_divergence() -> None:
    """alpha = beta = 1 weighs what a sure teacher says of the other classes up: that is the point of the method."""
    for seed in range(20):
        s, t, y = draw(seed)
        whole = 16 * kl(t / 4, s / 4).mean()
        assert float(dkd(s, t, y, alpha=1.0, beta=1.0, temperature=4.0)) > 1.05 * whole


def test_dkd_by_taking_the_target_out_of_plain_probabilities() -> None:
    s, t, y = draw(11)
    rows, target = np.arange(B), y.numpy()
    parts = []
    for logits in (t, s):
        p = softmax(logits.numpy() / 2, axis=1)
        others = np.delete(p.ravel(), rows * K + target).reshape(B, K - 1)
        parts.append((np.stack([p[rows, target], others.sum(1)], 1), others / others.sum(1, keepdims=True)))
    tckd, nckd = (rel_entr(of_t, of_s).sum(1).mean() for of_t, of_s in zip(*parts, strict=True))
    near(dkd(s, t, y, alpha=0.7, beta=3.0, temperature=2.0), 4 * (0.7 * tckd + 3 * nckd))


def test_dkd_of_two_classes_has_no_part_for_the_others() -> None:
    s, t, y = (v[:, :2] if v.ndim == 2 else v % 2 for v in draw(6))
    assert float(dkd(s, t, y, alpha=0.0, beta=8.0, temperature=2.0)) == 0.0
    near(dkd(s, t, y, alpha=1.0, beta=8.0, temperature=2.0), 4 * kl(t / 2, s / 2).mean())


def test_hint_is_the_mean_squared_difference() -> None:
    a, b = random(3, 4, 6), random(3, 4, 6, seed=1)
    near(hint(a, b), np.square(a.numpy() - b.numpy()).mean(), 1e-12)


@pytest.mark.parametrize(("length", "to"), [(12, 4), (7, 3), (5, 5), (9, 1)])
def test_a_longer_tap_is_averaged_to_the_shorter(length: int, to: int) -> None:
    tap = random(2, 3, length)
    cuts = [(i * length // to, -(-(i + 1) * length // to)) for i in range(to)]
    expected = np.stack([tap.numpy()[:, :, a:b].mean(2) for a, b in cuts], axis=2)
    assert np.allclose(at_length(tap, to).numpy(), expected, atol=1e-14)


def huber(a: float, b: float) -> float:
    return 0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5


def distances(e: np.ndarray) -> dict[tuple[int, ...], float]:
    found = {(i, j): float(np.linalg.norm(e[i] - e[j])) for i, j in permutations(range(len(e)), 2)}
    mean = sum(found.values()) / len(found)
    return {pair: length / mean for pair, length in found.items()}


def angles(e: np.ndarray) -> dict[tuple[int, ...], float]:
    found = {}
    for i, j, k in permutations(range(len(e)), 3):
        a, b = e[i] - e[j], e[k] - e[j]
        found[i, j, k] = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_relations_are_those_of_every_pair_and_triplet(seed: int) -> None:
    s, t = random(6, W, seed=seed), random(6, 2 * W, seed=seed + 9).exp()
    for found, of in ((distance_relation, distances), (angle_relation, angles)):
        mine, theirs = of(s.numpy()), of(t.numpy())
        near(found(s, t), np.mean([huber(mine[which], theirs[which]) for which in mine]))


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(0.01, 100))
def test_relations_stay_when_either_side_is_turned_scaled_and_moved(seed: int, a: float, b: float) -> None:
    s, t = random(B, W, seed=seed), random(B, W + 2, seed=seed + 1)
    turned = [e @ torch.linalg.qr(random(e.shape[1], e.shape[1], seed=seed + 2))[0] for e in (s, t)]
    moved = a * turned[0] + random(W, seed=seed + 3), b * turned[1] - 3
    for loss in (distance_relation, angle_relation):
        near(loss(*moved), float(loss(s, t)), 1e-9)
        assert float(loss(turned[0], a * s)) < 1e-12 < float(loss(s, t))


@pytest.mark.parametrize("loss", [distance_relation, angle_relation])
def test_relations_of_windows_that_are_one_have_finite_gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """A balanced epoch may draw a window twice, and a network may answer all windows alike."""
    twice, t = random(6, W).float(), random(6, W, seed=1).float()
    twice[3] = twice[1]
    for s in (twice, torch.zeros(6, W), torch.zeros(2, W)):
        s = s.clone().requires_grad_()
        value = loss(s, t[: len(s)])
        value.backward()
        assert math.isfinite(float(value.detach())) and s.grad is not None and float(s.grad.abs().max()) < 10
    for s in (random(2, W), random(6, W)):
        assert math.isfinite(float(loss(s, torch.zeros_like(s))))


def test_pulse_is_its_published_form() -> None:
    s, y, t = random(B), random(B, seed=1), random(B, seed=2)
    own, taught = random(B, W, seed=3), random(B, W, seed=4)
    values = 0.5 * np.abs(y - s).mean() + 0.5 * np.abs(t - s).mean()
    relation = np.square(softmax(taught.numpy(), axis=1) - softmax(own.numpy(), axis=1)).mean()
    near(pulse(s, y, t, own, taught, value_share=2 / 3, label_share=1 / 2), float(2 / 3 * values + relation / 3), 1e-12)
    near(pulse(s, y, t, own, taught, value_share=1.0, label_share=0.0), float(np.abs(t - s).mean()), 1e-12)


Term = Callable[[Tensor, Tensor], Tensor]
_, _, TARGET = draw(12)
RATES = torch.linspace(60.0, 150.0, B, dtype=torch.float64)
TERMS: dict[str, tuple[int, Term]] = {
    "hard": (K, lambda s, t: hard(s, TARGET, label_smoothing=0.1)),
    "hard_bpm": (180, lambda s, t: hard_bpm(s, RATES, sigma_bpm=2.0)),
    "absolute": (1, lambda s, t: losses.absolute(s[:, 0], t[:, 0])),
    "expectation": (180, lambda s, t: losses.absolute(bpm.expectation(s), bpm.to_output(RATES))),
    "soft": (K, lambda s, t: soft(s, t, hard(s, TARGET), temperature=3.0, soft_weight=0.7)),
    "dkd": (K, lambda s, t: dkd(s, t, TARGET, alpha=1.0, beta=4.0, temperature=3.0)),
    "hint": (W, lambda s, t: hint(at_length(s[:, :, None].expand(-1, -1, 6), 4), at_length(t[:, :, None].expand(-1, -1, 4), 4))),
    "distance": (W, distance_relation),
    "angle": (W, angle_relation),
    "pulse": (W, lambda s, t: pulse(s[:, 0], t[:, 1], t[:, 0], s[:, 1:], t[:, 1:], value_share=2 / 3, label_share=0.5)),
}


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_the_numerical_ones(name: str) -> None:
    width, loss = TERMS[name]
    s, t = random(B, width, seed=20).requires_grad_(), random(B, width, seed=21)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (s,), eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    width, loss = TERMS[name]
    s, t = random(B, width).requires_grad_(), random(B, width, seed=1).requires_grad_()
    loss(s, t).backward()
    assert t.grad is None and s.grad is not None and float(s.grad.abs().max()) > 0


@pytest.mark.parametrize("name", TERMS)
def test_saturated_logits_give_finite_losses_and_gradients(name: str) -> None:
    """One class taken for certain by one side and excluded by the other, in float32."""
    width, loss = TERMS[name]
    t = torch.full((B, width), -1e4)
    t[torch.arange(B), torch.arange(B) % width] = 1e4
    s = (-t).clone().requires_grad_()
    value = loss(s, t)
    value.backward()
    assert math.isfinite(float(value.detach())) and s.grad is not None and bool(torch.isfinite(s.grad).all())


@pytest.mark.parametrize("temperature", [0.0, -1.0, 10.5, math.nan])
def test_temperature_out_of_range_is_refused_with_the_reason(temperature: float) -> None:
    s, t, y = draw(7)
    with pytest.raises(ConfigError, match="uniform"):
        soft(s, t, hard(s, y), temperature=temperature, soft_weight=0.5)
    with pytest.raises(ConfigError, match="uniform"):
        dkd(s, t, y, alpha=1, beta=1, temperature=temperature)


def test_shares_out_of_range_are_refused_by_name() -> None:
    s, t, _ = draw(7)
    with pytest.raises(ConfigError, match=r"soft weight 1.2.*0 to 1"):
        soft(s, t, s.sum(), temperature=4.0, soft_weight=1.2)
    with pytest.raises(ConfigError, match="value share"):
        pulse(s[:, 0], s[:, 0], t[:, 0], s, t, value_share=-0.1, label_share=0.5)
