"""Small folders in the forms of published recordings of heart rate, with signals whose heart rate is known."""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

Array = NDArray[np.float64]


def wrist(seconds: float, rate_hz: float, bpm: float, seed: int = 0) -> tuple[Array, Array]:
    """PPG (T,) of a steady pulse over an offset and acceleration (3, T) of a steady arm, with a little noise."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    rng = np.random.default_rng(seed)
    ppg = 500 + np.sin(2 * np.pi * bpm / 60 * t) + 0.3 * np.sin(4 * np.pi * bpm / 60 * t) + 0.02 * rng.standard_normal(len(t))
    acc = (
        np.sin(2 * np.pi * np.array([[0.9], [1.9], [2.8]]) * t) + np.array([[1.0], [0.0], [-0.5]]) + 0.01 * rng.standard_normal((3, len(t)))
    )
    return ppg, acc


def ecg(seconds: float, rate_hz: float, beats_s: Array, seed: int = 0) -> Array:
    """ECG (T,): an R wave with Q and S, and a T wave, for every beat, over a wandering baseline."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    out = 0.1 * np.sin(2 * np.pi * 0.2 * t) + 0.01 * np.random.default_rng(seed).standard_normal(len(t))
    for beat in beats_s:
        near = np.abs(t - beat) < 0.6
        x = t[near] - beat
        out[near] += np.exp(-0.5 * (x / 0.01) ** 2) - 0.2 * np.exp(-0.5 * ((np.abs(x) - 0.03) / 0.01) ** 2)
        out[near] += 0.25 * np.exp(-0.5 * ((x - 0.25) / 0.04) ** 2)
    return np.asarray(out)


def spc_recording(folder: Path, name: str, truth: str, bpm: float, *, windows: int = 5, rows: int = 6, seed: int = 0) -> None:
    """A signal file and its heart rates, both with their path below `folder`; the second PPG channel is another rate."""
    samples = 1000 + 250 * (windows - 1) + 37
    ppg, acc = wrist(samples / 125, 125, bpm, seed)
    other, _ = wrist(samples / 125, 125, 40.0, seed)
    signal = np.concatenate([np.zeros((rows - 5, samples)), ppg[None], other[None], acc])
    for path, content in ((name, {"sig": signal}), (truth, {"BPM0": np.full((windows, 1), bpm)})):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        savemat(folder / path, content)


def spc_folder(folder: Path) -> Path:
    """Two training recordings, three of two test subjects, one more of the second of them."""
    spc_recording(folder, "Training_data/DATA_01_TYPE01.mat", "Training_data/DATA_01_TYPE01_BPMtrace.mat", 90.0)
    spc_recording(folder, "Training_data/DATA_02_TYPE02.mat", "Training_data/DATA_02_TYPE02_BPMtrace.mat", 120.0)
    for number, session, bpm in ((2, 1, 80.0), (2, 2, 100.0), (4, 2, 140.0)):
        spc_recording(folder, f"TestData/TEST_S0{number}_T0{session}.mat", f"TrueBPM/True_S0{number}_T0{session}.mat", bpm, rows=5)
    spc_recording(folder, "Extra_TrainingData/DATA_S04_T01.mat", "Extra_TrainingData/BPM_S04_T01.mat", 150.0)
    return folder


def bami1_file(folder: Path, number: int, bpm: float, seconds: float = 20.0, **change: Any) -> Path:
    """A file of BAMI-1 with a beat every 60 / `bpm` seconds, whose rate is written as bpm plus its number."""
    ppg, acc = wrist(seconds, 50, bpm, number)
    time = np.arange(0.3, seconds, 60 / bpm)
    content = {
        "sigPPG": np.stack([ppg * 40 + 20_000, ppg, ppg]).astype(np.uint16),
        "sigAcc": (acc * 1000 + 32768).astype(np.uint16),
        "sigGyro": (acc * 100 + 32768).astype(np.uint16),
        "timeECG": time[:, None],
        "bpmECG": (bpm + 0.1 * np.arange(len(time)))[:, None],
        **change,
    }
    savemat(folder / f"Subject_{number}.mat", {k: v for k, v in content.items() if v is not None})
    return folder / f"Subject_{number}.mat"


def bami2_file(folder: Path, number: int, rates: Array, seconds: float = 20.0) -> Path:
    """A file of BAMI-2."""
    ppg, acc = wrist(seconds, 50, 100.0, number)
    savemat(folder / f"BAMI2_{number}.mat", {"rawPPG": np.stack([ppg, ppg, ppg]), "rawAcc": acc, "bpm_ecg": rates[:, None]})
    return folder / f"BAMI2_{number}.mat"


def empatica(seconds: float, bpm: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    """What PPG-DaLiA and WESAD hold of one subject, without labels."""
    ppg, _ = wrist(seconds, 64, bpm, seed)
    _, acc = wrist(seconds, 32, bpm, seed)
    signal = {"wrist": {"BVP": ppg[:, None], "ACC": acc.T, "EDA": np.zeros((4, 1))}, "chest": {}}
    return {"signal": signal, "subject": f"S{seed}", **more}


def python2(value: Any) -> bytes:
    """`value` as Python 2 pickled it by default: opcodes of text, arrays as escaped strings."""

    def text(raw: bytes) -> bytes:
        return b"S'" + codecs.escape_encode(raw)[0] + b"'\n"

    def put(item: Any) -> bytes:
        if isinstance(item, dict):
            return b"(d" + b"".join(put(key) + put(inner) + b"s" for key, inner in item.items())
        if isinstance(item, str):
            return text(item.encode())
        array = np.ascontiguousarray(item)
        shape = b"(" + b"".join(b"I%d\n" % n for n in array.shape) + b"t"
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + text(b"b") + b"tR"
        kind = b"cnumpy\ndtype\n(" + text(array.dtype.str[1:].encode()) + b"I0\nI1\ntR(I3\n" + text(b"<") + b"NNNI-1\nI-1\nI0\ntb"
        return made + b"(I1\n" + shape + kind + b"I00\n" + text(array.tobytes()) + b"tb"

    return put(value) + b"."


def save_subject(folder: Path, number: int, content: dict[str, Any], *, old: bool = False) -> Path:
    """`SN/SN.pkl` below `folder`; `old` as Python 2 wrote it."""
    path = folder / f"S{number}" / f"S{number}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2(content) if old else pickle.dumps(content))
    return path
