"""Small folders in the forms of published data sets, written as their authors wrote them, and damage to them in a bounded child."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pulse(seconds: float, rate_hz: float, seed: int = 0) -> NDArray[np.float64]:
    """A pulse-like signal with noise around zero, within about 2."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    rng = np.random.default_rng(seed)
    return np.asarray(np.sin(2 * np.pi * 1.2 * t + seed) + 0.3 * np.sin(2 * np.pi * 2.4 * t) + 0.02 * rng.standard_normal(len(t)))


def packed(samples: NDArray[np.int64], form: str) -> bytes:
    """(N, signals) as a signal file of format 16, 80 or 212; written value by value, as the format's text says."""
    flat = [int(v) for v in samples.ravel()]
    if form == "16":
        return b"".join(v.to_bytes(2, "little", signed=True) for v in flat)
    if form == "80":
        return bytes(v + 128 for v in flat)
    content = bytearray()
    for i in range(0, len(flat), 2):
        one, two = flat[i] & 0xFFF, (flat[i + 1] if i + 1 < len(flat) else 0) & 0xFFF
        content += bytes([one & 0xFF, one >> 8 | two >> 8 << 4, two & 0xFF])
    return bytes(content)


def wfdb_record(folder: Path, name: str, signal: NDArray[np.float64], rate_hz: float = 125, form: str = "16") -> Path:
    """A record of a PPG (NaN: missing) and an ECG channel; 100 units of the converter to one of the signal."""
    folder.mkdir(parents=True, exist_ok=True)
    low = {"16": -(2**15), "80": -(2**7), "212": -(2**11)}[form]
    gain = 40 if form == "80" else 100
    ppg = np.where(np.isnan(signal), low, np.round(np.nan_to_num(signal) * gain + 5)).astype(np.int64)
    samples = np.stack([np.arange(len(ppg)) % 7, ppg], axis=1)
    (folder / f"{name}.dat").write_bytes(packed(samples, form))
    lines = [f"{name} 2 {rate_hz:g} {len(ppg)}"]
    for number, title in enumerate(("ECG, lead II", "PPG, Fingertip PPG")):
        total = (int(samples[:, number].sum()) + 2**15) % 2**16 - 2**15
        lines.append(f"{name}.dat {form} {gain}(5)/NU 0 0 {samples[0, number]} {total} 0 {title}")
    (folder / f"{name}.hea").write_text("\n".join([*lines, "#<subject group>: made\n"]))
    return folder / f"{name}.hea"


def mimic_csv(folder: Path, name: str, signal: NDArray[np.float64], rate_hz: float = 125) -> Path:
    """A CSV file of the archive; NaN as the archive writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{i / rate_hz:.6g},{value:.7g},0.5" for i, value in enumerate(signal)]
    (folder / f"{name}_data.csv").write_text("\n".join(["Time,PPG,ECG", *rows, ""]))
    return folder / f"{name}_data.csv"


def deepbeat_content(subjects: Sequence[Any], seed: int = 0) -> dict[str, NDArray[Any]]:
    """One file's arrays: a segment for each of `subjects`; AF where its text ends in an odd digit."""
    n = len(subjects)
    rhythm = np.array([[1.0, 0.0] if int(str(s)[-1]) % 2 == 0 else [0.0, 1.0] for s in subjects])
    parameters = np.empty((n, 3), dtype=object)
    for i, subject in enumerate(subjects):
        parameters[i] = (f"2017-03-0{1 + i % 9} 10:00:00", "abcdefgh"[i % 8], subject)
    return {
        "signal": np.stack([pulse(25, 32, seed + i) for i in range(n)])[:, :, None],
        "rhythm": rhythm,
        "qa_label": np.eye(3)[np.arange(n) % 3],
        "parameters": parameters,
    }


FUZZ = """
import sys, numpy as np
from pathlib import Path
from hwnas.errors import DataError
from hwnas.tasks.datasets import RHYTHM_FORMATS, load
from hwnas.tasks.datasets.recordings import Wanted
folder, rounds, form = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
words = [b"-1", b"1e999", b"nan", b"null", b"{", b"[", b"0", b"9" * 20]
words += [b"\\x00", b"\\xff", b"../", b",", b"*a", b"&a", b":", b"2001-99-99"]
refused = 0
for seed in range(rounds):
    rng = np.random.default_rng(seed)
    path = folder / sys.argv[4 + seed % len(sys.argv[4:])]
    whole = path.read_bytes()
    bad = bytearray(whole)
    how = rng.integers(0, 4)
    near = 200 if rng.random() < 0.5 else len(bad)
    if how == 0:
        del bad[int(rng.integers(0, len(bad))):]
    elif how == 1:
        for _ in range(rng.integers(1, 5)):
            bad[rng.integers(0, min(near, len(bad)))] = rng.integers(0, 256)
    elif how == 2:
        at = int(rng.integers(0, min(near, len(bad))))
        bad[at:at + int(rng.integers(0, 4))] = words[rng.integers(len(words))]
    else:
        end = len(bad) - int(rng.integers(0, min(300, len(bad))))
        bad[end - 1] ^= 1 << int(rng.integers(0, 8))
    path.write_bytes(bytes(bad))
    try:
        load(folder, {form: RHYTHM_FORMATS[form]}, Wanted(100.0))
    except DataError:
        refused += 1
    path.write_bytes(whole)
print(refused)
"""


def fuzz(folder: Path, form: str, rounds: int, *names: str) -> int:
    """Number of refused folders; in a child under a memory limit where warnings are errors, so that crash and flood fail the test."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    command = [sys.executable, "-W", "error", "-c", FUZZ, str(folder), str(rounds), form, *names]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
