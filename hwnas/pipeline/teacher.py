"""The teacher stage: trained, calibrated on validation subjects, carded and fixed, its outputs cached. Writes the folder of one teacher.

The members of an ensemble are trained and calibrated one after the other, each with checkpoints of its own. Where targets are
cross-fitted, `cross-1`, `cross-2` ... in the folder hold teachers that were each trained without a group of subjects, and students
learn of a subject what the teacher says that never saw it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from hwnas.distill import read
from hwnas.errors import ConfigError, DataError, RunError, UsageError
from hwnas.pipeline.config import LearningConfig
from hwnas.pipeline.data import RunData, extra_windows
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.recipes import pretrain_recipe, teacher_recipe, views
from hwnas.resources import write_bytes
from hwnas.tasks.base import Labels, Windows, fingerprint
from hwnas.teachers import FROM, build, check_channels, member_seeds, members
from hwnas.teachers.cache import Outputs, cached_outputs, predict, student_windows
from hwnas.teachers.calibration import Calibration, calibrate, check_entropy, fit_temperature
from hwnas.teachers.card import (
    CARD,
    MemberCard,
    TeacherCard,
    check_teacher,
    content_id,
    count_parameters,
    load_teacher,
    read_card,
    save_teacher,
)
from hwnas.teachers.ensemble import Ensemble
from hwnas.train import Recipe, Targets, fit, keep_memory

__all__ = ["check_learning", "check_teacher", "choose_device", "describe", "ensure_teacher", "lessons", "test_metrics"]

TEACHER_THREADS = 1  # more threads would make the weights depend on the machine, and gain little on networks this small
DEVICES = ("auto", "cpu", "cuda")


def choose_device(wanted: str) -> str:
    """The device of `wanted`: "auto" is a GPU where there is one. A GPU rounds otherwise than a CPU, and not alike twice.

    Raises:
        UsageError: no such device, or a GPU that is not there.
    """
    if wanted not in DEVICES:
        raise UsageError(f"unknown device '{wanted}'; choose one of: {', '.join(DEVICES)}")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UsageError("device 'cuda': torch sees no GPU here; install torch's CUDA build, or use --device cpu")
    return "cuda" if there and wanted != "cpu" else "cpu"


def check_learning(config: LearningConfig, data: RunData) -> None:
    """Refuse what cannot be learnt together, before anything is trained.

    Raises:
        ConfigError, UsageError: a loss that the task lacks, a teacher that reads more channels, no way to cross-fit.
    """
    settings = read(config.distillation)
    settings.allow(data.task.kind)
    check_channels(config.teacher, _channels(data))
    if config.cross_fit and settings.teacher_taps:
        raise ConfigError(
            f"distillation '{config.distillation}' compares taps ({', '.join(settings.teacher_taps)}), and cross_fit {config.cross_fit} "
            "takes targets from several teachers, whose taps mean different things; set cross_fit to 0 or choose soft or dkd"
        )
    if config.cross_fit and config.teacher.startswith(FROM):
        raise ConfigError(f"teacher '{config.teacher}' is finished and cannot be trained without a group of subjects; set cross_fit to 0")
    if config.teacher.startswith(FROM) and settings.teacher_taps and read_card(_given(config)).imported:
        raise ConfigError(
            f"distillation '{config.distillation}' compares taps, and a teacher that was made elsewhere answers logits only "
            f"({_given(config)}); choose hard, soft or dkd"
        )
    subjects = len(data.split.train.subjects)
    if config.cross_fit and not 2 <= config.cross_fit <= subjects:
        raise ConfigError(f"cross_fit {config.cross_fit}: allowed is 0 (off), or 2 to {subjects}, the number of training subjects")


def ensure_teacher(
    config: LearningConfig, data: RunData, folder: Path, progress: Progress, *, device: str = "auto", pretrained: Path | None = None
) -> TeacherCard:
    """The fixed teacher in `folder`: loaded where it is there, trained otherwise. Its cached outputs are there afterwards.

    Teachers that are given the same folder `pretrained` share the training on generated windows, which all folds have in common.

    Raises:
        ConfigError: what `check_learning` refuses.
        RunError: the teacher there belongs to other data, other subjects, another architecture, seed or recipe.
        TrainingError: it was changed, or training diverged.
    """
    torch.set_num_threads(TEACHER_THREADS)
    keep_memory()
    check_learning(config, data)
    work = _Work(config, data, folder, progress, choose_device(device), pretrained, extra_windows(config, data))
    if (folder / CARD).exists():
        module, card = load_teacher(folder)
        _check_same(config, data, folder, card)
        _answers(config, data, work.extra, _Fixed(folder, card.id, module, card.calibration.temperature), work.crossed(card))
    elif config.teacher.startswith(FROM):
        card = work.adopt(_given(config))
    else:
        card = work.train()
    for path in folder.rglob("checkpoint-*.safetensors"):
        path.unlink()
    return card


def lessons(
    config: LearningConfig, folder: Path, card: TeacherCard, module: nn.Module, data: RunData
) -> tuple[NDArray[np.float32], Targets]:
    """What students learn from: windows (M, C, T), their labels, and the teacher's raw logits and taps, computed once and cached.

    The windows are all fixed views of the training windows and, on real recordings, generated windows.
    """
    train, extra = data.split.train, extra_windows(config, data)
    x, y = student_windows(train.x, train.y, count=views(config))
    if extra is not None:
        x, y = np.concatenate([x, extra.x]), _joined(y, extra.y)
    crossed = []
    for group, identity in enumerate(card.targets_from):
        inside = _cross_folder(folder, group)
        other, its = load_teacher(inside)
        if its.id != identity:
            raise RunError(f"{inside} holds teacher {its.id}, the targets in {folder} are of {identity}; use another --out")
        crossed.append(_Fixed(inside, its.id, other, its.calibration.temperature))
    found = _answers(config, data, extra, _Fixed(folder, card.id, module, card.calibration.temperature), crossed)
    return x, Targets(y, found.logits, found.taps)


def describe(card: TeacherCard, test: dict[str, float]) -> dict[str, Any]:
    """The teacher as `front.json` holds it; `test` are its metrics on the test subjects."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(card), allow_nan=False))
    kept = ("id", "name", "parameters", "calibration", "members", "origin", "targets_from")
    return {name: plain[name] for name in kept} | {
        "metrics": {**card.metrics, "test": test},
        "provenance": f"float32 on the host, {card.source} data",
    }


def test_metrics(folder: Path, data: RunData) -> dict[str, float]:
    """The teacher's metrics on the test subjects; for after the front is frozen."""
    module, _ = load_teacher(folder)
    return data.task.metrics(predict(module, data.split.test.seen_by_teacher), data.split.test)


@dataclass(frozen=True)
class _Stage:
    """One training of a network: what is said of it, its checkpoint's name, its recipe and its windows."""

    title: str
    checkpoint: str
    recipe: Recipe
    windows: Windows
    shared: bool = False


@dataclass(frozen=True, eq=False)
class _Fixed:
    """A trained teacher whose answers are kept in `folder`, and its calibration temperature."""

    folder: Path
    id: str
    module: nn.Module
    temperature: float


@dataclass(frozen=True)
class _Work:
    """The making of one teacher."""

    config: LearningConfig
    data: RunData
    folder: Path
    progress: Progress
    device: str
    pretrained: Path | None
    extra: Windows | None

    def train(self) -> TeacherCard:
        """Train, calibrate and save."""
        config, data = self.config, self.data
        module = build(config.teacher, _channels(data), len(data.task.labels), seed=config.seed)
        networks = list(module.members) if isinstance(module, Ensemble) else [module]
        names, seeds = members(config.teacher), member_seeds(config.teacher, config.seed)
        cards = []
        for number, (network, name, seed) in enumerate(zip(networks, names, seeds, strict=True), start=1):
            prefix = "" if len(networks) == 1 else f"member {number} of {len(networks)}: "
            for stage in self._stages(name):
                self._fit(network, replace(stage, title=prefix + stage.title), name, seed, number)
            if len(networks) > 1:
                network.to(self.device)
                on_training = predict(network, data.split.train.seen_by_teacher)
                cards.append(MemberCard(name, count_parameters(network), seed, *self._assess(network, on_training, "training")))
        if isinstance(module, Ensemble):
            module.set_temperatures([card.calibration.temperature for card in cards])
        module.to(self.device).eval()
        subjects, validation = data.split.train.subjects, data.split.validation
        identity = content_id(module, config.teacher, data.hash, subjects)
        temperature = fit_temperature(predict(module, validation.seen_by_teacher), data.task.classes(validation.y))
        crossed = self.crossed()
        targets = _answers(config, data, self.extra, _Fixed(self.folder, identity, module, temperature), crossed)
        calibration, metrics = self._assess(module, targets.logits, "training (cross-fitted)" if crossed else "training")
        card = TeacherCard(
            id=identity,
            name=config.teacher,
            parameters=count_parameters(module),
            in_channels=_channels(data),
            labels=data.task.labels,
            data=data.hash,
            source=data.split.train.source,
            recipe=_recipes(config, data),
            seed=config.seed,
            calibration=calibration,
            metrics=metrics,
            members=tuple(cards),
            task=data.task.name,
            rate_hz=_rate_hz(data.split.train),
            window_s=data.window_s,
            data_name=data.name,
            subjects_trained=subjects,
            subjects_validated=validation.subjects,
            class_windows=_class_windows(data),
            targets_from=tuple(other.id for other in crossed),
        )
        save_teacher(self.folder, module, card)
        return card

    def adopt(self, source: Path) -> TeacherCard:
        """Take a finished teacher over, after a check that it may teach these windows; its own calibration stays."""
        module, card = load_teacher(source)
        split = self.data.split
        for doubt in check_teacher(card, self.data.task, split.train, split.test.subjects, data_name=self.data.name):
            self.progress.say(doubt)
        if card.targets_from:
            self.progress.say(f"{source}: its cross-fitted targets stay there; students learn its own answers")
        if not card.imported:
            module.to(self.device)
        own = _Fixed(self.folder, card.id, module, card.calibration.temperature)
        targets = _answers(self.config, self.data, self.extra, own, ())
        seen = check_entropy(targets.logits, own.temperature, "training")
        card = replace(card, calibration=replace(card.calibration, entropy_targets=seen), targets_from=())
        save_teacher(self.folder, module, card)
        return card

    def crossed(self, card: TeacherCard | None = None) -> list[_Fixed]:
        """The teachers that were trained without a group of subjects each, in order; trained where they are not there.

        Raises:
            RunError: `card` was made with others.
        """
        count, train = self.config.cross_fit, self.data.split.train
        found = []
        for group in range(count):
            kept = ~_in_group(train, group, count)
            rest = replace(self.data, split=replace(self.data.split, train=train.take(kept)))
            if np.unique(rest.task.classes(rest.split.train.y)).size < 2:
                raise DataError(f"cross_fit {count}: without group {group + 1} all training windows are of one class; choose fewer groups")
            extra = None if self.extra is None else self.extra.take(~_in_group(self.extra, group, count))
            alone = self.config.model_copy(update={"cross_fit": 0})
            work = replace(self, config=alone, data=rest, folder=_cross_folder(self.folder, group), extra=extra)
            if not (work.folder / CARD).exists():
                self.progress.say(f"teacher {group + 1} of {count} for cross-fitted targets")
                work.train()
            module, other = load_teacher(work.folder)
            _check_same(alone, rest, work.folder, other)
            found.append(_Fixed(work.folder, other.id, module.to(self.device), other.calibration.temperature))
        if card is not None and card.targets_from != (now := tuple(other.id for other in found)):
            raise RunError(f"{self.folder}: its targets were made by teachers {card.targets_from}, there are {now}; use another --out")
        return found

    def _stages(self, name: str) -> list[_Stage]:
        """The trainings of network `name`, in order; for real recordings the first is on generated windows."""
        samples = self.data.window.length
        stages = [_Stage(f"training the teacher {name}", "training", teacher_recipe(self.config, samples), self.data.split.train)]
        if self.extra is not None:
            title = f"pre-training the teacher {name} on generated windows"
            recipe = pretrain_recipe(self.config, samples)
            stages.insert(0, _Stage(title, "pretraining", recipe, self.extra, shared=True))
        return stages

    def _fit(self, network: nn.Module, stage: _Stage, name: str, seed: int, number: int) -> None:
        """One training of a network in place, from its checkpoint where there is one."""
        x, recipe = stage.windows.seen_by_teacher, stage.recipe
        key = json.dumps([name, fingerprint(x, stage.windows.y), recipe.to_dict(), seed], sort_keys=True)
        known = self.pretrained / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors" if self.pretrained else None
        if known and stage.shared and _restore(network, known, key):
            self.progress.say(f"{stage.title}: done before, taken from {known}")
            return
        self.progress.stage(f"{stage.title} ({count_parameters(network):,} parameters)", recipe.epochs)
        fit(
            network,
            x,
            Targets(stage.windows.y),
            recipe,
            seed=seed,
            on_epoch=lambda done, _, loss: self.progress.step(done, f"loss {loss:.3f}"),
            checkpoint=self.folder / f"checkpoint-{number}-{stage.checkpoint}.safetensors",
            device=self.device,
            watch=self._error if recipe.patience else None,
        )
        if known and stage.shared:
            write_bytes(known, save({k: v.contiguous().clone() for k, v in network.state_dict().items()}, {"key": key}))

    def _error(self, network: nn.Module) -> float:
        """What early stopping watches: the task's error on the validation subjects."""
        validation = self.data.split.validation
        return self.data.task.error(self.data.task.metrics(predict(network, validation.seen_by_teacher), validation))

    def _assess(self, module: nn.Module, targets: NDArray[np.float32], where: str) -> tuple[Calibration, dict[str, dict[str, float]]]:
        """Calibration of a trained network on the validation subjects, and its metrics there."""
        validation, task = self.data.split.validation, self.data.task
        logits = predict(module, validation.seen_by_teacher)
        found = calibrate(logits, task.classes(validation.y), targets, subjects=len(validation.subjects), where=where)
        return found, {"validation": task.metrics(logits, validation)}


def _answers(config: LearningConfig, data: RunData, extra: Windows | None, own: _Fixed, crossed: Sequence[_Fixed]) -> Outputs:
    """Raw logits (M, K) and the taps that the loss reads, for the windows of `lessons`, from the caches or into them.

    With `crossed` teachers the windows of each group of subjects are answered by the one that did not see it, calibrated by its own
    temperature and then set to that of `own`, so that one temperature is right for all of them.
    """
    taps = read(config.distillation).teacher_taps
    found = []
    for windows, count in ((data.split.train, views(config)), (extra, 1)):
        if windows is None:
            continue
        if not crossed:
            found.append(_ask(own, windows, count, taps))
            continue
        logits = np.empty((count, len(windows), len(data.task.labels)), dtype=np.float32)
        for group, other in enumerate(crossed):
            if len(places := np.flatnonzero(_in_group(windows, group, len(crossed)))):
                answers = _ask(other, windows.take(places), count, (), places)
                logits[:, places] = answers.logits * np.float32(own.temperature / other.temperature)
        found.append(Outputs(logits))
    named = {name: _flat([one.taps[name] for one in found]) for name in found[0].taps}
    return Outputs(_flat([one.logits for one in found]), named)


def _ask(teacher: _Fixed, windows: Windows, count: int, taps: Sequence[str], places: NDArray[np.intp] | None = None) -> Outputs:
    """Logits (count, N, K) and taps of one teacher for the views of windows, which have these `places` in the set that is viewed.

    A teacher that reads another signal than students do answers its windows once: a student's views are all of the same seconds.
    """
    seen = windows.seen_by_teacher
    if windows.teacher_x is None:
        return cached_outputs(teacher.folder, teacher.id, teacher.module, seen, taps=taps, count=count, places=places)
    once = cached_outputs(teacher.folder, teacher.id, teacher.module, seen, taps=taps)
    return Outputs(np.repeat(once.logits, count, axis=0), {name: np.repeat(tap, count, axis=0) for name, tap in once.taps.items()})


def _flat(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Arrays (count, N, ...) as one (sum of count * N, ...)."""
    rows = [part.reshape(-1, *part.shape[2:]) for part in parts]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _in_group(windows: Windows, group: int, groups: int) -> NDArray[np.bool_]:
    """Which windows (N,) are of the subjects of `group`: those whose place among the sorted ones is `group` modulo `groups`."""
    names, member = np.unique(windows.subject, return_inverse=True)
    inside: NDArray[np.bool_] = (np.arange(len(names)) % groups == group)[member]
    return inside


def _given(config: LearningConfig) -> Path:
    """Folder of the finished teacher that `config` names."""
    return Path(config.teacher.removeprefix(FROM))


def _cross_folder(folder: Path, group: int) -> Path:
    return folder / f"cross-{group + 1}"


def _check_same(config: LearningConfig, data: RunData, folder: Path, card: TeacherCard) -> None:
    """Refuse a teacher in `folder` that is not the one that `config` and `data` would make."""
    if config.teacher.startswith(FROM):
        given = read_card(_given(config))
        if card.id != given.id:
            raise RunError(f"{folder} holds teacher {card.id}, this run needs {given.id} ({config.teacher}); use another --out")
        return
    if (card.name, card.data) != (config.teacher, data.hash):
        raise RunError(f"{folder} holds teacher '{card.name}' of data {card.data}, this run needs '{config.teacher}' of {data.hash}")
    if card.subjects_trained != data.split.train.subjects:
        raise RunError(f"{folder} holds a teacher of {len(card.subjects_trained)} other training subjects; use another --out")
    if (card.seed, card.recipe, len(card.targets_from)) != (config.seed, _recipes(config, data), config.cross_fit):
        raise RunError(f"{folder} holds a teacher of another seed, recipe or number of cross-fitted groups; use another --out")


def _recipes(config: LearningConfig, data: RunData) -> dict[str, Any]:
    """The recipes of the trainings, by name, as a card holds them."""
    samples = data.window.length
    used = [pretrain_recipe(config, samples)] if data.split.train.source == "real" else []
    return {recipe.name: recipe.to_dict() for recipe in (*used, teacher_recipe(config, samples))}


def _restore(network: nn.Module, path: Path, key: str) -> bool:
    """Load weights that were shared under `key`; False where there are none, or damaged ones."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return False
    network.load_state_dict(tensors)
    return True


def _joined(first: Labels, second: Labels) -> Labels:
    joined: Labels = np.concatenate([first, second])
    return joined


def _channels(data: RunData) -> int:
    """Channels of the windows that a teacher reads."""
    return data.split.train.seen_by_teacher.shape[1]


def _rate_hz(windows: Windows) -> float:
    """Rate of the windows that a teacher reads."""
    return windows.rate_hz * windows.seen_by_teacher.shape[2] / windows.x.shape[2]


def _class_windows(data: RunData) -> tuple[int, ...]:
    counts = np.bincount(data.task.classes(data.split.train.y), minlength=len(data.task.labels))
    return tuple(int(count) for count in counts)
