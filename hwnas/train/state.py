"""What a training carries from epoch to epoch: averaged weights, and a checkpoint of everything. Torch; writes one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hwnas.errors import TrainingError
from hwnas.resources import write_bytes


class Average:
    """Exponential moving average of parameters and batch statistics, without bias towards the first weights.

    The decay of step n is min(`decay`, n / (n + 9)): early averages forget quickly.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.steps = 0
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items()}

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


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    epoch: int,
    losses: list[float],
    key: str,
) -> None:
    """Write the state after `epoch` epochs to `path` in one piece; raises RunError where that fails."""
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    for index, slot in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slot.items()}
    if average is not None:
        tensors |= {f"average.{k}": v for k, v in average.values.items()}
    about = {"key": key, "epoch": epoch, "losses": losses, "average_steps": average.steps if average else 0}
    # cloned: safetensors refuses tensors that share memory
    write_bytes(path, save({k: v.detach().contiguous().clone() for k, v in tensors.items()}, {"training": json.dumps(about)}))


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, key: str
) -> tuple[int, list[float]]:
    """Restore what `save_checkpoint` wrote; returns (epochs done, their losses), or (0, []) where there is no file.

    Raises:
        TrainingError: not such a file, or one of another training (`key` differs).
    """
    if not path.exists():
        return 0, []
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["training"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(f"{path} is not a checkpoint of a training: {error}; delete it to train from the start") from error
    if about["key"] != key:
        raise TrainingError(f"{path} belongs to a training with another recipe, seed or data; delete it to train from the start")
    module.load_state_dict(_part(tensors, "module."))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimizer.").items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = value
    state: dict[str, Any] = optimizer.state_dict()
    optimizer.load_state_dict({**state, "state": slots})
    if average is not None:
        average.values = _part(tensors, "average.")
        average.steps = about["average_steps"]
    return about["epoch"], about["losses"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
