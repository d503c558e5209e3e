"""Sleep stages of a night from XML, as Compumedics Profusion and the NSRR write them. Reads one file.

Profusion: `CMPStudyConfig` with `SleepStages`, one whole number for every 30 s. NSRR: `PSGAnnotation` with `ScoredEvent`s, those whose
`EventType` begins with "Stages" have a `Start`, a `Duration` and an `EventConcept` such as "Stage 2 sleep|2". Numbers are those of
Rechtschaffen and Kales: 0 wake, 1 and 2 light, 3 and 4 deep, 5 REM; 6 movement and 9 unscored, as any other, are no stage.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import safe_xml
from hwnas.tasks.synthetic.sleep_parameters import DEEP, EPOCH_S, LIGHT, REM, WAKE

STAGE = {0: WAKE, 1: LIGHT, 2: LIGHT, 3: DEEP, 4: DEEP, 5: REM}
UNSCORED = -1
MAX_EPOCHS = 20_000  # a week
CONCEPT = re.compile(r".*\|(\d{1,2})", re.A)


def read(path: Path) -> NDArray[np.int64]:
    """Stage of each epoch from the beginning of the recording, UNSCORED where there is none.

    Raises:
        DataError: damaged, of neither form, without stages, or in epochs of another length.
    """
    root = safe_xml.read(path)
    if root.tag == "CMPStudyConfig":
        found = _profusion(path, root)
    elif root.tag == "PSGAnnotation":
        found = _nsrr(path, root)
    else:
        raise DataError(f"{path}: begins with <{root.tag[:40]}>; expected <CMPStudyConfig> (Profusion) or <PSGAnnotation> (NSRR)")
    if not len(found) or len(found) > MAX_EPOCHS:
        raise DataError(f"{path}: {len(found):,} scored epochs; expected 1 to {MAX_EPOCHS:,}")
    return found


def _profusion(path: Path, root: Element) -> NDArray[np.int64]:
    _check_epoch(path, root)
    stages = root.find("SleepStages")
    words = [(each.text or "").strip() for each in (stages if stages is not None else ())]
    for number, word in enumerate(words):
        if not re.fullmatch(r"\d{1,2}", word, re.A):
            raise DataError(f"{path}: sleep stage {number} is {word[:20]!r}; expected a whole number, 0 wake to 5 REM")
    return np.array([STAGE.get(int(word), UNSCORED) for word in words], dtype=np.int64)


def _nsrr(path: Path, root: Element) -> NDArray[np.int64]:
    _check_epoch(path, root)
    spans = []
    for number, event in enumerate(root.iterfind("ScoredEvents/ScoredEvent")):
        if not _text(event, "EventType").startswith("Stages"):
            continue
        where = f"{path}: scored event {number}"
        concept = CONCEPT.fullmatch(_text(event, "EventConcept"))
        if not concept:
            raise DataError(f"{where}: EventConcept is {_text(event, 'EventConcept')[:40]!r}; expected a name and a number, as 'Wake|0'")
        begin, length = (_epochs(where, event, name) for name in ("Start", "Duration"))
        spans.append((begin, begin + length, STAGE.get(int(concept[1]), UNSCORED)))
    found = np.full(max((end for _, end, _ in spans), default=0), UNSCORED, dtype=np.int64)
    taken = np.zeros(len(found), dtype=bool)
    for begin, end, stage in spans:
        if taken[begin:end].any():
            raise DataError(f"{path}: the epoch at {begin * EPOCH_S:g} s has two stages")
        found[begin:end], taken[begin:end] = stage, True
    return found


def _check_epoch(path: Path, root: Element) -> None:
    said = _text(root, "EpochLength")
    if said and _number(said) != EPOCH_S:
        raise DataError(f"{path}: epochs of {said[:20]} s; sleep is read in epochs of {EPOCH_S:g} s")


def _epochs(where: str, event: Element, name: str) -> int:
    """Seconds of a scored event as whole epochs."""
    said = _text(event, name)
    epochs = _number(said) / EPOCH_S
    if not (0 <= epochs <= MAX_EPOCHS and abs(epochs - round(epochs)) < 1e-3):
        raise DataError(f"{where}: {name} is {said[:20]!r}; stages begin and end on whole epochs of {EPOCH_S:g} s")
    return round(epochs)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _text(element: Element, name: str) -> str:
    found = element.find(name)
    return (found.text or "").strip() if found is not None else ""
