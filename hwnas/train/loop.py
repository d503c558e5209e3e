"""The one training loop. Torch; writes a checkpoint where one is asked for.

Everything random comes from generators made of (`seed`, epoch): the same seed and number of torch threads give the same
weights, and a training that was interrupted continues as if it had not been. The *last* epoch's weights are kept, averaged over
steps where the recipe says so: choosing an epoch on a handful of validation patients would choose noise.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwnas.distill import LOSSES
from hwnas.errors import TrainingError
from hwnas.tasks.base import Labels, fingerprint
from hwnas.teachers.augment import augment
from hwnas.train.recipe import Recipe
from hwnas.train.state import Average, load_checkpoint, save_checkpoint

BETAS = (0.9, 0.99)  # a run has hundreds of steps, not the hundreds of thousands that 0.999 is made for


@dataclass(frozen=True, eq=False)
class Targets:
    """What a network shall answer.

    Attributes:
        y: classes (N,) int64, or values (N,) float32 of a regression.
        teacher: a teacher's raw logits (N, K) float32, where the loss reads them.
        taps: a teacher's taps by name, (N, C, L) or (N, W) float32, where the loss reads them.
    """

    y: Labels
    teacher: NDArray[np.float32] | None = None
    taps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FitResult:
    """Mean training loss of each epoch, and the number of optimiser steps."""

    losses: tuple[float, ...]
    steps: int


OnEpoch = Callable[[int, int, float], None]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator seeded inside the block and as it was after it: for weight initialisation and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
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
) -> FitResult:
    """Train `module` (forward: (B, C, T) -> (logits (B, K), taps)) in place on windows `x` (N, C, T); leaves it in eval mode.

    `on_epoch(done, epochs, loss)` is called after each epoch. With `checkpoint` the state is written there after each epoch and
    picked up where the file exists; the caller deletes it when it keeps the result.

    Raises:
        TrainingError: nothing to train on, lengths that differ, a teacher that is missing, a loss that is not finite,
            or a checkpoint of another training.
    """
    _check(x, targets, recipe)
    per_epoch, total = recipe.steps(len(x))
    optimizer = torch.optim.AdamW(_groups(module, recipe.weight_decay), lr=recipe.learning_rate, betas=BETAS)
    average = Average(module, recipe.average) if recipe.average else None
    key = _key(x, targets, recipe, seed) if checkpoint else ""
    done, losses = load_checkpoint(checkpoint, module, optimizer, average, key) if checkpoint else (0, [])
    chances = _chances(targets.y, recipe.balance)
    for epoch in range(done, recipe.epochs):
        generator = np.random.default_rng([seed, epoch])
        order = _order(len(x), per_epoch, recipe.batch_size, chances, generator)
        module.train()
        total_loss = 0.0
        with seeded(int(generator.integers(2**63))):
            for number, index in enumerate(order):
                _set_rate(optimizer, recipe.rate(epoch * per_epoch + number, total))
                total_loss += _step(module, optimizer, x, targets, index, recipe, generator)
                if average is not None:
                    average.update(module)
        losses.append(_finite(total_loss / len(order), recipe, epoch))
        if checkpoint is not None:
            save_checkpoint(checkpoint, module, optimizer, average, epoch + 1, losses, key)
        if on_epoch is not None:
            on_epoch(epoch + 1, recipe.epochs, losses[-1])
    if average is not None:
        module.load_state_dict(average.values)
    module.eval()
    return FitResult(tuple(losses), total)


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: NDArray[np.float32],
    targets: Targets,
    index: NDArray[np.int64],
    recipe: Recipe,
    generator: np.random.Generator,
) -> float:
    batch = torch.from_numpy(augment(x[index], generator, recipe.augment))
    teacher = None if targets.teacher is None else torch.from_numpy(targets.teacher[index])
    logits, _ = module(batch)
    loss: Tensor = LOSSES[recipe.loss.name].compute(logits, teacher, torch.from_numpy(targets.y[index]), recipe.loss)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
    optimizer.step()
    return float(loss.detach())


def _check(x: NDArray[np.float32], targets: Targets, recipe: Recipe) -> None:
    if len(x) < 2:
        raise TrainingError(f"recipe '{recipe.name}': {len(x)} training windows, at least 2 are needed; give more recordings")
    teacher = targets.teacher
    if len(targets.y) != len(x) or (teacher is not None and len(teacher) != len(x)):
        got = f"{len(x)} windows, {len(targets.y)} labels" + ("" if teacher is None else f", {len(teacher)} teacher outputs")
        raise TrainingError(f"recipe '{recipe.name}': {got}; there must be as many of each")
    if teacher is None and LOSSES[recipe.loss.name].needs_teacher:
        raise TrainingError(f"recipe '{recipe.name}': the loss '{recipe.loss.name}' needs a teacher's outputs; cache them first")


def _finite(loss: float, recipe: Recipe, epoch: int) -> float:
    if not math.isfinite(loss):
        raise TrainingError(
            f"recipe '{recipe.name}': the loss is {loss} in epoch {epoch + 1} of {recipe.epochs}; the windows or the teacher's "
            f"outputs hold NaN, or the learning rate {recipe.learning_rate:g} is too large: lower it"
        )
    return loss


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay pulls on weights only, never on biases and batch-norm scales (vectors)."""
    wanted = [p for p in module.parameters() if p.requires_grad]
    if not wanted:
        raise TrainingError("the network has no parameter to train")
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
    weight = np.bincount(y).astype(np.float64)[y] ** -balance
    return np.asarray(weight / weight.sum(), dtype=np.float64)


def _order(
    windows: int, steps: int, batch_size: int, chances: NDArray[np.float64] | None, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Indices of the windows of each step; without class balancing no window comes twice in an epoch."""
    size = min(batch_size, windows)
    count = steps * size
    drawn = generator.permutation(windows)[:count] if chances is None else generator.choice(windows, count, p=chances)
    return [np.asarray(part, dtype=np.int64) for part in drawn.reshape(steps, size)]


def _key(x: NDArray[np.float32], targets: Targets, recipe: Recipe, seed: int) -> str:
    """What a checkpoint must agree in to be continued."""
    teacher = "" if targets.teacher is None else fingerprint(targets.teacher)
    text = json.dumps([fingerprint(x, targets.y), teacher, recipe.to_dict(), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
