"""The training loop: learns, repeats itself, continues after an interruption, and refuses what cannot be trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hwnas.distill import LossSettings, read
from hwnas.errors import ConfigError, TrainingError
from hwnas.teachers.cache import predict
from hwnas.train import FULL, QAT, RECIPES, SHORT, TEACHER, Recipe, Targets, fit, seeded
from hwnas.train.loop import _chances, _order

RECIPE = Recipe(name="test", epochs=4, batch_size=16, learning_rate=0.02, augment=0.5, average=0.9, balance=0.5)


class Net(nn.Module):
    """A small network with batch norm and dropout: everything that can make a repeat differ."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        first, second = nn.Conv1d(1, 8, 9, 4), nn.Conv1d(8, 8, 5, 2)
        self.body = nn.Sequential(first, nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), second, nn.ReLU())
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        h = self.body(x).mean(2)
        return self.head(h), {"embedding": h}


def net(outputs: int = 2) -> Net:
    with seeded(0):
        return Net(outputs)


def data(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Slow and fast sines."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, count)
    turns = np.where(y, 14.0, 5.0)[:, None] * np.linspace(0, 1, 120) + rng.random((count, 1))
    return np.sin(2 * np.pi * turns).astype(np.float32)[:, None], y.astype(np.int64)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_it_learns_and_leaves_the_module_in_eval_mode() -> None:
    x, y = data()
    module, seen = net(), []
    recipe = dataclasses.replace(RECIPE, epochs=15, augment=0.0)
    result = fit(module, x, Targets(y), recipe, seed=0, on_epoch=lambda *a: seen.append(a))
    assert not module.training and (predict(module, x).argmax(1) == y).mean() > 0.95
    assert result.losses[-1] < 0.5 * result.losses[0] and result.steps == 15 * (90 // 16)
    assert [s[0] for s in seen] == list(range(1, 16)) and [s[2] for s in seen] == list(result.losses)


def test_same_seed_same_weights_whatever_the_global_generators_hold() -> None:
    x, y = data()
    modules = []
    for seed, noise in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(noise)
        np.random.seed(noise)
        module = net()
        before = torch.random.get_rng_state()
        fit(module, x, Targets(y), RECIPE, seed=seed)
        assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
        modules.append(module)
    assert same(modules[0], modules[1]) and not same(modules[0], modules[2])


def rates(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Sines of 50 to 170 BPM in windows of 8 s, and those."""
    rng = np.random.default_rng(0)
    y = rng.uniform(50, 170, count).astype(np.float32)
    turns = y[:, None] / 60 * np.linspace(0, 8, 120) + rng.random((count, 1))
    return np.sin(2 * np.pi * turns).astype(np.float32)[:, None], y


def taught(y: np.ndarray, classes: int) -> Targets:
    """Made-up answers of a teacher."""
    rng = np.random.default_rng(2)
    logits, embedding = rng.normal(size=(len(y), classes)), rng.normal(size=(len(y), 3))
    return Targets(y, logits.astype(np.float32), {"embedding": embedding.astype(np.float32), "unused": np.zeros((len(y), 1), np.float32)})


LEARNT = {
    "labels": (data, 2, RECIPE),
    "adapters": (data, 2, dataclasses.replace(RECIPE, augment=0.0, loss=read("dkd+hint+relation"))),
    "class head": (rates, 1, dataclasses.replace(RECIPE, augment=0.0, loss=read("soft+hint"))),
    "last weights": (rates, 1, dataclasses.replace(RECIPE, average=0.0)),
}


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("name", "stop"), [("labels", 1), ("labels", 3), ("labels", 4), ("adapters", 2), ("class head", 3), ("last weights", 2)]
)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path, name: str, stop: int, watched: bool) -> None:
    make, outputs, recipe = LEARNT[name]
    x, y = make()
    targets = taught(y, 2 if outputs == 2 else 180)
    # a figure of the weights that falls, then rises: an epoch in the middle is the best
    watch = (lambda module: abs(float(module.head.weight.detach().std()) - 0.25)) if watched else None
    whole, path = net(outputs), tmp_path / "state.safetensors"
    expected = fit(whole, x, targets, recipe, seed=1, watch=watch)

    class Stop(Exception):
        pass

    def interrupt(done: int, epochs: int, loss: float) -> None:
        if done == stop:
            raise Stop

    with pytest.raises(Stop):
        fit(net(outputs), x, targets, recipe, seed=1, checkpoint=path, on_epoch=interrupt, watch=watch)
    resumed, calls = net(outputs), []
    result = fit(resumed, x, targets, recipe, seed=1, checkpoint=path, on_epoch=lambda *a: calls.append(a[0]), watch=watch)
    assert same(resumed, whole) and result == expected and calls == list(range(stop + 1, 5))


def test_the_weights_that_the_watched_figure_is_smallest_for_are_kept() -> None:
    x, y = data()
    figures, weighed = [3.0, 1.0, 2.0, 1.0], []

    def watch(module: nn.Module) -> float:
        assert not module.training and not torch.is_grad_enabled()
        weighed.append(weights(module))
        return figures[len(weighed) - 1]

    module, unwatched = net(), net()
    result = fit(module, x, Targets(y), RECIPE, seed=0, watch=watch)
    assert result.watched == tuple(figures) and result.kept == 2 and len(result.losses) == 4
    assert all(torch.equal(value, weighed[1][key]) for key, value in module.state_dict().items())
    plain = fit(unwatched, x, Targets(y), RECIPE, seed=0)
    assert plain.losses == result.losses and plain.kept == 4, "watching changes nothing in the training"
    assert all(torch.equal(value, weighed[3][key]) for key, value in unwatched.state_dict().items()), "what is watched would be kept"


def test_patience_ends_a_training_that_gets_no_better(tmp_path: Path) -> None:
    x, y = data()
    figures = [3.0, 1.0, 2.0, 1.5, 0.0]
    for patience, epochs in ((1, 3), (2, 4), (3, 5)):
        seen: list[int] = []

        def watch(module: nn.Module, seen: list[int] = seen) -> float:
            seen.append(0)
            return figures[len(seen) - 1]

        recipe = dataclasses.replace(RECIPE, epochs=5, patience=patience)
        result = fit(net(), x, Targets(y), recipe, seed=0, watch=watch, checkpoint=tmp_path / str(patience))
        assert len(result.losses) == epochs and result.steps == epochs * 5 and result.kept == (5 if epochs == 5 else 2)
        again = fit(net(), x, Targets(y), recipe, seed=0, watch=watch, checkpoint=tmp_path / str(patience))
        assert again == result and len(seen) == epochs, "a finished training is not continued"
    with pytest.raises(TrainingError, match="patience 3 with nothing to watch"):
        fit(net(), x, Targets(y), recipe, seed=0)
    with pytest.raises(TrainingError, match="watched figure is NaN in epoch 1"):
        fit(net(), x, Targets(y), RECIPE, seed=0, watch=lambda module: float("nan"))


def test_a_label_is_stretched_with_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network answers the rate that it is told; no error is left where the label was told the same rate."""

    def twice(x: np.ndarray, generator: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
        rate = np.linspace(0.5, 2.0, len(x)).astype(np.float32)
        return x * rate[:, None, None], rate

    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return (100 * x[:, :, 0] - 120) / 90 + 0 * self.w, {}

    monkeypatch.setattr("hwnas.train.loop.augment", twice)
    y = np.random.default_rng(0).uniform(40, 100, 32).astype(np.float32)
    recipe = Recipe(name="t", epochs=1, batch_size=16, augment=1.0)
    result = fit(Told(), (y / 100)[:, None, None], Targets(y), recipe, seed=0)
    assert result.losses[0] < 1e-6
    classes = (y > 70).astype(np.int64)
    fit(net(), data(32)[0], Targets(classes), recipe, seed=0)


def test_rates_are_balanced_in_bands_of_ten() -> None:
    y = np.array([*np.linspace(60, 69.9, 30), *np.linspace(70, 79.9, 10), 151.0, 159.0, -3.0], np.float32)
    chances = _chances(y, 1.0)
    assert chances is not None and chances.sum() == pytest.approx(1)
    assert [part.sum() for part in np.split(chances, [30, 40, 42])] == pytest.approx([0.25] * 4)
    half = _chances(y, 0.5)
    assert half is not None and half[0] / half[-1] == pytest.approx(30**-0.5)


def test_a_large_gradient_of_what_is_thrown_away_does_not_shorten_the_networks_step() -> None:
    class Closed(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            outputs, taps = super().forward(x)
            return outputs, {name: tap.detach() for name, tap in taps.items()}

    x, y = data()
    modules = []
    for text in ("hard", "hint:weight=1000000"):
        with seeded(0):
            modules.append(Closed())
        recipe = dataclasses.replace(RECIPE, augment=0.0, clip_norm=0.1, loss=read(text))
        fit(modules[-1], x, taught(y, 2), recipe, seed=0)
    assert same(*modules)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_and_gives_the_module_back() -> None:
    x, y = rates()
    recipe = dataclasses.replace(RECIPE, epochs=20, augment=0.0, average=0.5, loss=read("soft+hint+relation"))
    modules = []
    for _ in range(2):
        modules.append(net(1))
        state = torch.random.get_rng_state(), torch.cuda.get_rng_state()
        result = fit(modules[-1], x, taught(y, 180), recipe, seed=0, device="cuda", watch=lambda module: 0.0)
        assert all(torch.equal(a, b) for a, b in zip(state, (torch.random.get_rng_state(), torch.cuda.get_rng_state()), strict=True))
        assert result.losses[-1] < result.losses[0] and {p.device.type for p in modules[-1].parameters()} == {"cpu"}
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(modules[0].parameters(), modules[1].parameters(), strict=True))


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    x, y = data()
    path = tmp_path / "state.safetensors"
    fit(net(), x, Targets(y), RECIPE, seed=1, checkpoint=path)
    other = dataclasses.replace(RECIPE, learning_rate=0.03)
    taps = Targets(y, taps={"embedding": np.zeros((len(y), 2), np.float32)})
    loss = dataclasses.replace(RECIPE, augment=0.0, loss=read("hint"))
    wrong = (((x, Targets(y), RECIPE), 2), ((x, Targets(y), other), 1), ((x, Targets(1 - y), RECIPE), 1), ((x, taps, loss), 1))
    for arguments, seed in wrong:
        with pytest.raises(TrainingError, match="another recipe, seed or data"):
            fit(net(), *arguments, seed=seed, checkpoint=path)
    with pytest.raises(TrainingError, match="another recipe, seed or data"):
        fit(net(), x, Targets(y), RECIPE, seed=1, checkpoint=path, watch=lambda module: 0.0)
    fit(net(), x, taps, loss, seed=1, checkpoint=tmp_path / "hint")
    moved = Targets(y, taps={"embedding": np.ones((len(y), 2), np.float32)})
    with pytest.raises(TrainingError, match="another recipe, seed or data"):
        fit(net(), x, moved, loss, seed=1, checkpoint=tmp_path / "hint")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match="not a checkpoint"):
        fit(net(), x, Targets(y), RECIPE, seed=1, checkpoint=path)


@pytest.mark.parametrize("name", ["soft", "dkd"])
def test_a_student_follows_its_teacher_against_the_labels(name: str) -> None:
    x, y = data()
    teacher = 8 * np.eye(2, dtype=np.float32)[1 - y]
    settings = LossSettings(name=name, soft_weight=1.0, temperature=2.0)
    recipe = dataclasses.replace(RECIPE, epochs=15, augment=0.0, loss=settings)
    module = net()
    fit(module, x, Targets(y, teacher), recipe, seed=0)
    assert (predict(module, x).argmax(1) == 1 - y).mean() > 0.95


def test_nothing_to_train_on_and_lengths_that_differ_are_errors() -> None:
    x, y = data()
    soft = dataclasses.replace(RECIPE, augment=0.0, loss=LossSettings(name="soft"))
    with pytest.raises(TrainingError, match="1 training windows"):
        fit(net(), x[:1], Targets(y[:1]), RECIPE, seed=0)
    with pytest.raises(TrainingError, match="90 windows, 89 labels"):
        fit(net(), x, Targets(y[1:]), RECIPE, seed=0)
    with pytest.raises(TrainingError, match="3 teacher outputs"):
        fit(net(), x, Targets(y, np.zeros((3, 2), np.float32)), soft, seed=0)
    with pytest.raises(TrainingError, match="cache them"):
        fit(net(), x, Targets(y), soft, seed=0)
    with pytest.raises(TrainingError, match="7 of the tap embedding"):
        fit(net(), x, Targets(y, taps={"embedding": np.zeros((7, 2), np.float32)}), RECIPE, seed=0)
    with pytest.raises(TrainingError, match="labels hold NaN"):
        fit(net(1), x, Targets(np.where(y, np.nan, 60.0).astype(np.float32)), RECIPE, seed=0)
    with pytest.raises(TrainingError, match="no parameter"):
        fit(nn.Identity(), x, Targets(y), RECIPE, seed=0)


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path: Path) -> None:
    x, y = data()
    x[5] = np.nan
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 1 of 4.*learning rate 0.02"):
        fit(net(), x, Targets(y), dataclasses.replace(RECIPE, balance=0.0), seed=0, checkpoint=tmp_path / "c")
    assert not list(tmp_path.iterdir()), "nothing to resume from"


def test_weight_decay_spares_vectors() -> None:
    """With the loss flat in the weights, decay alone moves them: matrices shrink, biases stay."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return torch.zeros(len(x), 2) + 0.0 * (self.matrix.sum() + self.vector.sum()), {}

    module = Constant()
    x, y = data()
    fit(module, x, Targets(y), Recipe(name="t", epochs=1, weight_decay=0.5, learning_rate=0.1), seed=0)
    assert float(module.matrix.detach().max()) < 1.0 and torch.equal(module.vector.detach(), torch.ones(2))


@given(windows=st.integers(2, 500), batch=st.integers(2, 64), cap=st.none() | st.integers(2, 600))
def test_an_epoch_draws_as_many_windows_as_it_should_and_none_twice(windows: int, batch: int, cap: int | None) -> None:
    recipe = Recipe(name="t", epochs=3, batch_size=batch, windows_per_epoch=cap)
    per_epoch, total = recipe.steps(windows)
    assert total == 3 * per_epoch
    order = np.concatenate(_order(windows, per_epoch, batch, None, np.random.default_rng(0)))
    assert len(set(order.tolist())) == len(order) <= min(windows, max(cap or windows, batch))
    assert len(order) > min(cap or windows, windows) - batch


def test_balance_one_draws_classes_equally_often() -> None:
    x = np.zeros((1000, 1, 8), np.float32)
    y = (np.arange(1000) < 50).astype(np.int64)
    seen: list[float] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            seen.append(float(x.mean()))
            return self.w.expand(len(x), 2), {}

    x[:50] = 1.0
    for balance, share in ((0.0, 0.05), (1.0, 0.5)):
        seen.clear()
        fit(Spy(), x, Targets(y), Recipe(name="t", epochs=4, batch_size=100, balance=balance), seed=0)
        assert np.mean(seen) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("recipe", list(RECIPES.values()), ids=list(RECIPES))
def test_learning_rate_rises_to_its_maximum_and_falls_to_nearly_nothing(recipe: Recipe) -> None:
    rates = [recipe.rate(step, 200) for step in range(200)]
    peak = int(np.argmax(rates))
    assert max(rates) == pytest.approx(recipe.learning_rate) and rates[-1] < 0.01 * recipe.learning_rate
    assert np.all(np.diff(rates[: peak + 1]) > 0) and np.all(np.diff(rates[peak + 1 :]) < 0)


@pytest.mark.parametrize("field", ["epochs", "batch_size", "learning_rate", "clip_norm", "windows_per_epoch", "patience"])
def test_numbers_out_of_range_are_refused_by_name(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(SHORT, **{field: 0})


def test_augmentation_with_cached_outputs_is_refused() -> None:
    with pytest.raises(ConfigError, match="cache fixed views"):
        dataclasses.replace(SHORT, augment=0.5)


def test_recipes_are_plain_values() -> None:
    for recipe in (TEACHER, SHORT, FULL, QAT):
        values = json.loads(json.dumps(recipe.to_dict()))
        loss = LossSettings(**values.pop("loss"))
        assert Recipe(**values, loss=loss) == recipe
    assert SHORT.at_temperature(5.0).loss.temperature == 5.0 and SHORT.at_temperature(5.0).epochs == SHORT.epochs


def test_integers_are_trained_gently_and_on_the_lessons_of_the_full_distillation() -> None:
    assert QAT.loss == FULL.loss and QAT.augment == 0.0
    assert QAT.learning_rate < FULL.learning_rate / 5 and QAT.steps(10_000)[1] < FULL.steps(10_000)[1] / 5
    assert QAT.weight_decay == 0.0, "decay would pull integers off their scale"


@pytest.mark.parametrize("samples", [500, 1000, 3000])
def test_longer_windows_take_as_many_steps_over_as_many_samples(samples: int) -> None:
    recipe = FULL.at_length(samples)
    assert recipe.steps(10**6)[1] == pytest.approx(FULL.steps(10**6)[1], rel=0.03)
    assert recipe.windows_per_epoch is not None and FULL.windows_per_epoch is not None
    assert recipe.windows_per_epoch * samples == pytest.approx(FULL.windows_per_epoch * 1000, rel=0.01)
    assert FULL.at_length(1000) == FULL and FULL.at_length(10**6).batch_size == 16
