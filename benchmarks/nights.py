"""Does `hwnas validate` catch what it should, and does its history survive? Nights over the students of a finished run, on two targets.

    python benchmarks/nights.py RUN [--data DIR]           three nights: clean, a slow kernel, a wrong weight; prints the history
    python benchmarks/nights.py RUN --kills 20             `kill -9` at so many random moments, two runs at once each time

Three nights: the first must pass (exit code 0), the second must name the operator that was delayed and by how much (exit code 1), the
third must fail bit-exactness (exit code 1). Kills: whatever a run said was finished is in the history afterwards, whole, and the other
run's night is untouched. Writes `benchmarks/results/nights.json`; works in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from hwnas.resources import write_text
from hwnas.validation.history import History

RESULTS = Path(__file__).resolve().parent / "results" / "nights.json"
LOOPS = 500
FINISHED = re.compile(r"^(\S+) on (\S+): (pass|drift|fail|not reached)", re.MULTILINE)
NIGHT = re.compile(r"^night (\d+):", re.MULTILINE)
GONE_S = 10.0


def settings(run: Path, data: Path | None, place: Path, windows: tuple[int, int]) -> Path:
    """The YAML file of the nights."""
    content: dict[str, Any] = {
        "students": [str(run.resolve() / "students" / "*")],
        "targets": [{"name": "emulator", "target": "emulator"}, {"name": "qemu", "target": "qemu"}],
        "windows": {"golden": windows[0], "rotating": windows[1]} | ({"data": str(data.resolve())} if data else {}),
    }
    path = place / "nightly.yaml"
    write_text(path, yaml.safe_dump(content))
    return path


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "hwnas", "validate", "--config", str(config), *more]


def shared_kernel(run: Path) -> str:
    """A kernel that every student calls."""
    kernels = [{each["kernel"] for each in json.loads(path.read_text())["operators"]} for path in run.glob("students/*/bench.json")]
    return sorted(set.intersection(*kernels))[-1]


def three_nights(run: Path, data: Path | None, place: Path) -> dict[str, Any]:
    """What each night found, and whether it is what it must find."""
    config, kernel = settings(run, data, place, (32, 64)), shared_kernel(run)
    found = []
    for name, fault in (("clean", []), ("delay", ["--fault", f"delay:{kernel}:{LOOPS}"]), ("flip", ["--fault", "flip-weight"])):
        began = time.monotonic()
        done = subprocess.run(command(config, "--json", *fault), stdout=subprocess.PIPE, text=True, check=False)
        night = json.loads(done.stdout)
        rows = night["rows"]
        verdicts = {f"{row['student']} on {row['target']}": row["verdict"] for row in rows}
        if name == "clean":
            held = done.returncode == 0 and set(verdicts.values()) == {"pass"}
        elif name == "delay":
            named = [any(d["operator"].endswith(kernel) and d["change"] > d["limit"] for d in row["drifts"]) for row in rows]
            held = done.returncode == 1 and set(verdicts.values()) == {"drift"} and all(named) and len(night["quarantine"]) >= len(rows)
        else:
            held = done.returncode == 1 and all("differ from the int8 reference" in row["reason"] for row in rows)
            held = held and set(verdicts.values()) == {"fail"}
        reasons = {f"{row['student']} on {row['target']}": row["reason"] for row in rows}
        took_s = round(time.monotonic() - began, 1)
        found.append(
            {"night": name, "exit_code": done.returncode, "held": held, "verdicts": verdicts, "reasons": reasons, "took_s": took_s}
        )
        print(f"{name}: exit code {done.returncode}, {took_s} s: {'as it must be' if held else 'NOT AS IT MUST BE'}", flush=True)
    subprocess.run(command(config, "--history"), check=True)
    return {"kernel": kernel, "loops": LOOPS, "nights": found, "held": all(each["held"] for each in found)}


def kills(run: Path, count: int, place: Path) -> dict[str, Any]:
    """Two runs at once, so often: one is killed at a random moment, the other may finish."""
    config, generator = settings(run, None, place, (4, 4)), np.random.default_rng(0)
    began = time.monotonic()
    subprocess.run(command(config, "--quiet"), check=True)
    longest_s = 1.2 * (time.monotonic() - began)  # two at once are slower
    told: dict[int, list[tuple[str, str]]] = {}
    killed, number, survivors, faults = 0, 0, 0, []
    while killed < count:  # a run that was done before its time was up does not count
        number += 1
        logs = [place / f"{number}-{who}.log" for who in range(2)]
        runs = []
        for log in logs:
            with log.open("w") as file:
                runs.append(subprocess.Popen(command(config), stdout=subprocess.DEVNULL, stderr=file))
        life_s = generator.uniform(0.2, longest_s)
        end, family = time.monotonic() + life_s, set[psutil.Process]()
        while time.monotonic() < end and runs[0].poll() is None:
            family |= set(psutil.Process(runs[0].pid).children(recursive=True))
            time.sleep(0.05)
        killed += runs[0].poll() is None
        runs[0].kill()
        runs[0].wait()
        left = psutil.wait_procs(family, timeout=GONE_S)[1]
        survivors += len(left)
        for process in left:
            process.kill()
        if runs[1].wait() != 0:
            faults.append(f"pair {number}: the other run ended with {runs[1].returncode}: {logs[1].read_text()[-500:]}")
        for who, log in enumerate(logs):
            text = log.read_text()
            night = NIGHT.search(text)
            if night is not None:
                told[int(night[1])] = [(student, target) for student, target, _ in FINISHED.findall(text)]
                if who == 1 and len(told[int(night[1])]) != len(list(run.glob("students/*/card.json"))) * 2:
                    faults.append(f"pair {number}: the other run told of {len(told[int(night[1])])} rows")
        faults += [f"pair {number}: {fault}" for fault in looked_at(place / "history.sqlite", told)]
        with History(place / "history.sqlite") as history:
            rows = len(history.rows())
        print(f"pair {number}, after {life_s:.1f} s, {killed} killed: {rows} rows, {len(faults)} faults", flush=True)
    return {"kills": killed, "pairs_of_runs": number, "processes_left": survivors, "faults": faults, "held": not faults}


def looked_at(path: Path, told: dict[int, list[tuple[str, str]]]) -> list[str]:
    """What is wrong with the history, given the finished rows that runs told of."""
    with closing(sqlite3.connect(path)) as db:
        found = [] if db.execute("PRAGMA integrity_check").fetchone() == ("ok",) else ["the file is damaged"]
    with History(path) as history:
        nights = {night.night: night for night in history.nights()}
        for number, rows in told.items():
            kept = [(row.student, row.target) for row in history.rows(number)]  # reads every record, so that half a row raises
            # The line comes after the row: one row may be there that was not told of.
            if kept[: len(rows)] != rows or len(kept) > len(rows) + 1:
                found.append(f"night {number} told of {rows}, kept {kept}")
            night = nights[number]
            if (night.state == "finished") != (night.ended is not None) or (night.ended and night.done != night.planned):
                found.append(f"night {number} is {night.state} with {night.done} of {night.planned} rows")
            if night.state == "running":
                found.append(f"night {number} is shown as running")
    return found


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--data", type=Path, help="recordings of the run's task; default: the signal generator")
    parser.add_argument("--kills", type=int, default=0, help="kill so often, instead of three nights")
    arguments = parser.parse_args()
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory(prefix="hwnas-nights-") as work:
        place = Path(work)
        if arguments.kills:
            result = {"kills": kills(arguments.run, arguments.kills, place)}
        else:
            result = {"three_nights": three_nights(arguments.run, arguments.data, place)}
    write_text(RESULTS, json.dumps(before | result, indent=1) + "\n")
    print(json.dumps(next(iter(result.values())), indent=1))
    return 0 if next(iter(result.values()))["held"] else 1


if __name__ == "__main__":
    sys.exit(main())
