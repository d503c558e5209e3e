"""A finished teacher on disk: its weights and `card.json`, fixed by content hash, and what it may teach. Torch; reads and writes both.

The identity covers architecture, weights, the windows and the subjects that it was trained on (two folds of one data set are two
teachers), of an ensemble those of all members and their temperatures: a student's run that is resumed with anything else is refused.
A teacher that was made elsewhere (`hwnas.teachers.imported`) keeps its own file instead of `weights.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import nn

from hwnas.errors import TrainingError
from hwnas.resources import write_bytes, write_text
from hwnas.tasks.base import Task, Windows
from hwnas.teachers import build
from hwnas.teachers.calibration import MAX_ECE, MAX_TEMPERATURE, Calibration, EntropyCheck
from hwnas.teachers.imported import Imported, load_imported

CARD = "card.json"
WEIGHTS = "weights.safetensors"
TRAINED, IMPORTED = "trained", "imported: "


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

    Attributes:
        members: those of an ensemble, whose own calibration comes on top of theirs; other teachers have none.
        rate_hz, window_s: what the windows it reads are like.
        subjects_trained, subjects_validated: by name, as in the recordings `data_name`; none are known of a teacher made elsewhere.
        class_windows: how many of the windows it was trained on are of each of `labels`; empty where that is not known.
        origin: "trained", or "imported: FILE".
        targets_from: identities of the teachers, each trained without a group of subjects, whose answers students learn from;
            empty where they are the teacher's own.
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
    task: str = ""
    rate_hz: float = 0.0
    window_s: float = 0.0
    data_name: str = ""
    subjects_trained: tuple[str, ...] = ()
    subjects_validated: tuple[str, ...] = ()
    class_windows: tuple[int, ...] = ()
    origin: str = TRAINED
    targets_from: tuple[str, ...] = ()

    @property
    def distillation_temperature(self) -> float:
        """Temperature that students are distilled at unless a recipe names another."""
        return self.calibration.distillation_temperature

    @property
    def imported(self) -> bool:
        """Made elsewhere: it has no taps, and its training is not known."""
        return self.origin.startswith(IMPORTED)


def count_parameters(module: nn.Module) -> int:
    """Number of trained values (running statistics of batch normalisation are not counted)."""
    return module.trained_values if isinstance(module, Imported) else sum(p.numel() for p in module.parameters())


def content_id(module: nn.Module, name: str, data: str, subjects: Sequence[str] = ()) -> str:
    """Identity (16 hex digits) of architecture `name`, the weights of `module`, fingerprint `data` of its windows and `subjects`."""
    digest = hashlib.sha256(f"{name}\n{data}\n{json.dumps(list(subjects))}\n".encode())
    if isinstance(module, Imported):
        digest.update(module.content_hash.encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_teacher(
    card: TeacherCard, task: Task, windows: Windows | None, test_subjects: Sequence[str] = (), *, data_name: str | None = None
) -> tuple[str, ...]:
    """Refuse a teacher that cannot teach `task` on `windows`; sentences on what is doubtful otherwise.

    `test_subjects` are those that students will be tested on, of the recordings `data_name` (the teacher's own where it is None).

    Raises:
        TrainingError: it answers other labels, reads other windows, knows fewer than two classes, or saw a subject of the test.
    """
    teacher = f"teacher {card.id} ({card.name})"
    if card.labels != task.labels:
        raise TrainingError(
            f"{teacher} was made for task '{card.task}' and answers {_few(card.labels)}; task '{task.name}' tells {_few(task.labels)} "
            "apart. Give a teacher of this task"
        )
    if windows is not None:
        seen = windows.seen_by_teacher
        rate = windows.rate_hz * seen.shape[2] / windows.x.shape[2]
        reads = {"rate": (card.rate_hz, rate, "Hz"), "windows": (card.window_s, windows.window_s, "s")}
        for what, (has, given, unit) in reads.items():
            if abs(has - given) > 1e-6 * has:
                raise TrainingError(
                    f"{teacher} reads {what} of {has:g} {unit}, {windows.name} has {given:g} {unit}; "
                    "resample or cut the recordings alike, or train a teacher on these"
                )
        if card.in_channels != seen.shape[1]:
            raise TrainingError(f"{teacher} reads {card.in_channels} channel(s), {windows.name} gives a teacher {seen.shape[1]}")
    known = set(card.subjects_trained) | set(card.subjects_validated)
    if data_name in (None, card.data_name) and (both := sorted(known & set(test_subjects))):
        how = "trained" if set(both) & set(card.subjects_trained) else "validated"
        raise TrainingError(
            f"{teacher} was {how} on {len(both)} subject(s) of the test ({_few(both)}): its students would be tested on what they were "
            "told. Give a teacher of this fold, or another split"
        )
    present = sum(count > 0 for count in card.class_windows)
    if card.class_windows and present < 2:
        raise TrainingError(f"{teacher} was trained on windows of {present} class(es); its answers tell nothing. Train it anew")
    return (*_unknown(card, task), *_doubtful(card, task))


def _unknown(card: TeacherCard, task: Task) -> list[str]:
    """What a card does not say, or what its teacher never saw."""
    said = []
    if not card.subjects_trained:
        said.append(
            "it is not known which subjects the teacher was trained on: if any is among the tested ones, the students' figures are too good"
        )
    if card.class_windows and task.kind == "classification":
        lacking = [label for label, count in zip(card.labels, card.class_windows, strict=True) if not count]
        if lacking:
            said.append(f"the teacher never saw {_few(lacking)}: its answers say nothing on windows of that kind")
    return said


def _doubtful(card: TeacherCard, task: Task) -> list[str]:
    """What a card's calibration warns of."""
    said, found = [], card.calibration
    if not found.doubts and (found.temperature > MAX_TEMPERATURE or found.ece_after > MAX_ECE):
        said.append(f"the teacher's calibration is poor: temperature {found.temperature:.3g}, ECE {found.ece_after:.3f} after it")
    said.extend(found.doubts)
    if task.kind == "classification" and not found.entropy_targets.passed:
        said.append(f"check of the soft labels {found.entropy_targets.verdict}")
    return said


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:3])} ... {names[-1]} ({len(names)})"


def save_teacher(folder: Path, module: nn.Module, card: TeacherCard) -> None:
    """Write both files, the card last: where there is a card, there are weights.

    Raises:
        RunError: the folder cannot be written.
    """
    if isinstance(module, Imported):
        write_bytes(folder / module.file_name, module.content)
    else:
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
        write_bytes(folder / WEIGHTS, save(tensors))
    write_card(folder, card)


def write_card(folder: Path, card: TeacherCard) -> None:
    """Write the card alone, for a teacher whose weights are there; raises RunError where that fails."""
    write_text(folder / CARD, json.dumps(asdict(card), indent=1, allow_nan=False) + "\n")


def read_card(folder: Path) -> TeacherCard:
    """The card in `folder`.

    Raises:
        TrainingError: no such file, or not a teacher's card.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text())
        if lacking := sorted({field.name for field in fields(TeacherCard)} - values.keys()):
            raise KeyError(f"it lacks {', '.join(lacking)}")
        values["members"] = tuple(MemberCard(**_with_calibration(member)) for member in values["members"])
        for name in ("labels", "subjects_trained", "subjects_validated", "class_windows", "targets_from"):
            values[name] = tuple(values[name])
        return TeacherCard(**_with_calibration(values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{path}: not a readable teacher's card ({error}); start anew with another --out") from error


def _with_calibration(values: dict[str, Any]) -> dict[str, Any]:
    """`values` of a card with their "calibration" rebuilt from plain dicts."""
    calibration = dict(values["calibration"])
    for key in ("entropy_validation", "entropy_targets"):
        calibration[key] = EntropyCheck(**calibration[key])
    calibration["doubts"] = tuple(calibration["doubts"])
    return values | {"calibration": Calibration(**calibration)}


def load_teacher(folder: Path) -> tuple[nn.Module, TeacherCard]:
    """The teacher in `folder`, in eval mode on the CPU, after its content hash was computed again.

    Raises:
        TrainingError: a file is missing or damaged, or the weights are not those of the card.
    """
    card = read_card(folder)
    path = folder / WEIGHTS
    module: nn.Module
    if card.imported:
        path = folder / f"{card.name}{Path(card.origin).suffix}"
        module = load_imported(path)
    else:
        module = build(card.name, card.in_channels, len(card.labels))
        try:
            module.load_state_dict(load_tensors(path.read_bytes()))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise TrainingError(f"{path}: not the weights of a '{card.name}' ({error}); start anew with another --out") from error
    found = content_id(module, card.name, card.data, card.subjects_trained)
    if found != card.id:
        raise TrainingError(
            f"{path}: the teacher was changed: its content hash is {found}, the card says {card.id}. Students of two teachers "
            "cannot be compared; restore the file or start the run anew with another --out"
        )
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module, card
