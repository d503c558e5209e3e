"""Which architecture a study trains: choices, a graph, a size; and the folder that a study writes into."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_study import STUDENT, student_file

from hwnas.errors import ConfigError, UsageError
from hwnas.pipeline.data import RunData, load_data
from hwnas.study import folder
from hwnas.study.student import StudentConfig, architecture


@pytest.fixture(scope="module")
def data() -> RunData:
    return load_data(StudentConfig(subjects=12, windows=192, window_s=10.0))


def test_choices_and_graphs(data: RunData, tmp_path: Path) -> None:
    graph = architecture(StudentConfig(student=str(student_file(tmp_path))), data)
    assert (graph.input_shape, graph.output_shape.elements) == (data.window, len(data.task.outputs))
    (tmp_path / "graph.json").write_text(graph.to_json())
    for given in (tmp_path, tmp_path / "graph.json"):
        assert architecture(StudentConfig(student=str(given)), data) == graph


def test_a_size(data: RunData) -> None:
    graph = architecture(StudentConfig(parameters=2000), data)
    assert 1800 < graph.parameters <= 2000
    assert architecture(StudentConfig(parameters=2000), data) == graph, "the same one every time"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (STUDENT.replace("stem_channels: 4", "stem_channels: 5"), "choice 'stem_channels'.*got 5"),
        (STUDENT.replace("mobilenet1d", "mobilenet"), "unknown search space"),
        ("space: mobilenet1d\n", "'choices' is missing"),
        ("[1, 2]\n", "expected a mapping"),
        (STUDENT + "more: 1\n", "unknown key 'more'"),
    ],
)
def test_files_that_are_wrong(content: str, words: str, data: RunData, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        architecture(StudentConfig(student=str(path)), data)


def test_graphs_that_are_wrong(data: RunData, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        architecture(StudentConfig(student=str(tmp_path)), data)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="no graph of a student"):
        architecture(StudentConfig(student=str(path)), data)
    other = load_data(StudentConfig(task="rhythm-af", subjects=12, windows=192, window_s=20.0))
    path.write_text(architecture(StudentConfig(student=str(student_file(tmp_path))), other).to_json())
    with pytest.raises(ConfigError, match=r"reads 1 x 2000 samples and gives 2 outputs.*1 x 1000 and 6 outputs.*--window-s and --task"):
        architecture(StudentConfig(student=str(path)), data)


def test_the_folder(tmp_path: Path) -> None:
    out, values = tmp_path / "out", {"task": "rhythm", "seeds": 3}
    assert folder.settings_of(out) == {}
    folder.claim(out, "compare", values, resume=False)
    assert folder.settings_of(out) == values
    folder.claim(out, "compare", values | {"seeds": 5}, resume=True, may_change=("seeds",))
    assert folder.settings_of(out)["seeds"] == 5
    for command, changed, words in (
        ("compare", {"seeds": 4}, "seeds was 5, now 4"),
        ("distill", {}, "holds a study of `hwnas compare`"),
    ):
        with pytest.raises(UsageError, match=words):
            folder.claim(out, command, values | {"seeds": 5} | changed, resume=True)
    with pytest.raises(UsageError, match="continue it with --resume"):
        folder.claim(out, "compare", values, resume=False)
    (out / "study.yaml").write_text("config: 3\n")
    with pytest.raises(ConfigError, match="'config' must be a mapping"):
        folder.settings_of(out)
