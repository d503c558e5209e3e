"""Nights in the form of SHHS: EDF and scorings written here as the study writes them; damage of every kind."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from made_nights import STAGES, nsrr, profusion, write_edf
from made_nights import write_night as night
from made_recordings import pulse

from hwnas.errors import DataError
from hwnas.tasks import TASKS, split_by_subject
from hwnas.tasks.datasets import edf, safe_xml, scoring, shhs
from hwnas.tasks.datasets.recordings import Recordings, Wanted

ECG, SLEEP = TASKS["sleep-ecg"], TASKS["sleep"]


def read(folder: Path) -> Recordings:
    return shhs.load(folder, Wanted(50.0))


@pytest.mark.parametrize("form", ["profusion", "nsrr"])
@pytest.mark.parametrize("rate", [125, 250])
def test_windows_are_the_scored_epochs(tmp_path: Path, form: str, rate: float) -> None:
    night(tmp_path, "shhs1-200001", rate=rate, form=form)
    found = read(tmp_path)
    windows = found.windows
    assert windows.y.tolist() == [0, 0, 1, 1, 2, 2, 3, 1] and found.labels == ECG.labels
    assert found.left_out == {"scored as no stage": 2} and found.recorded_hz == (float(rate),)
    assert windows.x.shape == (8, 1, 1500) and windows.teacher_x is None and windows.source == "real"
    # the last window is the tenth epoch, at 50 Hz
    truth = np.interp(270 + np.arange(1500) / 50, np.arange(300 * rate) / rate, pulse(300, rate, 1200001 % 97))
    assert np.corrcoef(truth, windows.x[7, 0])[0, 1] > 0.995


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for round_ in range(20):
        stages = rng.choice([0, 1, 2, 3, 4, 5, 6, 9], int(rng.integers(1, 40))).tolist()
        one, two = tmp_path / f"{round_}a.xml", tmp_path / f"{round_}b.xml"
        one.write_text(profusion(stages))
        two.write_text(nsrr(stages))
        assert scoring.read(one).tolist() == scoring.read(two).tolist() == [scoring.STAGE.get(s, -1) for s in stages]


def test_both_visits_are_one_subject(tmp_path: Path) -> None:
    night(tmp_path, "shhs1-200001")
    night(tmp_path, "shhs2-200001", form="nsrr")
    night(tmp_path, "shhs1-200002")
    windows = ECG.load(tmp_path, window_s=None, seed=0)
    assert windows.subjects == ("shhs-200001", "shhs-200002")
    assert np.unique(windows.recordings).tolist() == ["shhs1-200001", "shhs1-200002", "shhs2-200001"]
    with pytest.raises(DataError, match="at least 3"):
        split_by_subject(windows, 0, ECG)


def test_sleep_reads_bcg_with_a_teacher_on_ecg(tmp_path: Path) -> None:
    night(tmp_path / "with", "p01", bcg=True)
    windows = SLEEP.load(tmp_path / "with", window_s=None, seed=0)
    assert windows.teacher_x is not None and windows.teacher_x.shape == windows.x.shape == (8, 1, 1500)
    assert windows.subjects == ("p01",)
    alone = ECG.load(tmp_path / "with", window_s=None, seed=0)
    assert np.array_equal(alone.x, windows.teacher_x) and not np.array_equal(alone.x, windows.x)
    night(tmp_path / "without", "p01")
    with pytest.raises(DataError, match=r"0 signals are named BCG \(its signals: EEG\(sec\), ECG\)"):
        SLEEP.load(tmp_path / "without", window_s=None, seed=0)


def test_scorings_and_signals_of_unequal_length(tmp_path: Path) -> None:
    night(tmp_path, "p01")
    (tmp_path / "annotations" / "p01-profusion.xml").write_text(profusion([0] * 14))
    found = read(tmp_path)
    assert found.left_out == {"a stage for which there is no signal": 4} and len(found.windows) == 10
    assert "p01: 14 scored epochs, the signal lasts 10" in found.notes[0]
    (tmp_path / "annotations" / "p01-profusion.xml").write_text(profusion([0] * 7))
    found = read(tmp_path)
    assert found.left_out == {"beyond the scoring": 3} and len(found.windows) == 7 and found.notes
    (tmp_path / "annotations" / "p01-profusion.xml").write_text(profusion([0] * 11))
    assert read(tmp_path).notes == ()


def test_a_flat_epoch_is_left_out(tmp_path: Path) -> None:
    signal = pulse(120, 125)
    signal[30 * 125 + 200 : 30 * 125 + 600] = 1.0
    write_edf(tmp_path / "p01.edf", {"ECG": (signal, 125)})
    (tmp_path / "p01-nsrr.xml").write_text(nsrr([0, 1, 3, 5]))
    found = read(tmp_path)
    assert found.windows.y.tolist() == [0, 2, 3] and found.left_out == {"a flat stretch": 1}


def test_nights_without_a_scoring_are_named(tmp_path: Path) -> None:
    night(tmp_path, "p01")
    write_edf(tmp_path / "p02.edf", {"ECG": (pulse(60, 125), 125)})
    found = read(tmp_path)
    assert found.files == 1 and found.notes == ("1 night(s) without a scoring are left out: p02",)
    (tmp_path / "annotations" / "p01-profusion.xml").unlink()
    (tmp_path / "annotations" / "p03-profusion.xml").write_text(profusion([0]))
    with pytest.raises(DataError, match="no night has a scoring"):
        read(tmp_path)


def test_a_file_twice_and_another_length(tmp_path: Path) -> None:
    night(tmp_path / "a", "p01")
    night(tmp_path / "b", "p01")
    with pytest.raises(DataError, match=r"p01-profusion\.xml is also|p01\.edf is also"):
        read(tmp_path)
    with pytest.raises(DataError, match="asked for windows of 10 s"):
        shhs.load(tmp_path / "a", Wanted(50.0, 10.0))
    with pytest.raises(DataError, match="for the generator"):
        ECG.load(tmp_path / "a", window_s=None, seed=0, subjects=3)


SCORINGS = {
    "an entity": ("<CMPStudyConfig>", '<!DOCTYPE x [<!ENTITY a "b">]><CMPStudyConfig>', "document type"),
    "a fetched type": ("<CMPStudyConfig>", '<!DOCTYPE x SYSTEM "file:///etc/passwd"><CMPStudyConfig>', "line 2: declares a document type"),
    "an unknown entity": ("<SleepStage>5", "<SleepStage>&x;", "not well-formed"),
    "a tail": ("</CMPStudyConfig>", "</CMPStudyConfig><x/>", "not well-formed"),
    "cut short": ("</CMPStudyConfig>", "", "not well-formed"),
    "another root": ("CMPStudyConfig>", "Study>", "begins with <Study>"),
    "another epoch": ("<EpochLength>30", "<EpochLength>20", "epochs of 20 s"),
    "a word": ("<SleepStage>5<", "<SleepStage>REM<", "sleep stage 6 is 'REM'"),
    "no stages": ("SleepStages>", "Stages>", "0 scored epochs"),
    "deep": ("<SleepStages>", "<a>" * 30 + "</a>" * 30 + "<SleepStages>", "nested deeper than 20"),
}


@pytest.mark.parametrize("case", SCORINGS)
def test_scorings_are_not_trusted(tmp_path: Path, case: str) -> None:
    old, new, said = SCORINGS[case]
    path = tmp_path / "p-profusion.xml"
    path.write_text(profusion(STAGES).replace(old, new))
    with pytest.raises(DataError, match=said) as caught:
        scoring.read(path)
    assert str(path) in str(caught.value)


EVENTS = {
    "no number": ("Wake|0", "Wake", "EventConcept is 'Wake'"),
    "half an epoch": ("<Start>60.0", "<Start>75.0", "Start is '75.0'; stages begin and end on whole epochs"),
    "before the beginning": ("<Start>60.0", "<Start>-30", "Start is '-30'"),
    "no end": ("<Duration>60.0", "<Duration>1e999", "Duration is '1e999'"),
    "no time": ("<Start>60.0</Start>", "", "Start is ''"),
    "twice": ("<Start>60.0", "<Start>30.0", "has two stages"),
}


@pytest.mark.parametrize("case", EVENTS)
def test_events_are_not_trusted(tmp_path: Path, case: str) -> None:
    old, new, said = EVENTS[case]
    path = tmp_path / "p-nsrr.xml"
    assert old in nsrr(STAGES)
    path.write_text(nsrr(STAGES).replace(old, new))
    with pytest.raises(DataError, match=re.escape(said)):
        scoring.read(path)


def test_a_bomb_of_entities_is_refused_at_once(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    path = tmp_path / "p-profusion.xml"
    path.write_text(f'<!DOCTYPE x [<!ENTITY l0 "ha">{levels}]><CMPStudyConfig>&l11;</CMPStudyConfig>')
    with pytest.raises(DataError, match="document type"):
        scoring.read(path)


def test_a_flood_of_elements_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_xml, "MAX_ELEMENTS", 1000)
    path = tmp_path / "p-profusion.xml"
    path.write_text("<a>" + "<b/>" * 999 + "</a>")
    assert len(safe_xml.read(path)) == 999
    path.write_text("<a>" + "<b/>" * 1000 + "</a>")
    with pytest.raises(DataError, match="more than 1,000 elements"):
        safe_xml.read(path)


HEADER = {  # place in the header, what is written there, what is said
    "signals": (252, b"9   ", "a header of 768 bytes"),
    "no signals": (252, b"0   ", "0 signals"),
    "not a number": (252, b"x   ", "damaged or not an EDF file"),
    "header bytes": (184, b"256     ", "a header of 256 bytes"),
    "records": (236, b"999     ", "999 data records"),
    "endless records": (236, b"-1      ", "damaged or not an EDF file"),
    "no duration": (244, b"0       ", "damaged or not an EDF file"),
    "gaps": (192, b"EDF+D", r"EDF\+D"),
    "another name": (256 + 16, b"EKGX", "0 signals are named ECG"),
}


@pytest.mark.parametrize("case", HEADER)
def test_headers_are_not_trusted(tmp_path: Path, case: str) -> None:
    place, new, said = HEADER[case]
    night(tmp_path, "p01")
    path = tmp_path / "edfs" / "p01.edf"
    content = bytearray(path.read_bytes())
    content[place : place + len(new)] = new
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path)
    assert str(path) in str(caught.value)


def test_names_of_signals(tmp_path: Path) -> None:
    path, x = tmp_path / "p.edf", pulse(30, 125)
    for label, read_as in (("ECG", 1), ("EKG I", 1), ("ecg (LA-RA)", 1), ("ECG1", 1), ("ECGX", 0), ("EEG", 0)):
        write_edf(path, {label: (x, 125)})
        if read_as:
            assert np.abs(edf.read(path, {"ecg": shhs.LABELS["ecg"]})["ecg"].data - x).max() < 10 / 65535
        else:
            with pytest.raises(DataError, match="0 signals are named ECG"):
                edf.read(path, {"ecg": shhs.LABELS["ecg"]})
    write_edf(path, {"ECG L": (x, 125), "ECG R": (x, 125)})
    with pytest.raises(DataError, match="2 signals are named ECG"):
        edf.read(path, {"ecg": shhs.LABELS["ecg"]})


def test_damage_raises_nothing_but_data_error(tmp_path: Path) -> None:
    """Bytes changed, removed and put in, in the head of the files as often as anywhere."""
    night(tmp_path, "p01", [0, 1, 3], form="nsrr")
    refused = 0
    targets = [tmp_path / "edfs" / "p01.edf", tmp_path / "annotations" / "p01-nsrr.xml"]
    whole = [path.read_bytes() for path in targets]
    for seed in range(160):
        rng = np.random.default_rng(seed)
        path, good = targets[seed % 2], whole[seed % 2]
        bad, near = bytearray(good), 768 if rng.random() < 0.7 else len(good)
        at = int(rng.integers(0, min(near, len(bad))))
        match int(rng.integers(0, 4)):
            case 0:
                bad[at] = int(rng.integers(0, 256))
            case 1:
                del bad[at:]
            case 2:
                word = (b"-1", b"1e999", b"nan", b"99999999", b"<", b"&", b"\xff\xfe", b"\x00")[int(rng.integers(0, 8))]
                bad[at : at + len(word)] = word
            case _:
                bad[at : at + int(rng.integers(0, 40))] = b""
        path.write_bytes(bytes(bad))
        try:
            read(tmp_path)
        except DataError:
            refused += 1
        path.write_bytes(good)
    assert refused > 60
