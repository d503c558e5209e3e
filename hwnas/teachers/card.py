"""A finished teacher on disk: `weights.safetensors` and `card.json`, fixed by content hash. Torch; writes and reads these two.

The identity covers architecture, weights and the windows that it was trained on, of an ensemble those of all members and their
temperatures: a student's run that is resumed with anything else is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import nn

from hwnas.errors import TrainingError
from hwnas.resources import write_bytes, write_text
from hwnas.teachers import build
from hwnas.teachers.calibration import Calibration, EntropyCheck

CARD = "card.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class MemberCard:
    """What is known about one member of an ensemble; its answers are divided by `calibration.temperature` before they are averaged."""

    name: str
    parameters: int
    seed: int
    calibration: Calibration
    metrics: dict[str, dict[str, float]]


@dataclass(frozen=True)
class TeacherCard:
    """What is known about a teacher. `metrics` holds one dict for each part ("validation", "test"); `data` is a fingerprint.

    `members` are those of an ensemble, whose own calibration comes on top of theirs; other teachers have none.
    """

    id: str
    name: str
    parameters: int
    in_channels: int
    labels: tuple[str, ...]
    data: str
    source: str
    recipe: dict[str, Any]
    seed: int
    calibration: Calibration
    metrics: dict[str, dict[str, float]]
    members: tuple[MemberCard, ...] = ()

    @property
    def distillation_temperature(self) -> float:
        """Temperature that students are distilled at unless a recipe names another."""
        return self.calibration.distillation_temperature


def count_parameters(module: nn.Module) -> int:
    """Number of trained values (running statistics of batch normalisation are not counted)."""
    return sum(p.numel() for p in module.parameters())


def content_id(module: nn.Module, name: str, data: str) -> str:
    """Identity (16 hex digits) of architecture `name`, the weights of `module` and the fingerprint `data` of its windows."""
    digest = hashlib.sha256(f"{name}\n{data}\n".encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_teacher(folder: Path, module: nn.Module, card: TeacherCard) -> None:
    """Write both files, the card last: where there is a card, there are weights.

    Raises:
        RunError: the folder cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors))
    write_text(folder / CARD, json.dumps(asdict(card), indent=1) + "\n")


def read_card(folder: Path) -> TeacherCard:
    """The card in `folder`.

    Raises:
        TrainingError: no such file, or not a teacher's card.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text())
        values["members"] = tuple(MemberCard(**_with_calibration(member)) for member in values.get("members", ()))
        values["labels"] = tuple(values["labels"])
        return TeacherCard(**_with_calibration(values))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: not a readable teacher's card ({error}); start the run anew with another --out") from error


def _with_calibration(values: dict[str, Any]) -> dict[str, Any]:
    """`values` of a card with their "calibration" rebuilt from plain dicts."""
    calibration = dict(values["calibration"])
    for key in ("entropy_validation", "entropy_targets"):
        calibration[key] = EntropyCheck(**calibration[key])
    return values | {"calibration": Calibration(**calibration)}


def load_teacher(folder: Path) -> tuple[nn.Module, TeacherCard]:
    """The teacher in `folder`, in eval mode, after its content hash was computed again.

    Raises:
        TrainingError: a file is missing or damaged, or the weights are not those of the card.
    """
    card = read_card(folder)
    path = folder / WEIGHTS
    module = build(card.name, card.in_channels, len(card.labels))
    try:
        module.load_state_dict(load_tensors(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(f"{path}: not the weights of a '{card.name}' ({error}); start anew with another --out") from error
    found = content_id(module, card.name, card.data)
    if found != card.id:
        raise TrainingError(
            f"{path}: the teacher was changed: its content hash is {found}, the card says {card.id}. Students of two teachers "
            "cannot be compared; restore the file or start the run anew with another --out"
        )
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module, card
