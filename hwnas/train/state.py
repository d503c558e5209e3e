"""What a training carries from epoch to epoch: weights, their average, the best ones, and a checkpoint of all. Torch; writes one file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hwnas.errors import TrainingError
from hwnas.resources import write_bytes

Tensors = dict[str, Tensor]


class Average:
    """Exponential moving average of parameters and batch statistics, without bias towards the first weights.

    The decay of step n is min(`decay`, n / (n + 9)): early averages forget quickly.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.steps = 0
        self.values = copied(module)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after one more step."""
        decay = min(self._decay, self.steps / (self.steps + 9.0))
        self.steps += 1
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[key].lerp_(value, 1.0 - decay)
            else:
                self.values[key].copy_(value)


@dataclass(eq=False)
class Training:
    """A training between two epochs.

    Attributes:
        module: what is trained; its weights now.
        objective: what it is trained by, with parameters of its own.
        average: the averaged weights of `module`, where they are kept instead of the last.
        losses, watched: mean loss of each epoch, and what the caller's `watch` said after it.
        best: the weights of the epoch that `watched` is smallest of.
    """

    module: nn.Module
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None
    losses: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)

    def watch(self, score: float, weights: Tensors) -> None:
        """Take in what was said of `weights` after an epoch."""
        if not self.watched or score < min(self.watched):
            self.best = weights
        self.watched.append(score)

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.watched) - 1 - self.watched.index(min(self.watched)) if self.watched else 0


def copied(module: nn.Module) -> Tensors:
    """The state of `module` by name, in memory of its own."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def save_checkpoint(path: Path, training: Training, key: str) -> None:
    """Write the state to `path` in one piece; raises RunError where that fails."""
    average = training.average
    tensors = _named("module.", training.module.state_dict()) | _named("objective.", training.objective.state_dict())
    for index, slot in training.optimizer.state_dict()["state"].items():
        tensors |= _named(f"optimizer.{index}.", {name: torch.as_tensor(value) for name, value in slot.items()})
    tensors |= _named("average.", average.values if average else {}) | _named("best.", training.best)
    about = {"key": key, "losses": training.losses, "watched": training.watched, "average_steps": average.steps if average else 0}
    # cloned: safetensors refuses tensors that share memory
    write_bytes(path, save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, {"training": json.dumps(about)}))


def load_checkpoint(path: Path, training: Training, key: str) -> None:
    """Restore what `save_checkpoint` wrote; nothing where there is no file.

    Raises:
        TrainingError: not such a file, or one of another training (`key` differs).
    """
    if not path.exists():
        return
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["training"])
            tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(f"{path} is not a checkpoint of a training: {error}; delete it to train from the start") from error
    if about["key"] != key:
        raise TrainingError(f"{path} belongs to a training with another recipe, seed or data; delete it to train from the start")
    training.module.load_state_dict(_part(tensors, "module."))
    training.objective.load_state_dict(_part(tensors, "objective."))
    slots: dict[int, Tensors] = {}
    for name, value in _part(tensors, "optimizer.").items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = value
    state: dict[str, Any] = training.optimizer.state_dict()
    training.optimizer.load_state_dict({**state, "state": slots})
    if training.average is not None:
        for name, value in _part(tensors, "average.").items():
            training.average.values[name].copy_(value)
        training.average.steps = about["average_steps"]
    training.losses, training.watched, training.best = about["losses"], about["watched"], _part(tensors, "best.")


def _named(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
