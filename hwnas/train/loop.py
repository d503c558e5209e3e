"""The one training loop. Torch; writes a checkpoint where one is asked for.

Everything random comes from generators made of (`seed`, epoch): the same seed and number of torch threads give the same
weights, and a training that was interrupted continues as if it had not been. The *last* epoch's weights are kept, averaged over
steps where the recipe says so: choosing an epoch on a handful of validation patients would choose noise. A caller with enough of
them watches a figure, and the best epoch's are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.distill import Batch, Targets, objective
from hwnas.errors import TrainingError
from hwnas.tasks.base import Labels, fingerprint
from hwnas.teachers.augment import augment
from hwnas.train.recipe import Recipe
from hwnas.train.state import Average, Training, copied, load_checkpoint, save_checkpoint

BETAS = (0.9, 0.99)  # a run has hundreds of steps, not the hundreds of thousands that 0.999 is made for
BAND_BPM = 10.0  # heart rates are balanced in bands this wide


@dataclass(frozen=True, slots=True)
class FitResult:
    """Mean training loss of each epoch, the number of optimiser steps, and what `watch` said after each epoch."""

    losses: tuple[float, ...]
    steps: int
    watched: tuple[float, ...] = ()

    @property
    def kept(self) -> int:
        """How many epochs the kept weights have behind them."""
        return 1 + self.watched.index(min(self.watched)) if self.watched else len(self.losses)


OnEpoch = Callable[[int, int, float], None]
Watch = Callable[[nn.Module], float]


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Torch's global generators seeded inside the block and as they were after it: for weight initialisation and dropout."""
    place = torch.device(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if place.type == "cuda":
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield


def fit(
    module: nn.Module,
    x: NDArray[np.float32],
    targets: Targets,
    recipe: Recipe,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
) -> FitResult:
    """Train `module` (forward: (B, C, T) -> (outputs (B, K), taps)) in place on windows `x` (N, C, T); leaves it in eval mode on the CPU.

    `on_epoch(done, epochs, loss)` is called after each epoch. With `checkpoint` the state is written there after each epoch and
    picked up where the file exists; the caller deletes it when it keeps the result. `watch` is shown the module in eval mode after each
    epoch, with the weights that would be kept then; those that it gave the smallest number for are kept, and after `recipe.patience`
    epochs without a smaller one the training ends.

    Raises:
        ConfigError: a loss that the kind of task does not have.
        TrainingError: nothing to train on, lengths or shapes that differ, a teacher or taps that are missing, a loss that is not finite,
            or a checkpoint of another training.
    """
    _check(x, targets, recipe, watch)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise TrainingError("the network has no parameter to train")
    per_epoch, total = recipe.steps(len(x))
    aim = objective(recipe.loss, module, x, targets, seed)
    module.to(device)
    aim.to(device)
    optimizer = torch.optim.AdamW(_groups(module, aim, recipe.weight_decay), lr=recipe.learning_rate, betas=BETAS)
    training = Training(module, aim, optimizer, Average(module, recipe.average) if recipe.average else None)
    key = ""
    if checkpoint is not None:
        key = _key(x, targets, recipe, seed, watch is not None)
        load_checkpoint(checkpoint, training, key)
    chances = _chances(targets.y, recipe.balance)
    while not _over(training, recipe):
        epoch = len(training.losses)
        generator = np.random.default_rng([seed, epoch])
        order = _order(len(x), per_epoch, recipe.batch_size, chances, generator)
        module.train()
        total_loss = 0.0
        with seeded(int(generator.integers(2**63)), device):
            for number, index in enumerate(order):
                _set_rate(optimizer, recipe.rate(epoch * per_epoch + number, total))
                total_loss += _step(training, x, targets, index, recipe, generator, device)
        training.losses.append(_finite(total_loss / len(order), recipe, epoch))
        if watch is not None:
            _watch(training, watch, recipe)
        if checkpoint is not None:
            save_checkpoint(checkpoint, training, key)
        if on_epoch is not None:
            on_epoch(epoch + 1, recipe.epochs, training.losses[-1])
    if kept := training.best or (training.average.values if training.average else {}):
        module.load_state_dict(kept)
    module.to("cpu").eval()
    return FitResult(tuple(training.losses), per_epoch * len(training.losses), tuple(training.watched))


def _over(training: Training, recipe: Recipe) -> bool:
    impatient = recipe.patience is not None and training.stale >= recipe.patience
    return len(training.losses) >= recipe.epochs or impatient


def _step(
    training: Training,
    x: NDArray[np.float32],
    targets: Targets,
    index: NDArray[np.int64],
    recipe: Recipe,
    generator: np.random.Generator,
    device: str,
) -> float:
    windows, rate = augment(x[index], generator, recipe.augment)
    y = targets.y[index] * rate if targets.kind == "regression" else targets.y[index]
    teacher = None if targets.teacher is None else torch.from_numpy(targets.teacher[index]).to(device)
    taught = {name: torch.from_numpy(targets.taps[name][index]).to(device) for name in recipe.loss.teacher_taps}
    batch = Batch(torch.from_numpy(y).to(device), teacher, taught)
    outputs, taps = training.module(torch.from_numpy(windows).to(device))
    loss: Tensor = training.objective(outputs, taps, batch)
    training.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    # apart: a large gradient of something that is thrown away does not shorten the module's step
    for part in (training.module, training.objective):
        if parameters := list(part.parameters()):
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
    training.optimizer.step()
    if training.average is not None:
        training.average.update(training.module)
    return float(loss.detach())


def _watch(training: Training, watch: Watch, recipe: Recipe) -> None:
    """Show `watch` the weights that would be kept now, and leave the module as it was."""
    module, trained = training.module, copied(training.module)
    if training.average is not None:
        module.load_state_dict(training.average.values)
    module.eval()
    with torch.no_grad():
        score = watch(module)
    if math.isnan(score):
        raise TrainingError(f"recipe '{recipe.name}': the watched figure is NaN in epoch {len(training.losses)}; watch one that exists")
    training.watch(score, copied(module))
    module.load_state_dict(trained)


def _check(x: NDArray[np.float32], targets: Targets, recipe: Recipe, watch: Watch | None) -> None:
    if len(x) < 2:
        raise TrainingError(f"recipe '{recipe.name}': {len(x)} training windows, at least 2 are needed; give more recordings")
    given = {"labels": targets.y, "teacher outputs": targets.teacher} | {f"of the tap {name}": tap for name, tap in targets.taps.items()}
    counts = {what: len(array) for what, array in given.items() if array is not None}
    if set(counts.values()) != {len(x)}:
        got = ", ".join(f"{count} {what}" for what, count in counts.items())
        raise TrainingError(f"recipe '{recipe.name}': {len(x)} windows, {got}; there must be as many of each")
    if targets.kind == "regression" and not np.isfinite(targets.y).all():
        raise TrainingError(f"recipe '{recipe.name}': labels hold NaN or infinity; leave such windows out")
    if recipe.patience is not None and watch is None:
        raise TrainingError(f"recipe '{recipe.name}': patience {recipe.patience} with nothing to watch; set it to none or watch a figure")


def _finite(loss: float, recipe: Recipe, epoch: int) -> float:
    if not math.isfinite(loss):
        raise TrainingError(
            f"recipe '{recipe.name}': the loss is {loss} in epoch {epoch + 1} of {recipe.epochs}; the windows or the teacher's "
            f"outputs hold NaN, or the learning rate {recipe.learning_rate:g} is too large: lower it"
        )
    return loss


def _groups(module: nn.Module, aim: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay pulls on weights only, never on biases and batch-norm scales (vectors)."""
    wanted = [p for part in (module, aim) for p in part.parameters() if p.requires_grad]
    matrices, vectors = [p for p in wanted if p.ndim > 1], [p for p in wanted if p.ndim <= 1]
    pairs = ((matrices, weight_decay), (vectors, 0.0))
    return [{"params": parameters, "weight_decay": decay} for parameters, decay in pairs if parameters]


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _chances(y: Labels, balance: float) -> NDArray[np.float64] | None:
    """Chance of each window to be drawn, or None where all are alike."""
    if balance == 0.0:
        return None
    groups = y if np.issubdtype(y.dtype, np.integer) else np.floor(y / BAND_BPM).astype(np.int64)
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weight = counts.astype(np.float64)[group] ** -balance
    return np.asarray(weight / weight.sum(), dtype=np.float64)


def _order(
    windows: int, steps: int, batch_size: int, chances: NDArray[np.float64] | None, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Indices of the windows of each step; without class balancing no window comes twice in an epoch."""
    size = min(batch_size, windows)
    count = steps * size
    drawn = generator.permutation(windows)[:count] if chances is None else generator.choice(windows, count, p=chances)
    return [np.asarray(part, dtype=np.int64) for part in drawn.reshape(steps, size)]


def _key(x: NDArray[np.float32], targets: Targets, recipe: Recipe, seed: int, watched: bool) -> str:
    """What a checkpoint must agree in to be continued."""
    teacher = "" if targets.teacher is None else fingerprint(targets.teacher)
    taps = {name: fingerprint(targets.taps[name]) for name in recipe.loss.teacher_taps}
    text = json.dumps([fingerprint(x, targets.y), teacher, taps, recipe.to_dict(), seed, watched], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
