"""Ensembles: the mean of calibrated probabilities, an identity that covers every member, and names that make sense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tiny_teachers import shrink
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.teachers import build, member_seeds, members
from hwnas.teachers.card import content_id
from hwnas.teachers.ensemble import Ensemble


class Fixed(nn.Module):
    """Answers the same logits to every window, with a tap of a given shape behind each name."""

    def __init__(self, logits: list[float], **taps: tuple[int, ...]) -> None:
        super().__init__()
        self.logits, self.taps = torch.tensor(logits), taps

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.logits.expand(len(x), -1), {name: torch.full((len(x), *shape), float(shape[0])) for name, shape in self.taps.items()}


X = torch.zeros(2, 1, 50)


def ensemble(*logits: list[float], temperatures: list[float] | None = None) -> Ensemble:
    made = Ensemble([Fixed(one) for one in logits])
    if temperatures is not None:
        made.set_temperatures(temperatures)
    return made.eval()


def test_its_softmax_is_the_mean_of_the_members_calibrated_probabilities() -> None:
    a, b, c, temperatures = [3.0, -1.0, 0.5], [0.0, 4.0, 1.0], [-2.0, 0.1, 0.2], [2.0, 0.5, 3.0]
    got = ensemble(a, b, c, temperatures=temperatures)(X)[0].numpy()
    probabilities = [softmax(np.array(one) / t) for one, t in zip((a, b, c), temperatures, strict=True)]
    assert np.allclose(np.exp(got), np.mean(probabilities, axis=0), atol=1e-6)
    assert np.allclose(got, np.log(np.mean(probabilities, axis=0)), atol=1e-5), "the logits are log-probabilities"
    assert not np.allclose(got, ensemble(a, b, c)(X)[0].numpy(), atol=1e-2), "without temperatures they are other ones"


def test_members_of_one_opinion_keep_it_and_their_order_does_not_matter() -> None:
    a, b = [2.0, -1.0, 0.0], [0.0, 1.0, 5.0]
    assert torch.allclose(ensemble(a, a, a)(X)[0], torch.tensor(a).log_softmax(0).expand(2, 3), atol=1e-6)
    swapped = ensemble(b, a, temperatures=[3.0, 2.0])(X)[0]
    assert torch.allclose(ensemble(a, b, temperatures=[2.0, 3.0])(X)[0], swapped, atol=1e-6)


def test_members_that_are_certain_of_different_classes_give_finite_logits() -> None:
    got = ensemble([4000.0, 0.0, 0.0], [0.0, 4000.0, 0.0])(X)[0]
    assert torch.isfinite(got).all() and torch.allclose(got[0, :2].exp(), torch.tensor([0.5, 0.5]))


def test_taps_stand_one_after_the_other_at_the_shortest_length() -> None:
    one, other = Fixed([0.0, 0.0], stage1=(3, 12), stage2=(4, 6), embedding=(4,)), Fixed([0.0, 0.0], stage1=(5, 4), embedding=(2,))
    _, taps = Ensemble([one, other])(X)
    assert {name: tuple(tap.shape) for name, tap in taps.items()} == {"stage1": (2, 8, 4), "embedding": (2, 6)}
    assert taps["stage1"][:, :3].eq(3).all() and taps["stage1"][:, 3:].eq(5).all()


def test_the_identity_covers_every_member_and_every_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    name = "ensemble:resnet18_1d+resnet18_1d"
    module = build(name, 1, 3)
    seen = {content_id(module, name, "d")}
    assert isinstance(module, Ensemble)
    module.set_temperatures([1.0, 1.5])
    seen.add(content_id(module, name, "d"))
    for member in module.members:
        with torch.no_grad():
            next(member.parameters()).view(-1)[0] += 1e-3
        seen.add(content_id(module, name, "d"))
    assert len(seen) == 4


def test_the_first_of_a_name_is_that_teacher_alone_and_the_next_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    name = "ensemble:ppg_transformer+resnet18_1d+resnet18_1d"
    module = build(name, 1, 3, seed=9)
    assert isinstance(module, Ensemble)
    states = [member.state_dict() for member in module.members]
    for state, alone in zip(states, ("ppg_transformer", "resnet18_1d"), strict=False):
        assert all(torch.equal(value, state[key]) for key, value in build(alone, 1, 3, seed=9).state_dict().items())
    assert not torch.equal(states[1]["head.weight"], states[2]["head.weight"])
    first, second, third = member_seeds(name, 9)
    assert first == second == 9 != third
    repeats = [member_seeds("ensemble:resnet18_1d+resnet18_1d+resnet18_1d", seed) for seed in range(10)]
    assert len({seed for seeds in repeats for seed in seeds}) == 30, "runs of different seeds share no member"


def test_names() -> None:
    assert members("resnet18_1d") == ("resnet18_1d",) and member_seeds("resnet18_1d", 3) == (3,)
    assert members("ensemble:resnet18_1d+ppg_transformer") == ("resnet18_1d", "ppg_transformer")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet18", "unknown teacher 'resnet18'.*Did you mean 'resnet18_1d'.*ensemble:A\\+B"),
        ("ensamble:resnet18_1d+resnet34_1d", "unknown teacher"),
        ("ensemble:resnet18_1d+ppg_transfomer", "unknown member 'ppg_transfomer'.*Did you mean 'ppg_transformer'"),
        ("ensemble:resnet18_1d++resnet34_1d", "unknown member ''"),
        ("ensemble:", "unknown member ''"),
        ("ensemble:resnet18_1d,resnet34_1d", "unknown member.*Write ensemble:A\\+B"),
        ("ensemble:resnet18_1d", "two members at least; write resnet18_1d, or ensemble:resnet18_1d\\+resnet18_1d"),
        ("ensemble:resnet18_1d+ensemble:resnet34_1d+resnet50_1d", "do not nest.*: ensemble:resnet18_1d\\+resnet34_1d\\+resnet50_1d$"),
    ],
)
def test_wrong_names_are_refused_with_what_to_write(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(name, 1, 3)
