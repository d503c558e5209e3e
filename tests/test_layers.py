"""The house rule: a module imports only from lower floors, torch stays above the pure floors, and nothing imports in a circle.

Imports are read from the syntax tree, those inside functions too, so that a lazy import cannot hide a wrong direction.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "hwnas"

# Lowest first. The package's own `__init__` (the version) may be read from everywhere; `__main__` stands above all.
FLOORS = (
    "errors",
    "resources",
    "config",
    "metrics",
    "graph",
    "memory",
    "space",
    "families",
    "hardware",
    "pareto",
    "tasks",
    "student",
    "teachers",
    "distill",
    "train",
    "quantize",
    "export",
    "firmware",
    "search",
    "report",
    "pipeline",
    "study",
    "validation",
    "cli",
    "__main__",
)
TORCH_FROM = FLOORS.index("student")
# Above that line, and still plain integers: what the reference computes must not depend on torch.
TORCH_FREE = tuple(f"hwnas.quantize.{name}" for name in ("qgraph", "reference", "activation", "arbitrary", "probabilities", "input_counts"))
# Folders of C and YAML that a wheel carries inside the package.
DATA = ("search_spaces", "hw_profiles", "firmware_bench")


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] not in DATA:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Dotted names that the import statements among `nodes` load; relative ones resolved against module `name`."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([base] if base else []))
            # `from hwnas.x import y`: y may be a module of its own.
            children = [f"{base}.{alias.name}" for alias in node.names]
            yield from (child if child in MODULES else base for child in children)


def all_imports(name: str) -> set[str]:
    return set(imports(name, ast.walk(ast.parse(MODULES[name].read_text()))))


def top_level_imports(name: str) -> set[str]:
    """Imports that run when the module is loaded (those under `if TYPE_CHECKING:` and in functions do not)."""
    return set(imports(name, iter(ast.parse(MODULES[name].read_text()).body)))


def floor(name: str) -> int:
    """Index of the floor of a module of the package; -1 for the package itself."""
    return FLOORS.index(name.split(".")[1]) if "." in name else -1


def is_torch(name: str) -> bool:
    return name.split(".")[0] in ("torch", "torchvision", "torchaudio")


def test_the_floors_are_the_real_modules() -> None:
    unknown = {name.split(".")[1] for name in MODULES if "." in name} - set(FLOORS)
    assert not unknown, f"give these modules a floor in {Path(__file__).name}: {sorted(unknown)}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_lower_floors(name: str) -> None:
    for target in all_imports(name):
        if target.split(".")[0] != "hwnas" or target == "hwnas" or target.split(".")[1] == name.partition(".")[2].split(".")[0]:
            continue
        assert floor(target) < floor(name), f"{name} (floor {floor(name)}) imports {target} (floor {floor(target)})"


@pytest.mark.parametrize("name", [n for n in MODULES if floor(n) < TORCH_FROM or n in TORCH_FREE])
def test_torch_is_not_imported_below_the_student(name: str) -> None:
    assert not [target for target in all_imports(name) if is_torch(target)]


def test_pure_modules_load_without_torch() -> None:
    """Transitively, third parties included: the gate costs milliseconds and loads no framework."""
    names = [n for n in MODULES if floor(n) < TORCH_FROM] + [n for n in TORCH_FREE if n in MODULES and "quantize" in n]
    # A package's `__init__` runs when one of its modules is loaded, so `hwnas.quantize` counts as well.
    script = f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr or "torch was loaded"


def test_no_import_cycles() -> None:
    graph = {name: {t for t in top_level_imports(name) if t in MODULES and t != name} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "import cycle: " + " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_reader_sees_hidden_and_relative_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rule is only as good as its reader: one module with every form of import."""
    file = tmp_path / "probe.py"
    file.write_text("import torch.nn as nn\nfrom . import graph\nfrom .errors import lookup\ndef f():\n    from hwnas.cli import main\n")
    monkeypatch.setitem(MODULES, "hwnas.probe", file)
    assert all_imports("hwnas.probe") == {"torch.nn", "hwnas.graph", "hwnas.errors", "hwnas.cli"}
    assert "hwnas.cli" not in top_level_imports("hwnas.probe")
