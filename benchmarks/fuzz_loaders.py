"""Damaged and hostile files of every format of recordings, 10,000 in all: how many load, are refused with their name, or do harm.

Each replaces one file of a small good folder that is loaded in a child under limits of memory and time, and mended afterwards; what is
made by hand (bombs, code, other files' names) is a quarter. An argument gives another number of files. Writes
`benchmarks/results/fuzz_loaders.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path += [str(TESTS), str(TESTS / "fuzz")]
from harness import LOAD_CPU_S, MEMORY_BYTES, SEEDS, Loader, run  # noqa: E402

FILES, SEED = 10_000, 0


def main() -> None:
    """Print the table and write the rows."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    rows = []
    with tempfile.TemporaryDirectory() as scratch, Loader(Path(scratch)) as loader:
        for number, name in enumerate(SEEDS):
            start = time.perf_counter()
            counted = run(name, files // len(SEEDS) + (number < files % len(SEEDS)), SEED, Path(scratch), loader)
            rows.append({"format": name, **asdict(counted), "seconds": round(time.perf_counter() - start)})
            print(f"{name}: {counted.files} files, {len(counted.findings)} findings, {rows[-1]['seconds']} s", flush=True)
    table = Table("format", "files", "loaded", "refused", "findings", title="damaged files of recordings, and what became of them")
    for row in rows:
        table.add_row(row["format"], *(f"{row[key]:,}" for key in ("files", "loaded", "refused")), f"{len(row['findings']):,}")
    totals = {key: sum(row[key] for row in rows) for key in ("files", "loaded", "refused")}
    table.add_row("all", *(f"{value:,}" for value in totals.values()), f"{sum(len(row['findings']) for row in rows):,}")
    Console().print(table)
    for finding in (finding for row in rows for finding in row["findings"]):
        print(finding)
    results = Path(__file__).parent / "results" / "fuzz_loaders.json"
    results.parent.mkdir(exist_ok=True)
    limits = {"seed": SEED, "memory_bytes": MEMORY_BYTES, "cpu_s_per_load": LOAD_CPU_S}
    results.write_text(json.dumps({**limits, "formats": rows}, indent=1) + "\n")
    sys.exit(any(row["findings"] for row in rows))


if __name__ == "__main__":
    main()
