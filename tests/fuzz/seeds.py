"""Small good folders of every format of recordings, written here value by value: nothing of them is a copy of a recording."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_recordings import deepbeat_content, mimic_csv, pulse, wfdb_record
from numpy.typing import NDArray
from scipy.io import savemat

Groups = list[tuple[str, ...]]


@dataclass(frozen=True)
class Seed:
    """A format: `write(folder)` makes a good one and returns its files, those of one recording together.

    `required` files list what the folder holds; `folder` is its name, where the format reads something from that.
    """

    task: str
    write: Callable[[Path], Groups]
    required: tuple[str, ...] = ()
    folder: str = "recordings"


def _liu2022(folder: Path) -> Groups:
    for number in range(3):
        rng = np.random.default_rng(number)
        content = {"ppgseg": rng.random((2, 1000)), "labels": np.array([[number], [5]], dtype=np.uint8)}
        savemat(folder / f"MPA_{number}.mat", content, do_compression=number != 1)
    return [(f"MPA_{n}.mat",) for n in range(3)]


def _mimic_wfdb(folder: Path) -> Groups:
    for number, form in enumerate(("16", "80", "212")):
        wfdb_record(folder, f"mimic_perform_{'af' if number else 'non_af'}_00{number}", pulse(12, 125, number), form=form)
    return [tuple(f"{path.stem}{suffix}" for suffix in (".hea", ".dat")) for path in sorted(folder.glob("*.hea"))]


def _mimic_csv(folder: Path) -> Groups:
    for number in range(3):
        mimic_csv(folder, f"mimic_perform_{'af' if number else 'non_af'}_00{number}", pulse(11, 125, number))
    return [(path.name,) for path in sorted(folder.glob("*.csv"))]


def _deepbeat(folder: Path) -> Groups:
    for number, name in enumerate(("train", "validate", "test")):
        save = np.savez if number == 1 else np.savez_compressed
        save(folder / f"{name}.npz", **deepbeat_content([10 + number, f"2{number}"], seed=number))
    return [("train.npz",), ("validate.npz",), ("test.npz",)]


DATASET = """\
name: made
channels: [ppg]
rate_hz: 50
window_s: 10
labels: {N: sinus, A: af, 0: sinus, 5: af, noise: null}
files:
  - {file: a.csv, subject: anna, label: A}
  - {file: b.csv, subject: bert, label_column: rhythm}
  - {file: all.npz, subject_column: who, label_column: rhythm}
  - {file: one.npz, subject: 7, label_column: rhythm}
"""


def _plain(folder: Path) -> Groups:
    (folder / "dataset.yaml").write_text(DATASET)
    for number, name in enumerate(("a", "b")):
        rows = [f"{value:.5f},{'NA'[i >= 500]}" for i, value in enumerate(pulse(20, 50, number))]
        (folder / f"{name}.csv").write_text("\n".join(["ppg,rhythm", *rows, ""]))
    segments = np.stack([pulse(11, 50, i) for i in range(4)])
    who = np.array(["p", 3, "q", 4.0], dtype=object)
    np.savez_compressed(folder / "all.npz", ppg=segments, who=who, rhythm=np.array([0.0, 5.0, 5.0, 0.0]))
    np.savez(folder / "one.npz", ppg=pulse(20, 50).astype(np.float32), rhythm=np.repeat([0, 5], 500))
    return [("dataset.yaml",), ("a.csv",), ("b.csv",), ("all.npz",), ("one.npz",)]


def _plain_rates(folder: Path) -> Groups:
    """A folder for task `heart_rate`."""
    (folder / "dataset.yaml").write_text(RATES)
    columns = [*_motion(14, 50, 0), np.full(700, 71.5)]
    rows = [",".join(f"{value:.5f}" for value in row) for row in np.stack(columns, axis=1)]
    (folder / "a.csv").write_text("\n".join(["ppg,x,y,z,bpm", *rows, ""]))
    np.savez_compressed(folder / "b.npz", **dict(zip(("ppg", "x", "y", "z"), _motion(12, 50, 1), strict=True)), bpm=np.full(600, 80.0))
    return [("dataset.yaml",), ("a.csv",), ("b.npz",)]


RATES = """\
channels: [ppg, x, y, z]
rate_hz: 50
files:
  - {file: a.csv, subject: anna, heart_rate_column: bpm}
  - {file: b.npz, subject: bert, heart_rate_column: bpm}
"""


def _motion(seconds: float, rate_hz: float, seed: int) -> list[NDArray[np.float64]]:
    """A pulse and three axes of acceleration."""
    return [pulse(seconds, rate_hz, 4 * seed + i) for i in range(4)]


def _spc2015(folder: Path) -> Groups:
    names = [
        ("Training_data/DATA_01_TYPE01.mat", "Training_data/DATA_01_TYPE01_BPMtrace.mat"),
        ("TestData/TEST_S02_T01.mat", "TrueBPM/True_S02_T01.mat"),
        ("Extra_TrainingData/DATA_S04_T01.mat", "Extra_TrainingData/BPM_S04_T01.mat"),
    ]
    for number, (signal, truth) in enumerate(names):
        ppg, *acc = _motion(12, 125, number)
        rows = [ppg, ppg[::-1], *acc] if "TEST" in signal else [ppg * 9, ppg, ppg[::-1], *acc]
        for path in (signal, truth):
            (folder / path).parent.mkdir(exist_ok=True)
        savemat(folder / signal, {"sig": np.stack(rows)}, do_compression=number != 1)
        savemat(folder / truth, {"BPM0": np.array([[70.0], [75.5], [80.25]])})
    return [tuple(pair) for pair in names]


def _bami1(folder: Path) -> Groups:
    for number in (1, 2, 3):
        ppg, *acc = _motion(12, 50, number)
        beats = np.arange(0.4, 12, 0.8)[:, None]
        content = {
            "sigPPG": np.stack([ppg] * 3) * 5000 + 30000,
            "sigAcc": np.stack(acc) * 5000 + 32768,
            "sigGyro": np.stack(acc) * 5000 + 32768,
        }
        rates = {"timeECG": beats, "bpmECG": np.full(beats.shape, 75.0)}
        savemat(folder / f"Subject_{number}.mat", {n: v.astype(np.uint16) for n, v in content.items()} | rates, do_compression=number != 2)
    return [(f"Subject_{n}.mat",) for n in (1, 2, 3)]


def _bami2(folder: Path) -> Groups:
    for number in (1, 2):
        ppg, *acc = _motion(14, 50, number)
        content = {"rawPPG": np.stack([ppg] * 3), "rawAcc": np.stack(acc), "bpm_ecg": np.array([[90.0], [95.0], [99.0]])}
        savemat(folder / f"BAMI2_{number}.mat", content, do_compression=number == 1)
    return [("BAMI2_1.mat",), ("BAMI2_2.mat",)]


def as_python2(value: Any) -> bytes:
    """The opcodes of Python 2's protocol 2 for dicts, text, numbers and arrays, as the published pickles have them."""

    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content if len(content) < 256 else b"T" + len(content).to_bytes(4, "little") + content

    if isinstance(value, dict):
        return b"}(" + b"".join(text(key.encode()) + as_python2(inner) for key, inner in value.items()) + b"u"
    if isinstance(value, str):
        return text(value.encode())
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little", signed=True)
    array = np.ascontiguousarray(value)
    shape = b"(" + b"".join(as_python2(n) for n in array.shape) + b"t"
    kind = (
        b"cnumpy\ndtype\n" + text(array.dtype.str[1:].encode()) + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return made + b"(K\x01" + shape + kind + b"\x89" + text(array.tobytes()) + b"tb"


def _empatica(folder: Path, first: int, **labels: Any) -> Groups:
    """Three subjects: a pickle as Python 2 wrote it, and as two protocols of today do."""
    for number in range(first, first + 3):
        ppg, *acc = _motion(16, 64, number)
        ecg = 0.01 * pulse(16, 700, number)
        ecg[np.round(np.arange(0.3, 15.9, 0.8) * 700).astype(int)] += 2.0
        content = {
            "signal": {
                "wrist": {"BVP": ppg[:, None], "ACC": np.stack(acc, axis=1)[::2]},
                "chest": {"ECG": ecg.astype(np.float32)[:, None]},
            },
            "subject": f"S{number}",
            **labels,
        }
        place = folder / f"S{number}"
        place.mkdir()
        done = b"\x80\x02" + as_python2(content) + b"." if number == first else pickle.dumps(content, 2 + number % 3)
        (place / f"S{number}.pkl").write_bytes(done)
    return [(f"S{n}/S{n}.pkl",) for n in range(first, first + 3)]


def _dalia(folder: Path) -> Groups:
    return _empatica(folder, 1, label=np.array([70.0, 71.0, 72.5, 74.0, 75.0]), activity=np.zeros((64, 1)))


def _wesad(folder: Path) -> Groups:
    return _empatica(folder, 3, label=np.ones(16 * 700, np.int32))


def edf(signals: dict[str, tuple[int, NDArray[np.float64]]]) -> bytes:
    """An EDF file of records of a second; of each label the rate in Hz and samples within 3 of zero."""
    seconds = min(len(x) // rate_hz for rate_hz, x in signals.values())

    def column(width: int, *words: object) -> bytes:
        return b"".join(str(word).encode().ljust(width) for word in words)

    count = len(signals)
    head = column(8, 0) + column(80, "X X X X", "Startdate 01-JAN-2000 X X X") + column(8, "01.01.00", "22.00.00", 256 * (count + 1))
    head += column(44, "") + column(8, seconds, 1) + column(4, count) + column(16, *signals) + column(80, *[""] * count)
    head += column(8, *["mV"] * count, *[-3] * count, *[3] * count, *[-32768] * count, *[32767] * count)
    head += column(80, *[""] * count) + column(8, *(rate_hz for rate_hz, _ in signals.values())) + column(32, *[""] * count)
    digital = {name: np.clip(np.round(x / 3 * 32767), -32768, 32767).astype("<i2") for name, (_, x) in signals.items()}
    records = [digital[name][s * rate_hz : (s + 1) * rate_hz].tobytes() for s in range(seconds) for name, (rate_hz, _) in signals.items()]
    return head + b"".join(records)


def _nights(folder: Path, signals: dict[str, int], scoring: Callable[[list[int]], str], ending: str) -> Groups:
    groups = []
    for number in range(1, 4):
        name = f"shhs1-20000{number}"
        (folder / f"{name}.edf").write_bytes(edf({label: (rate_hz, pulse(90, rate_hz, number)) for label, rate_hz in signals.items()}))
        (folder / f"{name}{ending}").write_text(scoring([0, number, 5]))
        groups.append((f"{name}.edf", f"{name}{ending}"))
    return groups


def profusion(stages: list[int]) -> str:
    """A scoring as Compumedics Profusion writes it."""
    inner = "".join(f"<SleepStage>{stage}</SleepStage>" for stage in stages)
    event = "<ScoredEvent><Name>Arousal</Name><Start>3</Start><Duration>5</Duration><Input>C3</Input></ScoredEvent>"
    body = f"<EpochLength>30</EpochLength><ScoredEvents>{event}</ScoredEvents><SleepStages>{inner}</SleepStages>"
    return f'<?xml version="1.0" encoding="UTF-8"?><CMPStudyConfig>{body}</CMPStudyConfig>'


def nsrr(stages: list[int]) -> str:
    """A scoring as the National Sleep Research Resource writes it."""
    names = {0: "Wake|0", 1: "Stage 1 sleep|1", 2: "Stage 2 sleep|2", 3: "Stage 3 sleep|3", 5: "REM sleep|5"}
    inner = "".join(
        f"<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>{names[stage]}</EventConcept>"
        f"<Start>{30.0 * epoch}</Start><Duration>30.0</Duration></ScoredEvent>"
        for epoch, stage in enumerate(stages)
    )
    body = f"<EpochLength>30</EpochLength><ScoredEvents>{inner}</ScoredEvents>"
    return f'<?xml version="1.0" encoding="UTF-8" standalone="no"?><PSGAnnotation>{body}</PSGAnnotation>'


def _paired(folder: Path) -> Groups:
    beats = np.arange(100, 1900, 160)
    for number, (name, kind, peaks, rate) in enumerate((("data", "scg", "Rpeaks", "fs"), ("rec_proc_made", "bcg", "peaks_r", "Fs"))):
        ecg = 0.01 * pulse(10, 200, number)
        ecg[beats - 1] += 1
        content = {kind: pulse(10, 200, number)[:, None], "ecg": ecg[:, None], peaks: beats[:, None], rate: np.array([[200.0]])}
        savemat(folder / f"{name}.mat", content, do_compression=number == 0)
    return [("data.mat",), ("rec_proc_made.mat",)]


SEEDS: dict[str, Seed] = {
    "liu2022": Seed("rhythm", _liu2022),
    "mimic_perform WFDB": Seed("rhythm-af", _mimic_wfdb),
    "mimic_perform CSV": Seed("rhythm-af", _mimic_csv),
    "deepbeat": Seed("rhythm-af", _deepbeat),
    "plain": Seed("rhythm", _plain, required=("dataset.yaml",)),
    "plain heart_rate": Seed("heart_rate", _plain_rates, required=("dataset.yaml",)),
    "ieee_spc2015": Seed("heart_rate", _spc2015),
    "bami1": Seed("heart_rate", _bami1),
    "bami2": Seed("heart_rate", _bami2),
    "ppg_dalia": Seed("heart_rate", _dalia, folder="PPG_FieldStudy"),
    "wesad": Seed("heart_rate", _wesad),
    "shhs Profusion": Seed("sleep-ecg", lambda folder: _nights(folder, {"ECG": 125}, profusion, "-profusion.xml")),
    "shhs NSRR": Seed("sleep", lambda folder: _nights(folder, {"EKG": 100, "BCG": 50}, nsrr, "-nsrr.xml")),
    "paired": Seed("paired", _paired),
}
