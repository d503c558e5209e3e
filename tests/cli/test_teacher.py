"""`hwnas teacher`: train with folds, go on, show, calibrate again, import; and what is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_teachers import shrink
from torch import nn

from hwnas.cli.app import run
from hwnas.pipeline.config import LearningConfig
from hwnas.pipeline.data import load_windows
from hwnas.tasks import RHYTHM, Windows, grouped_folds
from hwnas.tasks.synthetic import generator
from hwnas.teachers import TEACHERS
from hwnas.teachers.cache import predict
from hwnas.teachers.card import load_teacher, read_card

SMALL = ["--effort", "quick", "--windows", "120", "--subjects", "12", "--window-s", "5"]
FOLDS = ["--folds", "2", "--split-seed", "1"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers of two folds; leave the folder as it is."""
    out = tmp_path_factory.mktemp("teachers") / "rhythm"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        assert run(["teacher", "train", *SMALL, *FOLDS, "--out", str(out), "--quiet"]) == 0
    return out


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) in (1, 2)
    return capsys.readouterr().err


def test_every_teacher_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(told(capsys, "teacher", "list")) == list(TEACHERS)
    assert run(["teacher", "list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*TEACHERS, "ensemble:A+B", "from:FOLDER")) and max(map(len, text.splitlines())) <= 80


def test_every_subject_is_scored_by_a_teacher_that_never_saw_it(trained: Path) -> None:
    content = json.loads((trained / "teachers.json").read_text())
    tested = [subject for one in content["teachers"] for subject in one["test"]["subjects"]]
    assert len(tested) == len(set(tested)) == 12
    config = LearningConfig(effort="quick", windows=120, subjects=12, window_s=5.0)
    _, windows, _ = load_windows(config)
    for number, (one, split) in enumerate(zip(content["teachers"], grouped_folds(windows, 2, 1, RHYTHM), strict=True), start=1):
        card = one["teacher"]
        assert one["fold"] == number and one["test"]["subjects"] == list(split.test.subjects)
        assert not set(one["test"]["subjects"]) & {*card["subjects_trained"], *card["subjects_validated"]}
        module, read = load_teacher(trained / f"fold-{number}")
        assert read.id == card["id"] and one["validation"]["nll_after"] <= one["validation"]["nll_before"] + 1e-9
        assert one["test"]["metrics"] == RHYTHM.metrics(predict(module, split.test.x), split.test)
        assert one["validation"]["ece_after"] == pytest.approx(card["calibration"]["ece_after"])
    mean = content["mean"]["test"]["ece_after"]
    assert mean == pytest.approx(np.mean([one["test"]["ece_after"] for one in content["teachers"]]))
    assert 0 <= content["pooled_test"]["metrics"]["af_auc"] <= 1 and content["primary"] == "af_auc"


def test_the_same_command_takes_finished_teachers_as_they_are(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "again"
    shutil.copytree(trained, out)
    before = (trained / "teachers.json").read_text()
    shutil.rmtree(out / "fold-2")
    command = ["teacher", "train", *SMALL, *FOLDS, "--out", str(out)]
    capsys.readouterr()
    assert run(command) == 0
    captured = capsys.readouterr()
    assert (out / "teachers.json").read_text() == before
    assert captured.err.count("training the teacher") == 1, "only the fold that is not there"
    *lines, path = captured.out.splitlines()
    assert max(map(len, lines)) <= 80 and path == str(out / "teachers.json")
    for words in ("fold 1", "fold 2", "mean", "all subjects", "af_auc", "→"):
        assert words in captured.out
    message = refused(capsys, "teacher", "train", *SMALL, *FOLDS, "--out", str(out), "--teacher", "ppg_transformer")
    assert "holds teacher 'resnet18_1d'" in message and "needs 'ppg_transformer'" in message


def test_one_teacher_without_folds_is_shown_and_calibrated_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = generator.generate

    def few(*, subjects: int | None, windows: int | None, **others: Any) -> Windows:
        return generate(subjects=subjects or 12, windows=windows or 120, **others)

    monkeypatch.setattr(generator, "generate", few)
    content = told(capsys, "teacher", "train", *SMALL, "--cross-fit", "2", "--out", str(tmp_path / "one"), "--quiet")
    (one,) = content["teachers"]
    assert one["fold"] is None and len(one["teacher"]["targets_from"]) == 2
    card = read_card(tmp_path / "one")
    assert told(capsys, "teacher", "show", str(tmp_path / "one"))["teachers"][0]["id"] == card.id
    assert run(["teacher", "show", str(tmp_path / "one")]) == 0
    text = capsys.readouterr().out
    assert card.id in text and "targets from" in text and "training (cross-fitted)" in " ".join(text.split())
    again = told(capsys, "teacher", "calibrate", str(tmp_path / "one"), "--seed", "5")["teachers"][0]
    now = read_card(tmp_path / "one")
    assert again["id"] == card.id == now.id and now.calibration != card.calibration
    assert set(now.subjects_validated) > set(card.subjects_validated)
    assert not set(now.subjects_validated) & set(card.subjects_trained)
    assert "the teacher was trained on it" in refused(
        capsys, "teacher", "calibrate", str(tmp_path / "one"), "--subject", card.subjects_trained[0]
    )
    assert "name others" in refused(capsys, "teacher", "calibrate", str(tmp_path / "one"), "--subject", "nobody")


class Mine(nn.Module):
    """Six logits from the mean and the energy of a window."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(2, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.dense(torch.stack([x.mean((1, 2)), x.square().mean((1, 2))], dim=1))
        return out


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Mine().eval()), str(path))
    return path


def test_a_teacher_made_elsewhere(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = [*SMALL[2:], *FOLDS]
    out = tmp_path / "imported"
    content = told(capsys, "teacher", "import", str(mine), *data, "--out", str(out), "--quiet")
    assert [one["fold"] for one in content["teachers"]] == [1, 2]
    for number, one in enumerate(content["teachers"], start=1):
        card = read_card(out / f"fold-{number}")
        assert card.origin == "imported: mine.pt" and card.imported and card.subjects_trained == () and card.parameters == 18
        assert (out / f"fold-{number}" / f"{card.name}.pt").read_bytes() == mine.read_bytes()
        assert one["validation"]["nll_after"] <= one["validation"]["nll_before"]
    mine.unlink()
    module, _ = load_teacher(out / "fold-1")
    assert predict(module, np.zeros((2, 1, 500), np.float32)).shape == (2, 6)
    again = told(capsys, "teacher", "show", str(out))
    assert len(again["teachers"]) == 2


def test_what_cannot_be_imported(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out"), "--quiet"]
    message = refused(capsys, "teacher", "import", str(mine), *SMALL[2:], "--task", "rhythm-af", *out)
    assert "the task needs logits (5, 2)" in message
    torch.save(Mine(), tmp_path / "pickled.pt")
    assert "not a TorchScript archive" in refused(capsys, "teacher", "import", str(tmp_path / "pickled.pt"), *SMALL[2:], *out)
    subjects = [word for name in ("synthetic-000", "synthetic-001") for word in ("--trained-on", name)]
    message = refused(capsys, "teacher", "import", str(mine), *SMALL[2:], *FOLDS, *subjects, *out)
    assert "of the test" in message and "was trained on 1 subject(s)" in message
    assert "no such subject" in refused(capsys, "teacher", "import", str(mine), *SMALL[2:], "--trained-on", "nobody", *out)
    assert not (tmp_path / "out").exists()


WRONG = {
    "unknown teacher 'resnet': choose": ["--teacher", "resnet"],
    "'pulse' reads 2 channels at least": ["--teacher", "pulse"],
    "folds of 12 subjects; choose 2 to 12": ["--folds", "13"],
    "cross_fit 1: allowed is 0": ["--cross-fit", "1"],
    "unknown device 'gpu'": ["--device", "gpu"],
    "unknown task": ["--task", "rhythms"],
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_refused_before_training(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "teacher", "train", *SMALL, *WRONG[words], "--out", str(tmp_path / "out"))
    assert words.split(":")[0] in message and not (tmp_path / "out").exists()


def test_a_folder_without_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no teacher" in refused(capsys, "teacher", "show", str(tmp_path))
    (tmp_path / "card.json").write_text("{}")
    assert "not a readable teacher's card" in refused(capsys, "teacher", "show", str(tmp_path))
