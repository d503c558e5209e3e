"""`LossSettings`, names and numbers of a loss, and the text that says them: `read`, `write`. Touches no files.

A text is names joined by '+', each with its settings behind ':': "soft:soft_weight=0.9,temperature=4+relation:weight=25". One of them
says how outputs are learnt (hard, soft, dkd, pulse; hard where none is named), hint and relation add to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from hwnas.distill.losses import check_share, check_temperature
from hwnas.errors import ConfigError, lookup, unknown
from hwnas.tasks.base import Kind

BOTH: frozenset[Kind] = frozenset({"classification", "regression"})


@dataclass(frozen=True, slots=True)
class Loss:
    """One row of the table of losses.

    Attributes:
        about: what it compares.
        keys: its settings in a text, and the field of `LossSettings` that each sets.
        kinds: task kinds that it is defined for.
        learns_outputs: it says how outputs are learnt, labels with it; a combination holds exactly one such loss.
        needs_teacher: it reads a teacher's logits.
        needs_taps: it reads a teacher's taps.
    """

    about: str
    keys: Mapping[str, str]
    kinds: frozenset[Kind] = BOTH
    learns_outputs: bool = False
    needs_teacher: bool = False
    needs_taps: bool = False


def _keys(*names: str, **fields: str) -> Mapping[str, str]:
    return MappingProxyType({name: name for name in names} | fields)


_LABELS = ("label_smoothing", "sigma_bpm", "expectation_weight")
_RESPONSE = ("temperature", "soft_weight", "class_weight", *_LABELS)

LOSSES: dict[str, Loss] = {
    "hard": Loss("labels alone", _keys(*_LABELS), learns_outputs=True),
    "soft": Loss("a teacher's softened probabilities and labels", _keys(*_RESPONSE), learns_outputs=True, needs_teacher=True),
    "dkd": Loss(
        "the same, the target's class and the others weighed apart",
        _keys("alpha", "beta", *_RESPONSE),
        learns_outputs=True,
        needs_teacher=True,
    ),
    "hint": Loss(
        "a tap, through an adapter, with a teacher's",
        _keys("student_tap", "teacher_tap", weight="hint_weight"),
        needs_taps=True,
    ),
    "relation": Loss(
        "distances and angles between windows in the embedding with a teacher's",
        _keys(weight="relation_weight", angle="relation_angle"),
        needs_taps=True,
    ),
    "pulse": Loss(
        "value, a teacher's value and the softmax of embeddings",
        _keys("value_share", "label_share"),
        kinds=frozenset({"regression"}),
        learns_outputs=True,
        needs_teacher=True,
        needs_taps=True,
    ),
}

# Combinations that the literature on wearables uses, by a name that `read` takes for them.
DISTILLATIONS: dict[str, str] = {
    "none": "hard",
    "response": "soft",
    "decoupled": "dkd",
    "feature": "soft+hint",
    "relational": "soft+relation",
    "cross_modal": "soft:temperature=4,soft_weight=0.7",  # BCG taught by ECG: T = 4, 0.3 on the labels
}

EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Names and numbers of a loss, as a recipe and a run's configuration hold them; numbers of losses not named mean nothing.

    Attributes:
        name: names of `LOSSES` joined by '+'.
        temperature: T of soft and dkd.
        soft_weight: share of the teacher in soft and dkd, the rest is the labels'.
        alpha, beta: weights of TCKD and NCKD in dkd.
        label_smoothing: of the label term of classes.
        sigma_bpm: width of the Gaussian class targets of a regression (of a class teacher and of a class head).
        expectation_weight: of the L1 of a class teacher's expectation, beside its cross-entropy.
        class_weight: of the training-only class head by which a student of one value learns classes (`hwnas.distill.objective`);
            0.3 begins about as large as the L1 of the value.
        hint_weight: of the hint, whose teacher taps are standardised: 1 is the error of their mean.
        student_tap, teacher_tap: which taps the hint compares: "embedding", a student's node, a teacher's stage.
        relation_weight, relation_angle: weight of RKD's distances, and how many times that its angles weigh: 25 and 50
            (Park et al., CVPR 2019, section 4.2).
        value_share, label_share: g and b of PULSE's own form.

    Raises:
        ConfigError: a number out of range, or losses that exclude each other.
        UsageError: an unknown name.
    """

    name: str = "hard"
    temperature: float = 4.0
    soft_weight: float = 0.9
    alpha: float = 1.0
    beta: float = 2.0
    label_smoothing: float = 0.0
    sigma_bpm: float = 2.0
    expectation_weight: float = 0.0
    class_weight: float = 0.3
    hint_weight: float = 1.0
    student_tap: str = EMBEDDING
    teacher_tap: str = EMBEDDING
    relation_weight: float = 25.0
    relation_angle: float = 2.0
    value_share: float = 2 / 3
    label_share: float = 1 / 2

    def __post_init__(self) -> None:
        given = self.name.split("+")
        main = [name for name in given if lookup(LOSSES, name, "loss").learns_outputs]
        if len(set(given)) < len(given):
            raise ConfigError(f"loss '{self.name}' names one loss twice; name each once and weigh it by its settings")
        if len(main) > 1:
            raise ConfigError(f"loss '{self.name}': {' and '.join(main)} each say how outputs are learnt; keep one of them")
        check_temperature(self.temperature)
        for key in ("soft_weight", "value_share", "label_share"):
            check_share(key, getattr(self, key))
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ConfigError(f"label smoothing {self.label_smoothing:g}: allowed is 0 to below 1; 0.05 is usual")
        if not 0.0 < self.sigma_bpm < math.inf:
            raise ConfigError(f"sigma {self.sigma_bpm:g} BPM: allowed is above 0; 2 is usual")
        weights = ("alpha", "beta", "expectation_weight", "class_weight", "hint_weight", "relation_weight", "relation_angle")
        for key in weights:
            if not 0.0 <= getattr(self, key) < math.inf:
                raise ConfigError(f"{key.replace('_', ' ')} {getattr(self, key):g}: it is a weight, allowed is 0 or more")

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that are summed, first the one that says how outputs are learnt."""
        given = sorted(self.name.split("+"), key=lambda name: not LOSSES[name].learns_outputs)
        return tuple(given) if LOSSES[given[0]].learns_outputs else ("hard", *given)

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher's logits must be given."""
        return any(LOSSES[name].needs_teacher for name in self.names)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The teacher's taps that must be given."""
        taps = {self.teacher_tap if name == "hint" else EMBEDDING for name in self.names if LOSSES[name].needs_taps}
        return tuple(sorted(taps))

    def allow(self, kind: Kind) -> None:
        """Raise ConfigError where tasks of `kind` cannot be trained with this loss."""
        for name in self.names:
            if kind not in (kinds := LOSSES[name].kinds):
                needed = " or ".join(sorted(kinds))
                raise ConfigError(f"loss '{name}' needs a task of kind {needed}, this one is '{kind}'; choose another loss")


def read(text: str, *, temperature: float = 4.0) -> LossSettings:
    """The settings that `text` says, or the combination of `DISTILLATIONS` of that name; `temperature` holds where it says none.

    Raises:
        ConfigError: not of that form, or a setting that is unknown, given twice or out of range.
        UsageError: an unknown loss.
    """
    names, values = [], {"temperature": str(temperature)}
    said: set[str] = set()
    for part in DISTILLATIONS.get(text.strip(), text).split("+"):
        name, _, settings = (piece.strip() for piece in part.partition(":"))
        if name not in LOSSES:
            raise ConfigError(f"distillation '{text}': {unknown('loss', name, [*LOSSES, *DISTILLATIONS])}")
        names.append(name)
        for setting in settings.split(",") if ":" in part else ():
            key, equals, value = (piece.strip() for piece in setting.partition("="))
            if not (equals and key and value):
                raise ConfigError(
                    f"distillation '{text}': '{setting}' behind '{name}:' is no setting; write key=value, as in {name}:{_example(name)}"
                )
            if key not in LOSSES[name].keys:
                raise ConfigError(f"distillation '{text}': {unknown(f'setting of {name}', key, LOSSES[name].keys)}")
            field = LOSSES[name].keys[key]
            if field in said:
                raise ConfigError(f"distillation '{text}': {key} is set twice; set it once")
            said.add(field)
            values[field] = value
    try:
        return LossSettings("+".join(names), **{field: _value(field, value) for field, value in values.items()})
    except ConfigError as error:
        raise ConfigError(f"distillation '{text}': {error}") from error


def write(settings: LossSettings) -> str:
    """The shortest text that `read` makes the same settings of, but for the numbers of losses that it does not name."""
    plain = LossSettings()
    parts = []
    for name in settings.name.split("+"):
        pairs = [(key, getattr(settings, field), getattr(plain, field)) for key, field in LOSSES[name].keys.items()]
        # 1e16 would be written 1e+16, and '+' joins losses
        changed = ",".join(f"{key}={value}".replace("e+", "e") for key, value, default in pairs if value != default)
        parts.append(f"{name}:{changed}" if changed else name)
    return "+".join(parts)


def _value(field: str, text: str) -> Any:
    if field in _TEXTS:
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{field} is '{text}', it must be a number") from None


def _example(name: str) -> str:
    key, field = next(iter(LOSSES[name].keys.items()))
    return f"{key}={getattr(LossSettings(), field)}"


_TEXTS = tuple(field.name for field in fields(LossSettings) if field.type == "str")
