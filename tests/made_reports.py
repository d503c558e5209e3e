"""A run as the report sees it: seven students, eighty candidates, every field that a front may hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwnas.report.content import Report

CLOCK_MHZ = 128.0


def _cost(latency_us: float, ram: int, flash: int, *, emulated: bool) -> dict[str, dict[str, float | None]]:
    figures = {"latency_us": latency_us, "ram_bytes": ram, "flash_bytes": flash, "energy_uj": latency_us * CLOCK_MHZ * 155e-6}
    figures["average_power_uw"] = figures["energy_uj"] / 10
    factors = {"latency_us": 1.012, "energy_uj": 1.012, "average_power_uw": 1.012}
    return {k: {"predicted": v, "emulated": v * factors.get(k, 0.998) if emulated else None} for k, v in figures.items()}


def _quality(auc: float, short: float) -> dict[str, Any]:
    def part(shift: float) -> dict[str, float]:
        return {"af_auc": auc + shift, "accuracy": auc - 0.15 + shift, "macro_f1": auc - 0.24 + shift}

    return {
        "metrics": {"validation": part(0), "test": part(-0.011)},
        "short_validation": {"af_auc": short, "accuracy": short - 0.2},
    }


def _quantisation(number: int, auc: float) -> dict[str, Any]:
    """QAT for one student in three."""
    lost = 0.0004 * number
    trained = number % 3 == 0
    return {
        "method": "qat" if trained else "ptq",
        "calibration": "percentile",
        "temperature": 1.1 + 0.05 * number,
        "confidence": {"nll_before": 0.5, "nll_after": 0.45, "ece_before": 0.061, "ece_after": 0.022},
        "float": {"af_auc": auc + lost, "accuracy": auc - 0.15 + 2 * lost},
        "ptq": {"af_auc": auc if not trained else auc - 4 * lost, "accuracy": auc - 0.15},
        "qat": {"af_auc": auc, "accuracy": auc - 0.15} if trained else None,
        "shipped": {"af_auc": auc, "accuracy": auc - 0.15},
        "reason": f"PTQ costs {100 * lost:.2f} points of af_auc" + (": QAT is shipped" if trained else ", no more than 0.2 points"),
        "sensitivity": [
            {"node": node, "operator": name, "loss": 0.013 * node * number - 0.02, "logit_mse": 0.001}
            for node, name in enumerate(["conv1d", "depthwise_conv1d", "conv1d", "dense"][: 3 + number % 2], start=1)
        ],
    }


def _compared(differing: float, largest: int) -> dict[str, Any]:
    shares = {"share_within_one_step": 1.0, "share_within_two_steps": 1.0, "share_same_class": 0.9975}
    return {"share_differing": differing, **shares, "largest_step": largest}


def _student(number: int, latency_us: float, auc: float) -> dict[str, Any]:
    channels = 8 + 8 * number
    return {
        "id": f"{number}a4c{number}e0b91f{number}",
        "family": "mobilenet1d",
        "parameters": 1400 * number**2,
        "macs": int(latency_us * 60),
        "cost": _cost(latency_us, 6000 + 4100 * number, 21_000 + 3000 * number**2, emulated=True),
        **_quality(auc, auc - 0.012),
        "folder": f"students/{number}",
        "summary": f"stem {channels} k11 s4, ds {2 * channels} k5 s2, ir {2 * channels} k7 x2, head 6",
        "exports": {
            "tflite": {
                **_compared(0.00312, 1),
                "windows": 200,
                "operator_largest_step": 1,
                "operator_steps": {"conv1d": 1, "dense": 0},
                "kernels": {"reference": _compared(0.00312, 1), "xnnpack": _compared(0.0107, 2)},
                "bytes": 20_480 + 1024 * number,
            },
            "onnx": {**_compared(0.00208, 1), "windows": 200, "operator_largest_step": 1, "operator_steps": {}, "kernels": {}},
            "c": {"windows": 200, "windows_differing": 0},
        },
        "quantisation": _quantisation(number, auc),
    }


COUNTS = {"proposed": 96, "rejected": 48, "duplicates": 3, "scored": 30, "failed": 1, "reject_share": 0.412, "needs": ""}


def sample_front() -> dict[str, Any]:
    """The content of a `front.json`."""
    latencies = (310.0, 620.0, 1180.0, 2950.0, 6100.0, 12400.0)
    students = [_student(i + 1, latency, 0.91 + 0.0105 * i) for i, latency in enumerate(latencies)]
    dominated = _student(9, 4100.0, 0.921) | {"fallen": f"dominated by {students[3]['id']}"}
    del dominated["metrics"]["test"]
    return {
        "profile": "cortex-m4-192k",
        "hardware": {
            "core": "cortex-m4",
            "clock_hz": 128_000_000,
            "predicted": "predicted: cortex-m4, rules of a manual",
            "emulated": "emulated (modelled cycles): cortex-m4, rules of a manual",
            "flash_wait": None,
            "energy": "155 pJ/cycle at 3 V, DC/DC: a data sheet",
            "uncertainty_factor": 1.0,
            "energy_uncertainty_factor": 1.0,
            "uncertainty": None,
        },
        "task": "rhythm",
        "data": "signal generator",
        "source": "synthetic",
        "windows": {
            "name": "signal generator",
            "source": "synthetic",
            "window_s": 10.0,
            "hash": "5b1f0c3ad2e94477",
            "parts": {
                "train": {"windows": 2160, "subjects": 36},
                "validation": {"windows": 720, "subjects": 12},
                "test": {"windows": 719, "subjects": 11},
            },
        },
        "primary": "af_auc",
        "effort": "normal",
        "service": "local",
        "seed": 0,
        "split_seed": 7,
        "budget": {"ram_bytes": 65536, "flash_bytes": 524288, "latency_us": 20000.0, "energy_uj": 1000.0},
        "teacher": {
            "id": "5f0c2ab1d4e6f708",
            "name": "resnet18_1d",
            "parameters": 968_454,
            "metrics": {"validation": {"af_auc": 0.978, "accuracy": 0.851}, "test": {"af_auc": 0.971, "accuracy": 0.842}},
            "calibration": {
                "temperature": 1.62,
                "nll_before": 0.612,
                "nll_after": 0.498,
                "ece_before": 0.091,
                "ece_after": 0.027,
                "entropy_validation": {"windows": 720, "borderline": 214, "mean_bits": 0.87, "passed": True, "verdict": "passed"},
                "distillation_temperature": 3.0,
            },
        },
        "search": {
            "proposed": 96,
            "rejected": 48,
            "duplicates": 3,
            "scored": 30,
            "failed": 1,
            "reject_share": 0.412,
            "seconds": 381.4,
            "spaces": ["mobilenet1d"],
            "families": {"mobilenet1d": COUNTS | {"finished": 7, "front": 6}},
        },
        "best": students[-1]["id"],
        "students": students,
        "fallen": [dominated],
    }


def sample_trials() -> list[dict[str, Any]]:
    """Rows of the trials behind that front."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(80):
        latency = float(np.exp(generator.uniform(np.log(250), np.log(60_000))))
        cost = {"latency_us": latency, "ram_bytes": int(7000 + latency**0.9), "flash_bytes": int(20_000 + 9 * latency)}
        cost |= {"energy_uj": latency * 0.01984, "parameters": int(latency), "macs": int(latency * 60)}
        over = {k: (cost[k], limit) for k, limit in (("latency_us", 20_000.0), ("ram_bytes", 24_000.0)) if cost[k] > limit}
        auc = 0.845 + 0.022 * math.log(latency / 250) + generator.normal(0, 0.008)
        row = {"id": f"{number:012x}", "status": "rejected" if over else "scored", "cost": cost, "violations": over}
        rows.append(row if over else row | {"metrics": {"af_auc": auc, "accuracy": auc - 0.2}})
    rows.append({"id": "f" * 12, "status": "failed", "cost": None, "metrics": None, "violations": {}})
    return rows


FAMILIES = ("mobilenet1d", "lstm", "modality_conv")


def joint_run() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same run over three families, of which the last scored nothing."""
    front, trials = sample_front(), sample_trials()
    for number, student in enumerate((*front["students"], *front["fallen"])):
        student["family"] = FAMILIES[number % 2]
    for number, trial in enumerate(trials):
        trial["family"] = FAMILIES[number % 2] if trial["status"] == "scored" else FAMILIES[number % 3]
    counts = [COUNTS | {"finished": 4, "front": 3}, COUNTS | {"finished": 3, "front": 3}, COUNTS | {"scored": 0, "finished": 0, "front": 0}]
    front["search"] |= {"spaces": list(FAMILIES), "families": dict(zip(FAMILIES, counts, strict=True))}
    return front, trials


def pace_run() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same run of a regression: students from 9.1 BPM (fast, small) to 3.85 BPM, without confidence."""
    front, trials = sample_front(), sample_trials()

    def rates(scores: dict[str, Any]) -> dict[str, float]:
        mae = 100 * (1 - scores["af_auc"])
        return {"mae_bpm": mae, "rmse_bpm": 1.4 * mae, "within_5_bpm": 1 - mae / 20}

    front |= {"task": "heart_rate", "primary": "mae_bpm"}
    for student in (*front["students"], *front["fallen"]):
        student["labels"] = ["bpm"]
        student["metrics"] = {part: rates(scores) for part, scores in student["metrics"].items()}
        student["short_validation"] = rates(student["short_validation"])
        q = student["quantisation"]
        q |= {form: rates(q[form]) for form in ("float", "ptq", "qat", "shipped") if q[form]} | {"temperature": 1.0, "confidence": None}
        for found in (student["exports"]["tflite"], *student["exports"]["tflite"]["kernels"].values(), student["exports"]["onnx"]):
            found |= {"share_same_class": None, "largest_difference": 0.25, "unit": "BPM"}
    front["teacher"]["metrics"] = {part: rates(scores) for part, scores in front["teacher"]["metrics"].items()}
    for trial in trials:
        if trial.get("metrics"):
            trial["metrics"] = rates(trial["metrics"])
    return front, trials


# name, kind, inputs, channels, length, macs, parameters: with a connection that skips two operators
OPERATORS = (
    ("conv11 8 /4", "conv1d", (0,), 8, 250, 22_000, 96),
    ("pw 16", "conv1d", (1,), 16, 250, 32_000, 144),
    ("dw5", "depthwise_conv1d", (2,), 16, 250, 20_000, 96),
    ("pw 8", "conv1d", (3,), 8, 250, 32_000, 136),
    ("+", "add", (1, 4), 8, 250, 0, 0),
    ("mean", "global_avg_pool", (5,), 8, 1, 0, 0),
    ("dense 4", "dense", (6,), 4, 1, 32, 36),
)
LABELS = ("sinus", "af", "pac", "noise")


def sample_portrait(student: dict[str, Any]) -> dict[str, Any]:
    """The content of its `portrait.json`, as `hwnas.pipeline.portrait` writes it."""
    share = student["cost"]["latency_us"]["predicted"] * CLOCK_MHZ / sum(row[5] + 400 for row in OPERATORS)
    last = {i: max((n for n, row in enumerate(OPERATORS, start=1) if i in row[2]), default=i) for i in range(1, len(OPERATORS) + 1)}
    offsets = {1: 0, 2: 2000, 3: 2000, 4: 6000, 5: 0, 6: 2000}
    operators, placed = [], []
    for index, (name, kind, inputs, channels, length, macs, parameters) in enumerate(OPERATORS, start=1):
        cycles = round(share * (macs + 400))
        row = {"index": index, "operator": kind, "name": name, "kernel": f"hwnas_{kind}", "weights": "int16", "inputs": list(inputs)}
        row |= {"shape": [channels, length], "modalities": 1, "macs": macs, "parameters": parameters}
        row |= {"predicted_cycles": cycles, "emulated_cycles": round(cycles * 1.012), "bytes": channels * length}
        operators.append(row | {"live_bytes": 0, "offset": offsets.get(index)})
        if index in offsets:
            tensor = {"index": index, "kind": "output", "offset": offsets[index], "bytes": channels * length}
            placed.append(tensor | {"from": index, "to": last[index]})
    placed.append({"index": 2, "kind": "scratch", "offset": 6000, "bytes": 256, "from": 2, "to": 2})
    for row in operators:
        row["live_bytes"] = min(8000, sum(t["bytes"] for t in placed if t["from"] <= row["index"] <= t["to"]))
    confusion = [[90, 4, 5, 1], [3, 80, 7, 0], [10, 12, 40, 8], [2, 0, 3, 55]]
    bins = [{"confidence": 0.35 + 0.1 * k, "accuracy": 0.3 + 0.11 * k, "windows": 20 + 30 * k} for k in range(7)]
    more = {
        "int8": bins,
        "float": [b | {"accuracy": b["accuracy"] + 0.02} for b in bins],
        "teacher": [b | {"accuracy": b["confidence"]} for b in bins],
    }
    return {
        "operators": operators,
        "tensors": placed,
        "arena_bytes": 8000,
        "classes": list(LABELS),
        "confusion": {"validation": dict.fromkeys(("int8", "float", "teacher"), confusion), "test": {"int8": confusion}},
        "reliability": {"validation": more},
        "values": None,
        "agreement": {"int8_float": 0.981, "int8_teacher": 0.934, "rule": "the same class"},
        "by_subject": {
            f"p{n:02d}": {"int8": None if n == 3 else 0.99 - 0.03 * n, "part": "validation" if n < 4 else "test", "windows": 60}
            for n in range(7)
        },
        "files": [
            {"path": "firmware/model.c", "bytes": 41_000},
            {"path": "firmware/README.md", "bytes": 4000},
            {"path": "model.tflite", "bytes": 21_504},
        ],
        "not_recorded": [],
    }


def pace_portrait(student: dict[str, Any]) -> dict[str, Any]:
    """The same of a regression: values in the place of classes."""
    generator = np.random.default_rng(1)
    truth = generator.uniform(60, 160, 400)
    estimate = truth + generator.normal(0, 6, 400)
    pairs, counts = np.unique((np.stack([truth, estimate], 1) // 2 * 2 + 1).astype(int), axis=0, return_counts=True)
    cells = [[*map(int, pair), int(count)] for pair, count in zip(pairs, counts, strict=True)]
    values = {"validation": dict.fromkeys(("int8", "float", "teacher"), cells)}
    return sample_portrait(student) | {"classes": None, "confusion": None, "reliability": None, "values": values}


def sample_bench(student: dict[str, Any]) -> dict[str, Any]:
    """The part of its `bench.json` that a report reads."""
    rows = [
        {name: row[name] for name in ("operator", "weights", "kernel", "predicted_cycles", "emulated_cycles")}
        for row in sample_portrait(student)["operators"]
    ]
    cycles = {kind: {"cycles": round(student["cost"]["latency_us"][kind] * CLOCK_MHZ)} for kind in ("predicted", "emulated")}
    found = {"hardware": {"clock_hz": 128_000_000}, "target": "Unicorn, not measured on a board", "operators": rows, "arena_bytes": 8000}
    return found | cycles | {"stack_bytes": 228, "windows": 200, "windows_different_from_reference": 0}


def sample_board(student: dict[str, Any], board: str = "NUCLEO-F405RG") -> dict[str, Any]:
    """What `hwnas bench` writes of a board on a serial port, whose energy is modelled."""
    latency = student["cost"]["latency_us"]["predicted"] * 1.07
    rows = [
        {
            "index": row["index"],
            "operator": row["operator"],
            "predicted_cycles": row["predicted_cycles"],
            "cycles": row["predicted_cycles"],
            "us": row["predicted_cycles"] / 120,
        }
        for row in sample_portrait(student)["operators"]
    ]
    return {
        "student": student["id"],
        "target": "serial:/dev/ttyACM0",
        "provenance": f"measured on {board}",
        "windows": 500,
        "windows_differing": 0,
        "latency": {"kind": "measured", "median_us": latency, "spread_us": 1.5, "min_us": latency - 1, "max_us": latency + 2, "runs": 20},
        "cycles": {"kind": "measured", "median": round(latency * 120)},
        "memory": {"ram_bytes": 9100, "stack_bytes": 240, "arena_bytes": 8000, "flash_bytes": 60_000},
        "energy": {"kind": "modelled", "energy_uj": 77.7},
        "operators": rows,
        "link": {"retries": 2, "bad_frames": 0, "stale_replies": 0},
        "date": "2026-11-21",
    }


RUN_YAML = {
    "config": {"task": "rhythm", "seed": 0, "spaces": ["mobilenet1d"], "trials": 30, "budget": {"preset": "default", "max_ram_kb": None}},
    "fingerprint": {"kernels": "725aa0c133304188"},
    "hwnas": "0.1.0",
    "versions": {"python": "3.11.7", "torch": "2.13.0", "git": "de06ff29dbb3"},
}


def sample_report(front: dict[str, Any] | None = None, trials: list[dict[str, Any]] | None = None) -> Report:
    """Everything recorded, but for the last student on the front, which has nothing but its card, and boards, which the first two have."""
    front = front or sample_front()
    front["chance_error"] = 0.5
    trials = sample_trials() if trials is None else trials
    for trial in trials:
        if trial.get("metrics"):
            trial["metrics"]["error"] = 1 - trial["metrics"]["af_auc"]
    students = [*front["students"][:-1], *front["fallen"]]
    for s in students:
        s["labels"], s["channels"], s["rate_hz"], s["window_s"] = list(LABELS), 1, 100.0, 10.0
    return Report(
        front=front,
        trials=trials,
        portraits={s["id"]: sample_portrait(s) for s in students},
        benches={s["id"]: sample_bench(s) for s in students},
        boards={s["id"]: {"serial-ttyACM0": sample_board(s)} for s in students[:2]},
        run_yaml=RUN_YAML,
    )


WATCH = {
    "core": "cortex-a53",
    "clock_hz": 1_700_000_000,
    "uncertainty_factor": 2.0,
    "energy_uncertainty_factor": 4.0,
    "uncertainty": "static model, uncalibrated",
}


def doubtful_front() -> dict[str, Any]:
    """The same of a profile whose figures are uncertain."""
    front = sample_front()
    front["profile"] = "watch-a53"
    front["hardware"] |= WATCH
    return front
