"""XML of a stranger's folder as a tree of elements, nothing of it expanded or fetched. Reads one file.

A document type is refused, and with it every entity that a file could declare: scorings have none. Attributes are dropped.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from hwnas.errors import DataError
from hwnas.tasks.datasets import files

MAX_BYTES = 32 * 2**20
MAX_DEPTH = 20
MAX_ELEMENTS = 500_000


class _Refused(Exception):
    """What the file holds that is not read; becomes DataError with the path and the line."""


def read(path: Path) -> Element:
    """The root of a small XML file.

    Raises:
        DataError: no well-formed XML, a document type, or more or deeper elements than a scoring has.
    """
    content = files.read(path, MAX_BYTES)
    parser, tree = expat.ParserCreate(), _Tree()
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(content, True)
        return tree.builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not well-formed XML: {error}; copy it again") from error
    except _Refused as error:
        raise DataError(f"{path}: line {parser.CurrentLineNumber}: {error}") from error


class _Tree:
    """Builds elements and counts them."""

    def __init__(self) -> None:
        self.builder = TreeBuilder()
        self._depth = self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels, or more than {MAX_ELEMENTS:,} elements; a scoring is smaller")
        self.builder.start(name, {})

    def end(self, name: str) -> None:
        self._depth -= 1
        self.builder.end(name)


def _refuse(*_: object) -> None:
    raise _Refused("declares a document type (<!DOCTYPE ...>), which can hold entities; remove it")
