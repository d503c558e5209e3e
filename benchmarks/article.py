"""Article 000's table, rebuilt at 30 s on the signal generator. Writes `benchmarks/results/article.json`.

    hwnas compare --task rhythm --window-s 30 --student student.yaml --teacher resnet18_1d --recipe soft --seeds 3 --epochs 24 \\
        --subjects 120 --windows 6000 --held-out 'synthetic-09*' --held-out 'synthetic-1*' --out STUDY
    python benchmarks/article.py STUDY

The student has the most MACs that 18 ms allow at 174 to 182 thousand parameters, found by random changes; student.yaml:

    space: mobilenet1d
    choices: {stem_channels: 16, stem_kernel: 15, stem_stride: 8, blocks: 6,
      block1_channels: 64, block1_kernel: 7, block1_stride: 4, block1_expansion: 1,
      block2_channels: 96, block2_kernel: 9, block2_stride: 4, block2_expansion: 1,
      block3_channels: 96, block3_kernel: 3, block3_stride: 4, block3_expansion: 4,
      block4_channels: 96, block4_kernel: 5, block4_stride: 4, block4_expansion: 4,
      block5_channels: 32, block5_kernel: 5, block5_stride: 1, block5_expansion: 1, block5_dilation: 1,
      block6_channels: 96, block6_kernel: 3, block6_stride: 1, block6_expansion: 4}

The teacher's latency is that of its int8 form, operator by operator: what the lookup table of the profile lacks is profiled in the
emulator. No part that the profile stands for holds 21 M weights, so that figure is of a program that could not be flashed. The student's
is emulated, whole. Scores are the study's own: AF AUC on generated patients that neither teacher nor student saw.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hwnas.config import parse, read_yaml
from hwnas.export import c
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import emulate
from hwnas.graph import Add, Conv1d, Dense, GlobalAvgPool, Graph, GraphBuilder, Input, MaxPool1d
from hwnas.hardware.cost import operator_cycles, predict
from hwnas.hardware.deployment import deploy, uniform
from hwnas.hardware.profile import read as read_profile
from hwnas.hardware.profile import read_any
from hwnas.hardware.table import read as read_table
from hwnas.pipeline.data import load_data
from hwnas.pipeline.profiling import extended, missing, shapes_of
from hwnas.pipeline.progress import Silent
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.study.folds import StudyConfig
from hwnas.study.student import architecture
from hwnas.teachers import TEACHERS
from hwnas.teachers.card import read_card
from hwnas.teachers.resnet1d import RESNET34

PROFILE, WATCH = "cortex-m4-192k", "apple-watch-s9"
WINDOW_S, RATE_HZ, CLASSES = 30.0, 100.0, 6
METRIC = "af_auc"
PARAMETERS = TEACHERS["resnet34_1d"].parameters
PUBLISHED = {"teacher": (21_000_000, 2400.0, 0.962), "control": (180_000, 18.0, 0.901), "distilled": (180_000, 18.0, 0.931)}
RESULTS = Path(__file__).parent / "results" / "article.json"
Row = dict[str, Any]


def teacher_graph() -> Graph:
    """`resnet34_1d` in our operators; the pool behind the stem begins inside the signal."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(RESNET34.widths[0], RESNET34.stem, 2), builder.add(Input(1, round(WINDOW_S * RATE_HZ))))
    x = builder.add(MaxPool1d(3, 2), x)
    for number, (width, blocks) in enumerate(zip(RESNET34.widths, RESNET34.blocks, strict=True)):
        for block in range(blocks):
            stride = 2 if number and not block else 1
            inner = builder.add(Conv1d(width, RESNET34.kernel, stride), x)
            inner = builder.add(Conv1d(width, RESNET34.kernel, relu=False), inner)
            x = builder.add(Add(), inner, x if stride == 1 else builder.add(Conv1d(width, 1, stride, relu=False), x))
    builder.add(Dense(CLASSES), builder.add(GlobalAvgPool(), x))
    return builder.build()


def teacher_row() -> Row:
    """Parameters and predicted latency of the teacher on the microcontroller."""
    graph, profile = teacher_graph(), read_profile(PROFILE)
    deployment = uniform(graph)
    table = read_table(profile.table_path)
    table = extended(table, missing(table, shapes_of(graph)), Silent(), jobs=2)
    cycles = sum(operator_cycles(graph, deployment, table))
    latency_ms = 1e3 * cycles / profile.clock_hz
    return {"parameters": PARAMETERS, "macs": graph.macs, "cycles": cycles, "latency_ms": latency_ms, "provenance": "predicted, int8"}


def student_row(graph: Graph) -> Row:
    """Predicted and emulated latency of the student, with constants of no meaning: control flow knows shapes alone."""
    profile = read_profile(PROFILE)
    table = read_table(profile.table_path)
    table = extended(table, missing(table, shapes_of(graph)), Silent(), jobs=2)
    deployment = deploy(graph, profile, table, profile.memory.flash.bytes)
    predicted = predict(graph, deployment, profile, table, WINDOW_S)
    q = arbitrary(graph, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as work:
        c.write(q, deployment, Path(work), weights_hash="")
        x = np.zeros((graph.input_shape.length, graph.input_shape.channels), np.int8)
        measured = emulate(Path(work), core(profile.core), profile.memory).measure(x)
    if (measured.output != reference.run(q, x[None])[0]).any():
        raise SystemExit("the program differs from the reference")
    return {
        "parameters": graph.parameters,
        "macs": graph.macs,
        "predicted_ms": predicted.latency_us / 1e3,
        "emulated_ms": 1e3 * measured.cycles / profile.clock_hz,
        "ram_bytes": measured.ram_bytes,
        "flash_bytes": measured.flash_bytes,
        "energy_uj": predicted.energy_uj,
    }


def main(study: Path) -> None:
    """Collect, print and write the table."""
    config = parse(read_yaml(study / "study.yaml")["config"], StudyConfig, str(study))
    if config.data is not None or config.window_s != WINDOW_S:
        raise SystemExit(f"{study} is of {config.data or 'the generator'}, {config.window_s} s; expected the generator, {WINDOW_S:g} s")
    compared = json.loads((study / "compare.json").read_text())
    scores = {arm["arm"]: arm["measures"][METRIC] for arm in compared["arms"] if arm["form"] == "float32"}
    card = read_card(study / "teachers" / "fold-1")
    student = student_row(architecture(config, load_data(config)))
    large = teacher_row()
    content = {
        "resnet34_1d": {**large, "trained": card.name == "resnet34_1d"},
        "teacher": {"name": card.name, "parameters": card.parameters, METRIC: scores["teacher"]["value"]},
        "student": student,
        "arms": {name: {"value": found["value"], "difference": found.get("difference")} for name, found in scores.items()},
        "size_reduction": large["parameters"] / student["parameters"],
        "watch": read_any(WATCH).model_dump(),
        "published": PUBLISHED,
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    table = Table("row", "parameters", "latency on the M4 (128 MHz), 30 s", "AF AUC, synthetic", "article: parameters, ms, AUC")
    auc = f"{scores['teacher']['value']:.4f}"
    ms = f"{large['latency_ms']:,.0f} ms ({large['provenance']})"
    trained = card.name == "resnet34_1d"
    table.add_row("resnet34_1d", f"{PARAMETERS:,}", ms, auc if trained else "not trained", str(PUBLISHED["teacher"]))
    if not trained:
        table.add_row(f"teacher {card.name}", f"{card.parameters:,}", "", auc, "")
    for name, found in scores.items():
        if name != "teacher":
            published = str(PUBLISHED["control" if name == "control" else "distilled"])
            latency = f"{student['emulated_ms']:.2f} ms (emulated)"
            table.add_row(name, f"{student['parameters']:,}", latency, f"{found['value']:.4f}", published)
    Console(width=160).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
