"""The one architecture that a study trains: from a YAML file of choices, a `graph.json`, or a size. Reads files; no torch.

A file of choices names a space and the point in it:

    space: mobilenet1d
    choices: {stem_channels: 16, stem_kernel: 7, ...}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from annotated_types import Gt

from hwnas import families, space
from hwnas.config import Model, load
from hwnas.errors import ConfigError, GraphError, UsageError
from hwnas.graph import Graph, Shape
from hwnas.pipeline.config import Count, LearningConfig
from hwnas.pipeline.data import RunData
from hwnas.study.sizes import nearest

GRAPH_FILE = "graph.json"


class StudentConfig(LearningConfig):
    """What is learned, and by which student.

    Attributes:
        student: absolute path of a YAML file of choices, of a `graph.json`, or of a folder that holds one.
        space, parameters: without `student`: the space's student with the most parameters that are not above `parameters`.
        epochs: of every training of a student; None is the recipe's own.
    """

    student: str | None = None
    space: str = "mobilenet1d"
    parameters: Count | None = None
    epochs: Annotated[int, Gt(0)] | None = None


class Choices(Model):
    """A point of a space as a file holds it."""

    space: str
    choices: dict[str, int]


def check(config: StudentConfig) -> None:
    """Refuse, before any data is read, a student that is given twice or not at all, or whose file is not there; raises UsageError."""
    if (config.student is None) == (config.parameters is None):
        given = "both" if config.student else "neither"
        raise UsageError(f"which student? {given} of --student and --parameters given; give a file or folder, or a size in a space")
    if config.student is None:
        space.read(config.space)
    elif not Path(config.student).exists():
        raise UsageError(f"{config.student} is not there; give a YAML file of choices, a graph.json, or the folder of a student")


def architecture(config: StudentConfig, data: RunData) -> Graph:
    """The student's network, for the windows of `data` and the outputs of its task.

    Raises:
        UsageError: no student of that size.
        ConfigError: a file that is no student's, or one for other windows or outputs.
    """
    window, outputs = data.window, len(data.task.outputs)
    if config.student is None:
        return nearest(config.space, window, outputs, config.parameters or 0)[1]
    path = Path(config.student)
    if path.suffix in (".yaml", ".yml"):
        given = load(path, Choices)
        return families.build(space.read(given.space).candidate(given.choices), window, outputs)
    return _fitting(_read_graph(path / GRAPH_FILE if path.is_dir() else path), window, outputs, path)


def _read_graph(path: Path) -> Graph:
    try:
        return Graph.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); give the folder of an exported student") from error
    except (GraphError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no graph of a student ({error}); export the student again") from error


def _fitting(graph: Graph, window: Shape, outputs: int, path: Path) -> Graph:
    found = graph.input_shape, graph.output_shape.elements
    if found != (window, outputs):
        reads, gives = found
        raise ConfigError(
            f"{path}: the student reads {reads.channels} x {reads.length} samples and gives {gives} outputs, the study has windows of "
            f"{window.channels} x {window.length} and {outputs} outputs; set --window-s and --task to the student's, or give its choices "
            "as a YAML file {space, choices}, which is built for any window"
        )
    return graph
