"""The published student of PULSE (Kasnesis et al. 2025), rebuilt: what it costs on two chips, and its error on the folds of a comparison.

    python benchmarks/pulse_peer.py                          cost on stm32l4r5 and nrf52840, predicted and emulated
    python benchmarks/pulse_peer.py FOLDER STUDY [SEEDS]     trains it on the folds of STUDY, an `hwnas compare` on FOLDER

Layout, 27,241 parameters: the same weights for pulse and three axes; three convolutions of 16 filters (kernel 3, dilation 2), a mean
pool of 4, three of 24 (dilation 3), a pool of 4, three of 32 (dilation 4), a pool of 2; one convolution over the four signals without
activation; all 256 values to 32, to 1. Dropout 0.1 behind every pool, no batch norm. Adam at 1e-3, weight decay 1e-6, batches of 256, L1.
Its input here is that of task `heart_rate` (one PPG, band-passed, scaled window by window); published is a standardisation by the
training set.
Writes `benchmarks/results/pulse_peer.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hwnas.config import parse, read_yaml
from hwnas.export import c
from hwnas.firmware.cores import core
from hwnas.firmware.counting import Watch
from hwnas.firmware.emulator import emulate
from hwnas.graph import AvgPool1d, Conv1d, Dense, Graph, GraphBuilder, Input, Join, Split
from hwnas.hardware.cost import EMULATED, assemble, predict, provenance
from hwnas.hardware.deployment import deploy
from hwnas.hardware.profile import read as read_profile
from hwnas.hardware.table import read as read_table
from hwnas.hardware.weights import flash_bytes
from hwnas.pipeline.profiling import extended, missing, shapes_of
from hwnas.pipeline.progress import Silent
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.study.folds import StudyConfig, read_folds
from hwnas.tasks import Split as Parts
from hwnas.tasks import Windows
from hwnas.tasks.bpm import to_output
from hwnas.tasks.heart_rate import HEART_RATE
from hwnas.tasks.tracking import clip_to_recent

SIGNALS, SAMPLES, WINDOW_S = 4, 256, 8.0
STAGES = ((16, 2, 4), (24, 3, 4), (32, 4, 2))  # filters, dilation, pool
PUBLISHED = {"parameters": 27_241, "ram_kb": 37.9, "energy_mj": 0.577}
CHIPS = ("stm32l4r5", "nrf52840")
EPOCHS, FEW_EPOCHS, FEW, BATCH = 36, 90, 3000, 256  # small training sets get more epochs, as in the figures to compare with
RESULTS = Path(__file__).parent / "results" / "pulse_peer.json"
Row = dict[str, Any]


def graph() -> Graph:
    """The student in our operators: the convolution over signals is a pointwise one of the joined signals."""
    builder = GraphBuilder()
    x = builder.add(Split(), builder.add(Input(SIGNALS, SAMPLES)))
    for filters, dilation, pool in STAGES:
        for _ in range(3):
            x = builder.add(Conv1d(filters, 3, dilation=dilation), x)
        x = builder.add(AvgPool1d(pool, pool), x)
    x = builder.add(Conv1d(32, relu=False), builder.add(Join(), x))
    length = builder.shape(x).length
    x = builder.add(Conv1d(32, length, length, relu=False), x)
    builder.add(Dense(1), x)
    return builder.build()


class PulseStudent(nn.Module):
    """The student as it was published; (B, 4, 256) -> (B, 1)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for filters, dilation, pool in STAGES:
            for _ in range(3):
                layers += [nn.Conv2d(width, filters, (1, 3), padding=(0, dilation), dilation=(1, dilation)), nn.ReLU()]
                width = filters
            layers += [nn.AvgPool2d((1, pool)), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*layers)
        self.across = nn.Conv2d(width, 32, (SIGNALS, 1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * SAMPLES // 32, 32), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.across(self.layers(x.unsqueeze(1))))
        return out


def cost(chip: str) -> Row:
    """RAM, flash, latency and energy of the integer student with arbitrary weights (they change no cycle)."""
    student, profile = graph(), read_profile(chip)
    table = read_table(profile.table_path)
    table = extended(table, missing(table, shapes_of(student)), Silent())
    deployment = deploy(student, profile, table, profile.memory.flash.bytes)
    predicted = predict(student, deployment, profile, table, WINDOW_S)
    q = arbitrary(student, np.random.default_rng(0))
    x = reference.quantize_input(q, np.random.default_rng(0).uniform(-1, 1, (20, SIGNALS, SAMPLES)).astype(np.float32))
    part = core(profile.core)
    with tempfile.TemporaryDirectory() as work:
        c.write(q, deployment, Path(work) / "firmware", weights_hash="", self_test=(x[0], reference.run(q, x)[0]))
        emulator = emulate(Path(work) / "firmware", part, profile.memory)
        found, outputs = emulator.measure(x[0], Watch.READS), emulator.run(x)
    cycles = profile.cycles(
        found.cycles, found.flash_read_bytes, found.fetch_lines, flash_bytes(student, deployment.weights, part.pointer_bytes)
    )
    emulated = assemble(student, profile, WINDOW_S, cycles, found.ram_bytes, found.flash_bytes, provenance(EMULATED, table))
    return {
        "chip": chip,
        "predicted": predicted.as_dict(),
        "emulated": emulated.as_dict(),
        "windows_different_from_reference": int((outputs != reference.run(q, x)).any(axis=1).sum()),
        "published": PUBLISHED,
    }


def train(parts: Parts, seed: int) -> PulseStudent:
    """The student after its published training; the epoch of the smallest validation error is kept."""
    torch.manual_seed(seed)
    module = PulseStudent()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-6)
    x, y = torch.from_numpy(parts.train.x), torch.from_numpy(to_output(parts.train.y))
    order = torch.Generator().manual_seed(seed)
    best, kept = np.inf, module.state_dict()
    for _ in range(EPOCHS if len(x) > FEW else FEW_EPOCHS):
        module.train()
        for index in torch.randperm(len(x), generator=order).split(BATCH):
            loss = nn.functional.l1_loss(module(x[index])[:, 0], y[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        error = HEART_RATE.metrics(answers(module, parts.validation), parts.validation)["mae_bpm"]
        if error < best:
            best, kept = error, {k: v.clone() for k, v in module.state_dict().items()}
    module.load_state_dict(kept)
    return module


def answers(module: PulseStudent, windows: Windows) -> NDArray[np.float32]:
    """Outputs (N, 1)."""
    module.eval()
    with torch.inference_mode():
        return np.concatenate([module(torch.from_numpy(windows.x[i : i + 512])).numpy() for i in range(0, len(windows), 512)])


def errors(data: Path, study: Path, seeds: int) -> Row:
    """MAE of every subject, raw and clipped, of the peer on the folds of a comparison; and what that comparison found."""
    found = json.loads((study / "compare.json").read_text())
    settings = read_yaml(study / "study.yaml")["config"]
    config = parse(settings | {"data": str(data.resolve())}, StudyConfig, str(study))
    rows: list[Row] = []
    for fold in read_folds(config, study):
        for seed in range(seeds):
            outputs = answers(train(fold.data.split, seed), fold.test)
            raw = HEART_RATE.estimates(outputs)
            clipped = clip_to_recent(raw, fold.test.recordings)
            mine = []
            for subject in fold.test.subjects:
                own = fold.test.subject == subject
                maes = [float(np.abs(bpm - fold.test.y)[own].mean()) for bpm in (raw, clipped)]
                mine.append({"fold": fold.number, "seed": seed, "subject": subject, "mae_bpm": maes[0], "mae_clipped_bpm": maes[1]})
            rows += mine
            means = [np.mean([row[name] for row in mine]) for name in ("mae_bpm", "mae_clipped_bpm")]
            print(f"fold {fold.number}, seed {seed}: MAE {means[0]:.2f}, clipped {means[1]:.2f} BPM", flush=True)
    return {"data": found["data"], "rows": rows}


def main() -> None:
    """Costs; and errors where a folder of recordings and a study are given."""
    torch.set_num_threads(1)
    console = Console(width=150)
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if len(sys.argv) > 2:
        data, study = Path(sys.argv[1]), Path(sys.argv[2])
        content.setdefault("errors", {})[study.name] = errors(data, study, int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    else:
        content["cost"] = [cost(chip) for chip in CHIPS]
        table = Table(
            "chip",
            "figure",
            "RAM KB",
            "flash KB",
            "latency ms",
            "energy uJ",
            title=f"{graph().parameters:,} parameters, {graph().macs:,} MACs",
        )
        for row in content["cost"]:
            for kind in ("predicted", "emulated"):
                found = row[kind]
                numbers = (found["ram_bytes"] / 1024, found["flash_bytes"] / 1024, found["latency_us"] / 1e3, found["energy_uj"])
                table.add_row(row["chip"], kind, *(f"{value:,.2f}" for value in numbers))
        console.print(table)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
