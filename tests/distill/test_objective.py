"""Objectives: every loss trains every kind of module, by the formula that it names, and what it adds is thrown away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from hwnas.distill import LOSSES, Batch, Objective, Targets, losses, objective, read
from hwnas.distill.objective import BESIDE_VALUE
from hwnas.errors import ConfigError, TrainingError
from hwnas.graph import Conv1d, Dense, GlobalAvgPool, Graph, GraphBuilder, Input, Join, Split
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qat import QuantStudent
from hwnas.student import Student
from hwnas.tasks import bpm
from hwnas.teachers.cache import predict
from hwnas.train import Recipe, fit

N, SAMPLES, WIDTH, TAUGHT = 48, 64, 6, 5
COMBINATIONS = (*LOSSES, "soft+hint+relation", "dkd+hint:student_tap=1,teacher_tap=stage1", "pulse+relation", "hard+relation:angle=0")
Floats = NDArray[np.float32]


def graph(outputs: int, channels: int = 1) -> Graph:
    """Two convolutions and a head; of several channels each is a modality until the second."""
    builder = GraphBuilder()
    x = builder.add(Input(channels, SAMPLES))
    x = builder.add(Conv1d(4, 7, 2), builder.add(Split(), x) if channels > 1 else x)
    x = builder.add(Conv1d(WIDTH, 5, 2), builder.add(Join(), x) if channels > 1 else x)
    builder.add(Dense(outputs), builder.add(GlobalAvgPool(), x))
    return builder.build()


def sines(count: int, seed: int = 0, channels: int = 1) -> tuple[Floats, Floats]:
    """Noisy sines of 50 to 170 turns a minute, 16 samples a second, and those rates."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(50, 170, count).astype(np.float32)
    turns = y[:, None, None] / 60 * np.arange(SAMPLES) / 16 + rng.random((count, channels, 1))
    x = np.sin(2 * np.pi * turns) + 0.2 * rng.normal(size=turns.shape)
    return (np.clip(x, -2, 2) / 2).astype(np.float32), y


def teacher_of(y: NDArray[np.float32] | NDArray[np.int64], classes: int) -> Targets:
    """Targets with a teacher's logits and taps that know the labels."""
    rng = np.random.default_rng(1)
    near = bpm.soft_targets(y, 4.0) if classes == bpm.CLASSES else np.eye(classes)[y.astype(int)]
    logits = (np.log(near + 1e-3) + 0.1 * rng.normal(size=near.shape)).astype(np.float32)
    stage = rng.normal(size=(len(y), 3, 9)).astype(np.float32) + y[:, None, None] / 100
    embedding = rng.normal(size=(len(y), TAUGHT)).astype(np.float32) + y[:, None] / 30
    return Targets(y, logits, {"embedding": embedding.astype(np.float32), "stage1": stage.astype(np.float32)})


def lesson(learner: str) -> tuple[Callable[[], nn.Module], Floats, Targets]:
    """A module, windows and targets: of classes, of a class teacher of rates, of one rate, and the last in int8."""
    if learner == "classes":
        x, y = sines(N)
        return (lambda: Student(graph(3))), x, teacher_of(np.digitize(y, [90, 130]).astype(np.int64), 3)
    x, y = sines(N, channels=2 if learner == "value" else 1)
    outputs = bpm.CLASSES if learner == "class teacher" else 1
    if learner == "int8 value":
        return (lambda: QuantStudent(quantize(Student(graph(1)), x, ("bpm",)))), x, teacher_of(y, bpm.CLASSES)
    return (lambda: Student(graph(outputs, x.shape[1]))), x, teacher_of(y, bpm.CLASSES)


LEARNERS = ("classes", "class teacher", "value", "int8 value")


@pytest.mark.parametrize("text", COMBINATIONS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_every_loss_moves_every_parameter_of_module_and_objective_and_leaves_nothing(learner: str, text: str) -> None:
    make, x, targets = lesson(learner)
    settings, module = read(text), make()
    if any(targets.kind not in LOSSES[name].kinds for name in settings.names):
        with pytest.raises(ConfigError, match="pulse"):
            fit(module, x, targets, Recipe(name="t", epochs=1, loss=settings), seed=0)
        return
    names = list(module.state_dict())
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    fit(module, x, targets, Recipe(name="t", epochs=2, batch_size=16, learning_rate=0.01, loss=settings), seed=0)
    assert not [name for name, p in module.named_parameters() if torch.equal(p, before[name]) or not torch.isfinite(p).all()]
    assert list(module.state_dict()) == names
    aim = objective(settings, module, x, targets, 0)
    outputs, taps = module(torch.from_numpy(x))
    aim(outputs, taps, batch_of(targets)).backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in aim.parameters())
    added = {"soft": 1, "dkd": 1} if "value" in learner else {}
    expected = sum((added | {"hint": 1, "pulse": 1}).get(name, 0) for name in settings.names)
    assert len(list(aim.parameters())) == 2 * expected, "a weight and a bias each"


def batch_of(targets: Targets) -> Batch:
    teacher = None if targets.teacher is None else torch.from_numpy(targets.teacher)
    return Batch(torch.from_numpy(targets.y), teacher, {name: torch.from_numpy(tap) for name, tap in targets.taps.items()})


def made(learner: str, text: str) -> tuple[Objective, Tensor, dict[str, Tensor], Batch]:
    """An objective, its arguments, all in float64."""
    make, x, targets = lesson(learner)
    module = make()
    aim = objective(read(text), module, x, targets, 3).double()
    with torch.no_grad():
        outputs, taps = module(torch.from_numpy(x))
    batch = batch_of(targets)
    assert batch.teacher is not None
    y = batch.y.double() if batch.y.is_floating_point() else batch.y
    double = {name: tap.double() for name, tap in batch.taps.items()}
    own = {name: taps[name].double() for name in ("1", "2", "embedding")}
    return aim, outputs.double(), own, Batch(y, batch.teacher.double(), double)


@pytest.mark.parametrize(
    ("learner", "text", "names"),
    [
        ("value", "dkd", ["dkd.head"]),
        ("value", "soft+hint", ["soft.head", "hint.adapter"]),
        ("value", "pulse", ["pulse.adapter"]),
        ("classes", "hint", ["hint.adapter"]),
        ("int8 value", "soft", ["soft.head"]),
    ],
)
def test_what_is_added_is_trained_along(learner: str, text: str, names: list[str], tmp_path: Path) -> None:
    make, x, targets = lesson(learner)
    module, path = make(), tmp_path / "checkpoint"
    before = objective(read(text), module, x, targets, 7).state_dict()
    recipe = Recipe(name="t", epochs=2, batch_size=16, learning_rate=0.01, weight_decay=0.0, average=0.9, loss=read(text))
    fit(module, x, targets, recipe, seed=7, checkpoint=path)
    with safe_open(path, framework="pt") as file:
        after = {name: file.get_tensor(f"objective.{name}") for name in before}
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {f"terms.{name}.{part}" for name in names for part in ("weight", "bias")}


@pytest.mark.parametrize("loss", ["soft", "dkd"])
def test_one_value_learns_classes_by_a_head_of_its_own(loss: str) -> None:
    aim, outputs, taps, batch = made("value", f"{loss}:soft_weight=0.7,temperature=3,class_weight=2,sigma_bpm=3")
    parameters = dict(aim.named_parameters())
    head = taps["embedding"] @ parameters[f"terms.{loss}.head.weight"].T + parameters[f"terms.{loss}.head.bias"]
    s, t, y = outputs[:, 0] * 90 + 120, batch.teacher.numpy(), batch.y.numpy()  # type: ignore[union-attr]
    values = 0.7 * (s - torch.from_numpy(bpm.expectation(t))).abs().mean() + 0.3 * (s - batch.y).abs().mean()
    label = F.cross_entropy(head, torch.from_numpy(bpm.soft_targets(y, 3.0)))
    if loss == "soft":
        kl = F.kl_div((head / 3).log_softmax(1), (batch.teacher / 3).softmax(1), reduction="batchmean")  # type: ignore[operator]
        classes = 0.7 * 9 * kl + 0.3 * label
    else:
        target = torch.from_numpy(bpm.classes(y))
        classes = 0.7 * losses.dkd(head, batch.teacher, target, alpha=1, beta=2, temperature=3) + 0.3 * label  # type: ignore[arg-type]
    expected = values / 90 + BESIDE_VALUE * 2 * classes
    assert float(aim(outputs, taps, batch).detach()) == pytest.approx(float(expected.detach()), rel=1e-9)


def test_hard_of_each_learner() -> None:
    aim, outputs, taps, batch = made("value", "hard")
    assert float(aim(outputs, taps, batch)) == pytest.approx(float((outputs[:, 0] * 90 + 120 - batch.y).abs().mean()) / 90, rel=1e-9)
    aim, outputs, taps, batch = made("class teacher", "hard:expectation_weight=0.5")
    rates = torch.from_numpy(bpm.expectation(outputs.numpy()))
    expected = losses.hard_bpm(outputs, batch.y, sigma_bpm=2.0) + 0.5 * (rates - batch.y).abs().mean() / 90
    assert float(aim(outputs, taps, batch)) == pytest.approx(float(expected), rel=1e-9)
    aim, outputs, taps, batch = made("classes", "hard:label_smoothing=0.2")
    assert float(aim(outputs, taps, batch)) == pytest.approx(float(F.cross_entropy(outputs, batch.y, label_smoothing=0.2)), rel=1e-9)


def test_a_combination_is_the_sum_of_its_terms() -> None:
    for learner, share in (("classes", 1.0), ("value", BESIDE_VALUE)):
        found = {text: made(learner, text) for text in ("hard", "relation:weight=3,angle=5", "hint:weight=0", "hint+relation")}
        values = {text: float(aim(*arguments).detach()) for text, (aim, *arguments) in found.items()}
        taps, batch = found["hard"][2:]
        own, taught = taps["embedding"], batch.taps["embedding"]
        relation = 3 * (losses.distance_relation(own, taught) + 5 * losses.angle_relation(own, taught))
        assert values["relation:weight=3,angle=5"] == pytest.approx(values["hard"] + share * float(relation), rel=1e-9)
        assert values["hint:weight=0"] == pytest.approx(values["hard"], rel=1e-12)


@pytest.mark.parametrize(
    ("student_tap", "teacher_tap", "length"), [("embedding", "embedding", 1), ("1", "stage1", 9), ("embedding", "stage1", 1)]
)
def test_a_hint_compares_standardised_taps_at_the_shorter_length(student_tap: str, teacher_tap: str, length: int) -> None:
    text = f"hint:weight=1,student_tap={student_tap},teacher_tap={teacher_tap}"
    aim, outputs, taps, batch = made("classes", text)
    plain = made("classes", "hard")[0]
    adapter = aim.terms["hint"].adapter
    label = float(plain(outputs, taps, batch))
    own = F.adaptive_avg_pool1d(taps[student_tap] if taps[student_tap].ndim == 3 else taps[student_tap][:, :, None], length).numpy()
    taught = batch.taps[teacher_tap].numpy()
    taught = taught.mean(2, keepdims=True) if taught.ndim == 3 and length == 1 else taught.reshape(len(taught), taught.shape[1], length)
    taught = (taught - taught.mean((0, 2), keepdims=True)) / taught.std((0, 2), keepdims=True)
    adapted = np.einsum("oc,ncl->nol", adapter.weight.detach().numpy()[:, :, 0], own)  # type: ignore[union-attr]
    assert float(aim(outputs, taps, batch).detach()) - label == pytest.approx(np.square(adapted - taught).mean(), rel=1e-5)
    with torch.no_grad():
        adapter.weight.zero_()  # type: ignore[union-attr, operator]
    assert float(aim(outputs, taps, batch).detach()) - label == pytest.approx(1.0, rel=1e-5), "1 is the error of the mean"


def test_a_teachers_silent_channel_says_nothing() -> None:
    make, x, targets = lesson("classes")
    silent = np.concatenate([targets.taps["embedding"], np.full((N, 1), 7.0, np.float32)], axis=1)
    aim = objective(read("hint"), make(), x, Targets(targets.y, taps={"embedding": silent}), 0)
    assert aim.terms["hint"].scale[-1] == 1 and aim.terms["hint"].mean[-1] == pytest.approx(7.0)


def test_pulse_needs_an_adapter_only_between_widths() -> None:
    aim, outputs, taps, batch = made("value", "pulse:value_share=0.6,label_share=0.3")
    adapted = taps["embedding"] @ aim.terms["pulse"].adapter.weight.T  # type: ignore[union-attr, operator]
    s, taught = outputs[:, 0] * 90 + 120, torch.from_numpy(bpm.expectation(batch.teacher.numpy()))  # type: ignore[union-attr]
    values = 0.3 * (s - batch.y).abs().mean() + 0.7 * (s - taught).abs().mean()
    expected = 0.6 * values / 90 + 0.4 * F.mse_loss(adapted.softmax(1), batch.taps["embedding"].softmax(1))
    assert float(aim(outputs, taps, batch).detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    make, x, targets = lesson("value")
    alike = Targets(targets.y, targets.teacher, {"embedding": np.repeat(targets.taps["embedding"], 2, 1)[:, :WIDTH]})
    assert not list(objective(read("pulse"), make(), x, alike, 0).parameters())


@pytest.mark.parametrize(
    ("learner", "text"),
    [(who, text) for who in LEARNERS[:3] for text in ("soft", "dkd", "hint", "relation", "pulse") if (who, text) != ("classes", "pulse")],
)
def test_numerical_gradients_and_none_into_the_teacher(learner: str, text: str) -> None:
    aim, outputs, taps, batch = made(learner, text)
    rows = slice(0, 4)
    taught = {name: tap[rows].requires_grad_() for name, tap in batch.taps.items()}
    teacher = batch.teacher[rows].requires_grad_()  # type: ignore[index]
    few = Batch(batch.y[rows], teacher, taught)
    spread = outputs[rows] + 0.1 * torch.randn(4, outputs.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(outputs: Tensor, embedding: Tensor) -> Tensor:
        value: Tensor = aim(outputs, taps | {"embedding": embedding}, few)
        return value

    inputs = spread.requires_grad_(), taps["embedding"][rows].clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True)
    loss(*inputs).backward()
    assert teacher.grad is None and all(tap.grad is None for tap in taught.values())


def test_what_is_added_depends_on_the_seed_alone_and_the_module_is_left_as_it_was() -> None:
    make, x, targets = lesson("value")
    module = make()
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    states = []
    for seed, noise in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(noise)
        stream = torch.random.get_rng_state()
        states.append(objective(read("soft+hint"), module, x, targets, seed).state_dict())
        assert torch.equal(stream, torch.random.get_rng_state()) and module.training
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    weights = [name for name in states[0] if name.endswith("weight")]
    assert len(weights) == 2 and all(not torch.equal(states[0][name], states[2][name]) for name in weights)


def test_pairs_that_cannot_be_are_refused_before_training() -> None:
    make, x, targets = lesson("value")
    y, logits, taps = targets.y, targets.teacher, targets.taps
    cases = [
        ("soft", Targets(y), r"'soft' needs a teacher's outputs; cache them"),
        ("soft+hint", Targets(y, logits), r"'soft\+hint' needs the teacher's tap 'embedding', given: none"),
        ("hint:teacher_tap=stage9", Targets(y, logits, taps), "tap 'stage9', given: embedding, stage1; cache it, or name another"),
        ("hint:student_tap=77", Targets(y, logits, taps), "the network has no tap '77'; it has: 1, 2"),
        ("relation", Targets(y, logits), "needs the teacher's tap 'embedding'"),
        ("pulse", Targets(y, None, taps), "'pulse' needs a teacher's outputs"),
        ("dkd", Targets(y, logits[:, :6], taps), "teacher answers 6 classes, 180 are to be learnt"),  # type: ignore[index]
        ("hard", Targets(y.astype(np.int64), logits), r"labels 5\d to 16\d for a network of 1 outputs"),
    ]
    for text, wrong, message in cases:
        with pytest.raises(TrainingError, match=message):
            objective(read(text), make(), x, wrong, 0)
    with pytest.raises(TrainingError, match="a network of 7 outputs for heart rates"):
        objective(read("hard"), Student(graph(7, 2)), x, targets, 0)
    with pytest.raises(ConfigError, match="'pulse' needs a task of kind regression"):
        make, x, targets = lesson("classes")
        objective(read("pulse"), make(), x, targets, 0)
    with pytest.raises(TrainingError, match="batch holds no outputs"):
        objective(read("soft"), make(), x, targets, 0)(torch.zeros(N, 3), {}, Batch(torch.from_numpy(targets.y)))


class Answers(nn.Module):
    """A module without taps."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(SAMPLES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.head(x.flatten(1)), {}


@pytest.mark.parametrize("text", ["soft", "dkd", "hint", "relation", "pulse"])
def test_a_module_without_an_embedding_cannot_be_taught_by_one(text: str) -> None:
    _, x, targets = lesson("int8 value")
    with pytest.raises(TrainingError, match="the network has no tap 'embedding'; it has: none"):
        objective(read(text), Answers(), x, targets, 0)


@pytest.mark.parametrize("text", ["hard", "soft", "pulse+relation"])
def test_a_student_of_one_value_learns_rates(text: str) -> None:
    (x, y), (new_x, new_y) = sines(400), sines(150, seed=1)
    constant = np.abs(new_y - np.median(y)).mean()
    student = Student(graph(1))
    recipe = Recipe(name="t", epochs=12, batch_size=25, learning_rate=0.01, average=0.9, balance=0.5, loss=read(text))
    fit(student, x, teacher_of(y, bpm.CLASSES), recipe, seed=0)
    error = np.abs(bpm.from_output(predict(student, new_x)[:, 0]) - new_y).mean()
    assert constant > 25 and error < 0.25 * constant


def test_integers_of_one_value_are_trained_by_a_teacher() -> None:
    x, y = sines(200)
    student, targets = Student(graph(1)), teacher_of(y, bpm.CLASSES)
    fit(student, x, targets, Recipe(name="t", epochs=4, batch_size=25, learning_rate=0.01), seed=0)
    module = QuantStudent(quantize(student, x, ("bpm",)))

    def error() -> float:
        return float(np.abs(bpm.from_output(predict(module, x)[:, 0]) - y).mean())

    before = error()
    recipe = Recipe(name="t", epochs=6, batch_size=25, learning_rate=4e-3, weight_decay=0.0, average=0.9, loss=read("soft+hint"))
    fit(module, x, targets, recipe, seed=0)
    assert error() < 0.8 * before


@pytest.mark.parametrize("count", [36, 60, 90])
def test_a_student_of_wide_classes_learns_from_the_joined_classes_of_its_teacher(count: int) -> None:
    """The loss equals that of the teacher's summed probabilities, in float64 numpy, for soft and for decoupled distillation."""
    rng = np.random.default_rng(count)
    y = rng.uniform(50, 170, 20)
    teacher, outputs = rng.normal(size=(20, bpm.CLASSES)), rng.normal(size=(20, count))
    width, temperature = bpm.CLASSES // count, 2.0
    wide = np.log(np.exp(teacher).reshape(20, count, width).sum(axis=2))
    p, q = (np.exp(a / temperature) / np.exp(a / temperature).sum(axis=1, keepdims=True) for a in (wide, outputs))
    apart = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    log_q = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    label = -(bpm.soft_targets(y, 2.0, count) * log_q).sum(axis=1).mean()
    module, x = Student(graph(count)), np.zeros((2, 1, SAMPLES), np.float32)
    batch = Batch(torch.from_numpy(y), torch.from_numpy(teacher))
    targets = Targets(y.astype(np.float32), teacher.astype(np.float32))

    def loss(text: str) -> float:
        return float(objective(read(text), module, x, targets, 0)(torch.from_numpy(outputs), {}, batch))

    assert loss("soft:soft_weight=0.7,temperature=2") == pytest.approx(0.7 * apart + 0.3 * label, rel=1e-9)
    # decoupled with the whole weight on the teacher, whose target class is the wide one: TCKD + (1 - p_t) NCKD is the divergence
    target = bpm.classes(y) // width
    both = [loss(f"dkd:soft_weight=1,temperature=2,alpha={a},beta={b}") for a, b in ((1, 0), (0, 1))]
    rows = np.arange(20)
    taken = [np.stack([a[rows, target], 1 - a[rows, target]], axis=1) for a in (p, q)]
    assert both[0] == pytest.approx(temperature**2 * (taken[0] * np.log(taken[0] / taken[1])).sum(axis=1).mean(), rel=1e-9)
    assert both[1] > 0
