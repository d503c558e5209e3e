"""Nights in the form of SHHS, written as the study writes them: EDF, and a scoring as Profusion or the NSRR has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import edfio
import numpy as np
from made_recordings import pulse
from numpy.typing import NDArray

STAGES = (0, 0, 1, 2, 3, 4, 5, 9, 6, 2)
NAMES = {0: "Wake|0", 1: "Stage 1 sleep|1", 2: "Stage 2 sleep|2", 3: "Stage 3 sleep|3", 4: "Stage 4 sleep|4", 5: "REM sleep|5"}
NAMES |= {6: "Movement|6", 9: "Unscored|9"}


def profusion(stages: Sequence[int]) -> str:
    rows = "".join(f"<SleepStage>{s}</SleepStage>" for s in stages)
    return f'<?xml version="1.0"?>\n<CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>{rows}</SleepStages></CMPStudyConfig>'


def nsrr(stages: Sequence[int]) -> str:
    rows, begin = [], 0
    while begin < len(stages):
        end = begin
        while end < len(stages) and stages[end] == stages[begin]:
            end += 1
        rows.append((NAMES[stages[begin]], begin * 30.0, (end - begin) * 30.0, "Stages|Stages"))
        begin = end
    rows.insert(1, ("SpO2 desaturation|SpO2 desaturation", 41.3, 12.9, "Respiratory|Respiratory"))
    events = "".join(
        f"<ScoredEvent><EventType>{kind}</EventType><EventConcept>{concept}</EventConcept><Start>{start}</Start>"
        f"<Duration>{length}</Duration></ScoredEvent>"
        for concept, start, length, kind in rows
    )
    first = (
        "<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept><Start>0</Start><Duration>300.0</Duration></ScoredEvent>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><PSGAnnotation><SoftwareVersion>Compumedics</SoftwareVersion>'
        f"<EpochLength>30</EpochLength><ScoredEvents>{first}{events}</ScoredEvents></PSGAnnotation>"
    )


def write_edf(path: Path, signals: dict[str, tuple[NDArray[np.float64], float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [edfio.EdfSignal(x, rate, label=name, physical_range=(-5, 5)) for name, (x, rate) in signals.items()]
    edfio.Edf(kept, data_record_duration=1).write(path)


def write_night(
    folder: Path, name: str, stages: Sequence[int] = STAGES, *, rate: float = 125, form: str = "profusion", bcg: bool = False
) -> None:
    """A night with the ECG of `pulse`, an EEG beside it, and its scoring."""
    seconds = 30 * len(stages)
    seed = int(re.sub(r"\D", "", name) or 0) % 97
    signals = {"EEG(sec)": (pulse(seconds, 125, 5), 125.0), "ECG": (pulse(seconds, rate, seed), rate)}
    if bcg:
        signals["BCG"] = (pulse(seconds, 250, seed + 1), 250.0)
    write_edf(folder / "edfs" / f"{name}.edf", signals)
    notes = folder / "annotations"
    notes.mkdir(exist_ok=True)
    text = {"profusion": profusion, "nsrr": nsrr}[form](stages)
    (notes / f"{name}-{form}.xml").write_text(text)
