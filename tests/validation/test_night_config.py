"""The YAML file of nights: paths, patterns, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import ConfigError, UsageError
from hwnas.validation.boards import bench_on, parse_fault
from hwnas.validation.config import Limits, NightConfig, read, short_names

LEAST = "students: [s]\ntargets: [{name: e, target: emulator}]\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "nightly.yaml"
    path.write_text(text)
    return path


def student(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    return folder


def test_the_least_and_its_defaults(tmp_path: Path) -> None:
    config = read(written(tmp_path, LEAST))
    assert config.limits == Limits()
    assert (config.history, config.out) == (str(tmp_path / "history.sqlite"), str(tmp_path / "nights"))
    assert config.quarantine_path == tmp_path / "nights" / "quarantine.csv"
    assert (config.windows.golden, config.windows.rotating, config.windows.data) == (32, 64, None)


def test_relative_paths_are_those_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "students: [../runs/a, /abs/b]\n"
        "targets: [{name: e, target: 'serial:/dev/x', flash: 'f {image}', meter: {csv: m/meter.csv, supply_v: 3}}]\n"
        "windows: {data: rec}\nhistory: h/x.sqlite\nout: o\nquarantine: q.csv\nlimits: {latency_percent: 3}\n"
    )
    (tmp_path / "config").mkdir()
    path = written(tmp_path / "config", text)
    monkeypatch.chdir(tmp_path)
    config = read(Path("config/nightly.yaml"))
    here = path.parent
    assert config.students == (str(tmp_path / "runs/a"), "/abs/b")
    meter = config.targets[0].meter
    assert meter is not None and (meter.csv, meter.supply_v) == (str(here / "m/meter.csv"), 3.0)
    assert (config.windows.data, config.history, config.out) == (str(here / "rec"), str(here / "h/x.sqlite"), str(here / "o"))
    assert config.quarantine_path == here / "q.csv"
    assert config.limits.latency_percent == 3.0


def test_a_port_of_ones_own_lies_beside_the_file_and_names_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config/ports/mine", "config/host", "else"):
        (tmp_path / name).mkdir(parents=True)
    listed = ", ".join(f"{{name: t{n}, target: qemu, port: {port}}}" for n, port in enumerate(["ports/mine", "host", "stm32f405", "/abs"]))
    path = written(tmp_path / "config", f"students: [s]\ntargets: [{listed}]\n")
    monkeypatch.chdir(tmp_path / "else")
    assert [target.port for target in read(path).targets] == [str(tmp_path / "config/ports/mine"), "host", "stm32f405", "/abs"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("targets: [{name: e, target: emulator}]", "key 'students' is missing"),
        ("students: [s]", "key 'targets' is missing"),
        ("students: []\ntargets: [{name: e, target: emulator}]", "at 'students'"),
        (LEAST + "limit: {}", r"unknown key 'limit'.*Did you mean 'limits'"),
        (LEAST + "limits: {latency: 2}", r"unknown key 'latency'; choose one of: .*latency_percent"),
        (LEAST + "limits: {latency_percent: 0}", r"at 'limits.latency_percent'.*got 0"),
        (LEAST + "limits: {ram_bytes: 1.5}", r"at 'limits.ram_bytes'.*got 1.5"),
        (LEAST + "limits: {accuracy: .nan}", r"at 'limits.accuracy'"),
        (LEAST + "windows: {golden: 0}", r"at 'windows.golden'.*got 0"),
        (LEAST + "windows: {runs: 9}", r"at 'windows.runs'.*got 9"),
        ("students: [s]\ntargets: [{name: e}]", "key 'targets.0.target' is missing"),
        ("students: [s]\ntargets: [{name: e, target: qemu, bauds: 3}]", "unknown key 'bauds'.*Did you mean 'baud'"),
        ("students: [s]\ntargets: [{name: e, target: qemu}, {name: e, target: emulator}]", "targets share the name 'e'"),
        ("students: [s]\ntargets: [{name: e, target: qemu, meter: {csv: m}}]", "key 'targets.0.meter.supply_v' is missing"),
        ("- a", "expected a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"nightly\.yaml: .*{said}") as error:
        read(written(tmp_path, text))
    assert error.value.exit_code == 2


def test_students_by_pattern(tmp_path: Path) -> None:
    first, second = student(tmp_path / "run/students/a"), student(tmp_path / "run/students/b")
    (tmp_path / "run/students/unfinished").mkdir()
    config = read(written(tmp_path, LEAST.replace("[s]", "['run/students/*', run/students/a]")))
    assert config.folders() == {"a": first, "b": second}


@pytest.mark.parametrize("pattern", ["none", "run/*", "run/students/[x]*"])
def test_a_pattern_without_students_is_refused(tmp_path: Path, pattern: str) -> None:
    student(tmp_path / "run/students/a")
    with pytest.raises(ConfigError, match="no finished student"):
        read(written(tmp_path, LEAST.replace("[s]", f"['{pattern}']"))).folders()


def test_students_of_two_runs_keep_apart() -> None:
    assert short_names([Path("/r/one/students/a"), Path("/r/one/students/b")]) == ["a", "b"]
    assert short_names([Path("/r/one/students/a"), Path("/r/two/students/a")]) == ["one/a", "two/a"]
    assert short_names([Path("/x/students/a"), Path("/x/a")]) == ["/x/students/a", "/x/a"]


def test_targets_are_checked_before_anything_runs() -> None:
    config = NightConfig.model_validate({"students": ["s"], "targets": [{"name": "e", "target": "emulatr"}]})
    with pytest.raises(UsageError, match="emulatr"):
        bench_on(config)


def test_faults_by_name() -> None:
    delay = parse_fault("delay:hwnas_dense_int16:250")
    assert (getattr(delay, "kernel", None), getattr(delay, "loops", None)) == ("hwnas_dense_int16", 250)
    assert type(parse_fault("flip-weight")).__name__ == "FlipWeight"


@pytest.mark.parametrize("text", ["", "delay", "delay:k", "delay:k:0", "delay:k:-1", "delay::5", "delay:k:5:6", "flip-weight:1", "flip"])
def test_other_faults_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="choose"):
        parse_fault(text)
