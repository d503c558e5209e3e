"""The wheel, used from an empty folder: data folders are found, and the command line answers."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import hwnas

DATA = ("search_spaces", "hw_profiles", "firmware_bench")


def run(args: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(args, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this checkout was installed. Nothing is downloaded."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    build = f"from hatchling.build import build_wheel; build_wheel({str(wheels)!r})"
    run([sys.executable, "-c", build], cwd=root)
    (wheel,) = wheels.glob("hwnas-*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    run([*pip, str(wheel)], cwd=wheels)
    return target


def test_the_wheel_carries_its_data_folders(installed: Path, root: Path, tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; import hwnas, hwnas.resources as r;"
        f"print(Path(hwnas.__file__).parent); [print(r.folder(n)) for n in {DATA!r}]"
    )
    package, *folders = map(Path, run([sys.executable, "-c", script], cwd=tmp_path, PYTHONPATH=str(installed)).split())
    assert package == installed / "hwnas"
    assert folders == [package / name for name in DATA]
    for folder, name in zip(folders, DATA, strict=True):
        shipped = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
        assert shipped >= {p.relative_to(root / name) for p in (root / name).rglob("*.[chy]*") if p.is_file()}


def test_the_wheel_answers_with_its_version(installed: Path, tmp_path: Path) -> None:
    said = run([sys.executable, "-W", "ignore", "-m", "hwnas", "--version"], cwd=tmp_path, PYTHONPATH=str(installed))
    assert said.strip() == f"hwnas {hwnas.__version__}"


def test_every_dependency_is_pinned_and_locked(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    lock = {line.strip().lower() for line in (root / "requirements.txt").read_text().splitlines()}
    for pin in wanted:
        assert re.fullmatch(r"[\w.-]+==[\w.]+", pin), pin
        assert pin.lower() in lock, f"{pin} is in pyproject.toml and not in requirements.txt"


def test_every_third_party_import_is_declared(root: Path) -> None:
    """What another package happens to bring along may go with its next version."""
    declared = {re.split("==", pin)[0].lower() for pin in tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]}
    owners = packages_distributions()
    for path in (root / "hwnas").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {name.split(".")[0] for name in names} - {"hwnas", *sys.stdlib_module_names}:
                assert declared & {d.lower() for d in owners.get(top, [])}, f"{path.name} imports {top}: declare it in pyproject.toml"


def test_the_lock_names_no_place(root: Path) -> None:
    """The lock must work with whatever index a machine has."""
    for line in (root / "requirements.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line
