"""A finished student's folder as evaluation and export read it: its card, checked, and the int8 student. Reads files; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt
from pydantic import ConfigDict

from hwnas.config import Model, parse
from hwnas.errors import ConfigError, FirmwareError, RunError, UsageError
from hwnas.graph import OP_NAMES, Graph
from hwnas.hardware.deployment import Deployment
from hwnas.hardware.ops import Layout
from hwnas.hardware.profile import Memory
from hwnas.hardware.weights import layouts
from hwnas.memory import plan
from hwnas.pipeline.rundir import read_json
from hwnas.quantize import storage
from hwnas.quantize.qgraph import QuantGraph
from hwnas.tasks.base import Source, Task

CARD_FILE = "card.json"
PLACE_ANEW = "`hwnas export STUDENT --format c --profile NAME` places it anew"


class _Part(Model):
    """Part of a card: it holds more than is read here."""

    model_config = ConfigDict(extra="ignore")


class TrainingData(_Part):
    """What the student was trained on."""

    name: str
    source: Source


class Placement(_Part):
    """How the student was deployed. Its arena plan follows from the graph."""

    weights: list[Layout]


class ShippedCard(_Part):
    """What a card says of a student that those who use it need."""

    id: str
    labels: list[str]
    task: str
    rate_hz: Annotated[float, Gt(0)]
    window_s: Annotated[float, Gt(0)]
    channels: Annotated[int, Gt(0)]
    profile: str
    core: str
    memory: Memory
    deployment: Placement
    weights_hash: str
    data: TrainingData
    run_seed: Annotated[int, Ge(0)]
    subjects_seen: list[str]

    def check_graph(self, graph: Graph, where: Path) -> None:
        """Raise RunError unless `graph`, read from the folder `where`, is the card's student and reads the card's windows."""
        window, expected = graph.input_shape, (self.channels, round(self.window_s * self.rate_hz))
        if graph.hash != self.id:
            raise RunError(f"{where}: card.json is of student {self.id}, graph.json of {graph.hash}; copy the whole folder of one student")
        if (window.channels, window.length) != expected or graph.output_shape.elements != len(self.labels):
            raise RunError(
                f"{where}: the student reads {window.channels} x {window.length} samples and gives {graph.output_shape.elements} outputs; "
                f"card.json says {expected[0]} x {expected[1]} and {len(self.labels)}; card.json was edited, export the student again"
            )

    def check_task(self, task: Task, where: Path) -> None:
        """Raise RunError unless the outputs of the student in the folder `where` are those that students of `task` have."""
        expected = task.answers(len(self.labels))
        if tuple(self.labels) != expected:
            raise RunError(
                f"{where}: card.json names the outputs {', '.join(self.labels)}; those of task {task.name} are {', '.join(expected)}: the "
                "student is of another version of hwnas or its card was edited; export the student again"
            )


def read_shipped(folder: Path) -> ShippedCard:
    """The card of the student in `folder`.

    Raises:
        UsageError: no student there.
        RunError: a card that is damaged, or lacks what is needed here.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise UsageError(f"{folder} is no exported student (it has no {CARD_FILE}); give a folder such as runs/NAME/students/ID")
    try:
        return parse(read_json(path), ShippedCard, str(path))
    except ConfigError as error:
        raise RunError(f"{error}; the card is damaged or of another version of hwnas, export the student again") from error


def load_int8(folder: Path, card: ShippedCard) -> QuantGraph:
    """The int8 student in `folder`.

    Raises:
        QuantizationError: a file is missing, damaged, or belongs to another graph.
        RunError: the card is another student's.
    """
    q = storage.load(folder)
    card.check_graph(q.graph, folder)
    if storage.content_hash(q) != card.weights_hash:
        raise RunError(
            f"{folder}: card.json is of the weights {card.weights_hash}, {storage.TENSOR_FILE} holds {storage.content_hash(q)}; "
            "copy the whole folder of one student"
        )
    return q


def firmware_of(folder: Path, card: ShippedCard) -> Path:
    """The folder of the student's C in `folder`; raises FirmwareError where it is missing or of other weights."""
    header = folder / "firmware" / "model.h"
    try:
        named = f'"{card.weights_hash}"' in header.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FirmwareError(f"cannot read {header}: {error}; export the student again") from error
    if not named:
        raise FirmwareError(f"{header} is of other weights than card.json ({card.weights_hash}); export the student again")
    return header.parent


def deployment_of(card: ShippedCard, graph: Graph) -> Deployment:
    """How the student was placed: the card's layouts of weights. The arena plan follows from the graph alone, so it is made anew.

    Raises:
        RunError: layouts that the student's operators do not have.
    """
    weights = card.deployment.weights
    if len(weights) != len(graph.nodes):
        raise RunError(f"card.json has layouts of {len(weights)} nodes, the student {len(graph.nodes)}; {PLACE_ANEW}")
    for index, node in enumerate(graph.nodes[1:], start=1):
        allowed = layouts(node.op, graph.in_shape(node))
        if weights[index] not in allowed:
            raise RunError(
                f"card.json: node {index} ({OP_NAMES[type(node.op)]}) has layout '{weights[index]}', allowed: {', '.join(allowed)}; "
                f"{PLACE_ANEW}"
            )
    return Deployment(plan(graph), ("none", *weights[1:]))
