"""MIMIC PERform AF, as WFDB records and as CSV files; every kind of damage; the real record where it is present."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_recordings import fuzz, mimic_csv, pulse, wfdb_record
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks import TASKS
from hwnas.tasks.datasets import mimic_perform, wfdb
from hwnas.tasks.datasets.recordings import Recordings, Wanted

AF, RHYTHM = TASKS["rhythm-af"], TASKS["rhythm"]


def read(folder: Path, window_s: float | None = None) -> Recordings:
    return mimic_perform.load(folder, Wanted(100.0, window_s))


@pytest.mark.parametrize("form", ["16", "80", "212"])
def test_wfdb_samples_are_what_was_written(tmp_path: Path, form: str) -> None:
    signal = pulse(3.008, 125)
    signal[100:103] = np.nan
    path = wfdb_record(tmp_path, "mimic_perform_af_001", signal, form=form)
    header = wfdb.read_header(path)
    number = wfdb.channel_number(path, header, "PPG")
    found = wfdb.read_channel(path, header, number)
    assert number == 1 and header.rate_hz == 125
    assert np.array_equal(np.isnan(found), np.isnan(signal))
    assert np.nanmax(np.abs(found - signal)) <= (0.5 / 40 if form == "80" else 0.5 / 100) + 1e-9


@pytest.mark.parametrize("write", [wfdb_record, mimic_csv])
def test_windows_labels_and_subjects(tmp_path: Path, write: Callable[[Path, str, NDArray[np.float64]], Path]) -> None:
    write(tmp_path / "mimic_perform_af_x", "mimic_perform_af_002", pulse(34, 125, 2))
    write(tmp_path / "mimic_perform_non_af_x", "mimic_perform_non_af_002", pulse(21, 125, 3))
    found = AF.load(tmp_path, window_s=None, seed=0)
    assert found.x.shape == (5, 1, 1000) and found.y.tolist() == [1, 1, 1, 0, 0] and found.rate_hz == 100.0
    assert found.subject.tolist() == ["mimic_perform_af_002"] * 3 + ["mimic_perform_non_af_002"] * 2
    # the second window is seconds 10 to 20, at 100 Hz
    truth = pulse(34, 125, 2)
    even = np.interp(np.arange(1000, 2000) / 100, np.arange(len(truth)) / 125, truth)
    assert np.corrcoef(even, found.x[1, 0])[0, 1] > 0.995
    assert AF.load(tmp_path, window_s=20.0, seed=0).y.tolist() == [1, 0]
    with pytest.raises(DataError, match="AF or not and no other rhythm, task rhythm tells 6 apart; use --task rhythm-af"):
        RHYTHM.load(tmp_path, window_s=None, seed=0)


@pytest.mark.parametrize(
    ("place", "name", "af"),
    [
        ("x", "mimic_perform_af_001", 1),
        ("x", "mimic_perform_non_af_001", 0),
        ("non_af", "r001", 0),
        ("non_af/deeper", "r001", 0),
        ("AF", "r001", 1),
        ("Non-AF", "leaf", 0),
        ("af", "x_nonaf_7", 0),
    ],
)
def test_the_nearest_name_says_the_label(tmp_path: Path, place: str, name: str, af: int) -> None:
    wfdb_record(tmp_path / place, name, pulse(10, 125))
    assert read(tmp_path).windows.y.tolist() == [af]


def test_gaps_and_flat_stretches_are_left_out_and_counted(tmp_path: Path) -> None:
    signal = pulse(70, 125)
    signal[1300:1303] = np.nan  # window 1
    signal[3800:4060] = 0.25  # window 3: 2.08 s
    signal[5100:5300] = 0.25  # window 4: 1.6 s, still a pulse
    for write in (wfdb_record, mimic_csv):
        place = tmp_path / write.__name__
        write(place, "mimic_perform_af_001", signal)
        write(place, "mimic_perform_non_af_001", signal[:500])
        found = read(place)
        assert found.left_out == {"a gap (NaN)": 1, "a flat stretch": 1, "shorter than a window": 1}
        assert len(found.windows) == 5 and found.files == 2 and found.recorded_hz == (125.0,)


def test_nothing_left_says_why(tmp_path: Path) -> None:
    wfdb_record(tmp_path, "mimic_perform_af_001", np.full(2500, np.nan))
    with pytest.raises(DataError, match=r"no window can be used \(2: a gap \(NaN\)\)"):
        read(tmp_path)
    with pytest.raises(DataError, match="cut into 1 to 600 s"):
        read(tmp_path, 1e9)


def test_a_record_twice_or_without_a_label(tmp_path: Path) -> None:
    wfdb_record(tmp_path / "a", "mimic_perform_af_001", pulse(10, 125))
    mimic_csv(tmp_path / "b", "mimic_perform_af_001", pulse(10, 125))
    with pytest.raises(DataError, match=r"record mimic_perform_af_001 is also .*a/mimic_perform_af_001\.hea"):
        read(tmp_path)
    wfdb_record(tmp_path / "c" / "d", "r1", pulse(10, 125))
    with pytest.raises(DataError, match="neither its name nor its folder's says"):
        read(tmp_path / "c")


HEADERS = {
    "another file": ("mimic_perform_af_001.dat", "../mimic_perform_af_001.dat", "only plain names of files beside the header"),
    "absolute": ("mimic_perform_af_001.dat", "/etc/passwd", "only plain names"),
    "standard input": ("mimic_perform_af_001.dat", "-", "only plain names"),
    "no such file": ("mimic_perform_af_001.dat", "other.dat", r"names the signal file other\.dat, which is not there"),
    "segments": ("mimic_perform_af_001 2", "mimic_perform_af_001/3 2", "not the header of a single-segment"),
    "rate": (" 125 ", " 1e999 ", "sampled at inf Hz"),
    "slow": (" 125 ", " 4 ", "sampled at 4 Hz; allowed are 20 to 20000 Hz"),
    "more samples": ("2 125 1250", "2 125 1251", r"holds 2,500 samples, the header declares 1,251 of 2 signals"),
    "fewer samples": ("2 125 1250", "2 125 1249", "the header declares 1,249"),
    "a flood of samples": ("2 125 1250", "2 125 999999999999", "the header declares 999,999,999,999"),
    "signals": ("_001 2 125", "_001 3 125", "declares 3 signals and describes 2"),
    "format": (".dat 16 ", ".dat 310 ", "format 310; read are 16, 80, 212"),
    "frame": (".dat 16 ", ".dat 16x4 ", "several samples a frame"),
    "gain": (" 100(5)/NU", " -1(5)/NU", "gain -1"),
    "no PPG": ("PPG, F", "ABP, F", "0 signals are named 'PPG...' .*ECG, lead II; ABP, Fingertip PPG"),
    "two PPG": ("ECG, lead II", "PPG second", "2 signals are named"),
    "mixed formats": (".dat 16 100(5)/NU 0 0 0", ".dat 212 100(5)/NU 0 0 0", "differ in format"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_are_not_trusted(tmp_path: Path, case: str) -> None:
    old, new, said = HEADERS[case]
    path = wfdb_record(tmp_path, "mimic_perform_af_001", pulse(10, 125))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = wfdb_record(tmp_path, "mimic_perform_af_001", pulse(10, 125)).with_suffix(".dat")
    whole = bytearray(path.read_bytes())
    whole[2003] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="another checksum"):
        read(tmp_path)


TABLES = {
    "no header": ("Time,PPG,ECG\n", "", "0 columns are named 'PPG...'"),
    "no time": ("Time,", "Zeit,", "column 'Time' is missing"),
    "short row": ("\n0.04,", "\n", "line 7: 2 cells, the header has 3"),
    "text": ("\n0.04,", "\nx,", "line 7: 'Time' is 'x', expected a number"),
    "a jump": ("\n4,", "\n5,", "line 502: 'Time' leaves the even grid of 125 Hz"),
    "no seconds": ("\n0,", "\n,", "seconds that grow"),
    "quote": ("\n0.04,", '\n"0.04,', "line"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_are_not_trusted(tmp_path: Path, case: str) -> None:
    old, new, said = TABLES[case]
    path = mimic_csv(tmp_path, "mimic_perform_af_001", pulse(10, 125))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path)
    assert path.name in str(caught.value)


def made(folder: Path) -> tuple[str, ...]:
    one = wfdb_record(folder, "mimic_perform_af_001", pulse(12, 125))
    two = wfdb_record(folder, "mimic_perform_non_af_002", pulse(12, 125), form="212")
    three = mimic_csv(folder, "mimic_perform_af_003", pulse(12, 125))
    return one.name, two.with_suffix(".dat").name, three.name


def test_damage_raises_nothing_but_data_error(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "mimic_perform", 150, *made(tmp_path)) > 60


@pytest.mark.slow
def test_damage_for_long(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "mimic_perform", 6000, *made(tmp_path)) > 2400


def test_the_published_record(real_data: Callable[[str], Path]) -> None:
    found = AF.load(real_data("rhythm/mimic_perform_af_wfdb"), window_s=None, seed=0)
    assert found.x.shape == (120, 1, 1000) and found.y.all() and found.subjects == ("mimic_perform_af_019",)
    # finger pulses of a resting person: most power between 0.7 and 4 Hz
    power = np.abs(np.fft.rfft(found.x[:, 0] - found.x[:, 0].mean(axis=1, keepdims=True), axis=1)) ** 2
    f = np.fft.rfftfreq(1000, 0.01)
    assert np.median(power[:, (f > 0.7) & (f < 4)].sum(axis=1) / power.sum(axis=1)) > 0.6
