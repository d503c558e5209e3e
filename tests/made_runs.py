"""Runs as a search leaves them, without a search: seeded rows of the right form, all synthetic. Writes the folder it is given.

Nothing here was trained, emulated or measured; the figures only have the shape and the size of real ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hwnas.report.content import Report
from hwnas.search.trial_log import TrialLog

Row = dict[str, Any]
CLOCK_HZ = 128_000_000
LABELS = ("sinus", "pvc", "pac", "vt", "svt", "af")
FAMILIES = ("mobilenet1d", "microresnet", "lstm", "modality_conv")
BUDGET = {"ram_bytes": 65536, "flash_bytes": 524288, "latency_us": 20000.0, "energy_uj": 1000.0, "average_power_uw": 1000.0}


def made_report(*, students: int = 3, trials: int = 24, operators: int = 8, seed: int = 0) -> Report:
    """A finished run of `rhythm`, with all that its folder may hold."""
    rng = np.random.default_rng(seed)
    rows = [_trial(rng, number) for number in range(trials)]
    scored = sorted((row for row in rows if row["status"] == "scored"), key=lambda row: row["cost"]["latency_us"])
    chosen = [scored[i] for i in np.linspace(0, len(scored) - 1, students).astype(int)]
    made = [_student(rng, row, rank / max(students - 1, 1)) for rank, row in enumerate(chosen)]
    portraits = {s["id"]: _portrait(rng, s, operators) for s in made}
    counts = {
        "proposed": trials,
        "rejected": sum(r["status"] == "rejected" for r in rows),
        "scored": len(scored),
        "failed": 0,
        "duplicates": 0,
    }
    front: Row = {
        "profile": "cortex-m4-192k",
        "hardware": {
            "core": "cortex-m4",
            "clock_hz": CLOCK_HZ,
            "predicted": "predicted: cortex-m4, made up",
            "emulated": "emulated (modelled cycles): cortex-m4, made up",
            "flash_wait": None,
            "energy": "155 pJ/cycle at 3 V, DC/DC: made up",
            "uncertainty_factor": 1.0,
            "energy_uncertainty_factor": 1.0,
            "uncertainty": None,
        },
        "task": "rhythm",
        "data": "made up, no signals",
        "source": "synthetic",
        "windows": {"window_s": 10.0, "hash": "5b1f0c3ad2e94477", "parts": {"validation": {"windows": 720, "subjects": 12}}},
        "primary": "af_auc",
        "chance_error": 0.5,
        "effort": "normal",
        "service": "local",
        "seed": seed,
        "split_seed": 0,
        "budget": dict(BUDGET),
        "teacher": {
            "id": "5f0c2ab1d4e6f708",
            "name": "resnet18_1d",
            "parameters": 217_470,
            "metrics": {"validation": _metrics(0.978), "test": _metrics(0.971)},
            "calibration": {"temperature": 1.62, "nll_before": 0.612, "nll_after": 0.498},
        },
        "search": {"spaces": list(FAMILIES), "tuner": "pareto", **counts, "reject_share": 0.4, "hypervolume": 0.5, "families": {}},
        "best": made[-1]["id"],
        "students": made,
        "fallen": [],
    }
    config = {"task": "rhythm", "profile": "cortex-m4-192k", "spaces": list(FAMILIES), "trials": trials, "seed": seed}
    return Report(
        front,
        rows,
        portraits=portraits,
        benches={s["id"]: _bench(s, portraits[s["id"]]) for s in made},
        run_yaml={
            "config": config,
            "fingerprint": {"kernels": "725aa0c133304188", "profile_content": "cfffbec794b14f43"},
            "hwnas": "0.1.0",
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
        },
    )


def write_run(root: Path, report: Report) -> Path:
    """Write the files that a search leaves in its folder, but for those of the report; returns the folder."""
    root.mkdir(parents=True)
    (root / "front.json").write_text(json.dumps(report.front, indent=1))
    (root / "run.yaml").write_text(yaml.safe_dump(dict(report.run_yaml), sort_keys=False))
    with TrialLog.create(root / "trials.jsonl", {"seed": report.front["seed"]}) as log:
        for number, row in enumerate(report.trials):
            named = {"hash": row["id"], "family": row["family"], "parameters": {}, "cost": row["cost"]}
            if row["status"] == "rejected":
                log.append("rejected", **named, violations=row["violations"])
            else:
                log.append("proposed", id=number, **named)
                log.append("scored", id=number, hash=row["id"], metrics=row["metrics"], times={})
    for student in report.students:
        folder = root / student["folder"]
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(json.dumps(student))
        (folder / "portrait.json").write_text(json.dumps(report.portraits[student["id"]]))
        (folder / "bench.json").write_text(json.dumps(report.benches[student["id"]]))
    return root


def made_run(root: Path, **options: Any) -> Path:
    """A run's folder with three students."""
    return write_run(root, made_report(**options))


def change(root: Path, **fields: Any) -> Path:
    """Other values of fields of `front.json`; returns the run's folder."""
    front = json.loads((root / "front.json").read_text())
    (root / "front.json").write_text(json.dumps(front | fields))
    return root


def _metrics(auc: float) -> Row:
    return {"af_auc": auc, "accuracy": auc - 0.15, "macro_f1": auc - 0.24, **{f"sensitivity_{name}": auc - 0.2 for name in LABELS}}


def _trial(rng: np.random.Generator, number: int) -> Row:
    latency = float(np.exp(rng.uniform(np.log(250), np.log(60_000))))
    cost: Row = {"latency_us": latency, "ram_bytes": int(5000 + 4 * latency**0.9), "flash_bytes": int(12_000 + 9 * latency)}
    cost |= {"energy_uj": latency * 0.01984, "average_power_uw": latency * 0.001984, "cycles": int(latency * 128)}
    cost |= {"parameters": int(latency), "macs": int(latency * 60)}
    over = {name: [cost[name], limit] for name, limit in BUDGET.items() if cost[name] > limit}
    row = {"id": f"{rng.integers(16**12):012x}", "family": FAMILIES[number % len(FAMILIES)], "cost": cost, "parameters": {}}
    if over:
        return row | {"status": "rejected", "violations": over}
    auc = float(min(0.845 + 0.022 * np.log(latency / 250) + rng.normal(0, 0.008), 0.999))
    return row | {"status": "scored", "metrics": _metrics(auc) | {"error": 1 - auc}}


def _student(rng: np.random.Generator, row: Row, rank: float) -> Row:
    auc = 0.93 + 0.04 * rank
    cost = {name: {"predicted": row["cost"][name], "emulated": row["cost"][name]} for name in BUDGET}
    return {
        "id": row["id"],
        "family": row["family"],
        "summary": "conv15 16 /4 · dw5 · pw 32 · dw9 /2 · pw 64 · dense 6",
        "parameters": row["cost"]["parameters"],
        "macs": row["cost"]["macs"],
        "labels": list(LABELS),
        "rate_hz": 100.0,
        "window_s": 10.0,
        "channels": 1,
        "cost": cost,
        "metrics": {"validation": _metrics(auc), "test": _metrics(auc - 0.01)},
        "metrics_float": {"validation": _metrics(auc + 0.001)},
        "short_validation": _metrics(row["metrics"]["af_auc"]),
        "quantisation": {
            "method": "ptq",
            "calibration": "mse",
            "temperature": 1.1,
            "confidence": {"nll_before": 0.5, "nll_after": 0.45, "ece_before": 0.061, "ece_after": 0.022},
            "float": _metrics(auc + 0.001),
            "ptq": _metrics(auc),
            "qat": None,
            "shipped": _metrics(auc),
            "reason": "made up",
            "sensitivity": [{"node": 1, "operator": "conv1d", "loss": float(rng.normal(0, 0.01)), "logit_mse": 0.001}],
        },
        "exports": {"c": {"windows": 200, "windows_differing": 0}},
        "folder": f"students/{row['id']}",
    }


def _portrait(rng: np.random.Generator, student: Row, operators: int) -> Row:
    cycles = student["cost"]["latency_us"]["predicted"] * CLOCK_HZ / 1e6 / operators
    rows = []
    for index in range(1, operators + 1):
        row = {"index": index, "operator": "conv1d", "name": f"pw {8 * index}", "kernel": "hwnas_conv1d_int16", "weights": "int16"}
        row |= {"inputs": [index - 1], "shape": [8 * index, 250], "macs": 32_000 * index, "parameters": 144 * index}
        row |= {"predicted_cycles": round(cycles), "emulated_cycles": round(cycles), "live_bytes": 4000, "offset": 2000 * (index % 2)}
        rows.append(row | {"bytes": 2000})
    tensors = [
        {
            "index": r["index"],
            "kind": "output",
            "offset": r["offset"],
            "bytes": 2000,
            "from": r["index"],
            "to": min(r["index"] + 1, operators),
        }
        for r in rows
    ]
    confusion = rng.integers(0, 60, (len(LABELS), len(LABELS))).tolist()
    bins = [
        {"confidence": 0.05 + 0.1 * k, "accuracy": float(rng.uniform(0.1 * k, 0.1 + 0.1 * k)), "windows": 40 + 10 * k} for k in range(10)
    ]
    forms = ("int8", "float", "teacher")
    return {
        "operators": rows,
        "tensors": tensors,
        "arena_bytes": 4000,
        "classes": list(LABELS),
        "confusion": {"validation": dict.fromkeys(forms, confusion), "test": {"int8": confusion}},
        "reliability": {"validation": dict.fromkeys(forms, bins), "test": {"int8": bins}},
        "values": None,
        "agreement": {"int8_float": 0.981, "int8_teacher": 0.934, "rule": "the same class"},
        "by_subject": {
            f"p{n:02d}": {"int8": 0.99 - 0.01 * n, "part": "validation" if n < 12 else "test", "windows": 60} for n in range(24)
        },
        "files": [{"path": "firmware/model.c", "bytes": 41_000}, {"path": "model.tflite", "bytes": 21_504}],
        "not_recorded": [],
    }


def _bench(student: Row, portrait: Row) -> Row:
    cycles = {kind: {"cycles": round(student["cost"]["latency_us"][kind] * CLOCK_HZ / 1e6)} for kind in ("predicted", "emulated")}
    found = {"hardware": {"clock_hz": CLOCK_HZ}, "target": "made up", "arena_bytes": portrait["arena_bytes"], "stack_bytes": 228}
    return found | cycles | {"windows": 200, "windows_different_from_reference": 0, "operators": []}
