"""A student operator by operator: architecture, latency and memory side by side, one row an operator in all three. Pure.

The order of the operators is time: it runs down the page, so that a block, its bars and the tensors alive with it share a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from hwnas.report.charts import legend, missing, number, percent, table
from hwnas.report.content import EMULATED, KINDS, NONE, PREDICTED, figure

BAR, LABEL, LEAST = 11, 19, 46  # pixels: of a bar, of the line above bars, of the lowest row
LEFT, WIDTH = 56, 300  # pixels: where blocks begin, and how wide the drawing of the architecture is
LONGEST, ARENA = 0.74, 0.8  # share of the width that the longest bar and the arena take; the rest is for figures
NO_PORTRAIT = "This run was made before students had a portrait.json; a run of this version writes one for every student."


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; None for what is not recorded.

    Attributes:
        live_bytes: of the arena, alive while it runs. offset, bytes: of its output in the arena; no offset: a buffer of its own.
    """

    index: int
    name: str
    kind: str
    kernel: str
    weights: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    macs: int | None
    parameters: int | None
    predicted_cycles: float | None
    emulated_cycles: float | None
    live_bytes: int | None
    offset: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """Latencies of all operators in microseconds from one source, with how they are drawn."""

    style: str
    label: str
    us: Mapping[int, float]


def operators(portrait: Mapping[str, Any] | None, bench: Mapping[str, Any] | None) -> list[Operator]:
    """The operators of a student: as its portrait has them, else what its bench.json tells of them."""
    if portrait and portrait.get("operators"):
        return [_operator(row, number) for number, row in enumerate(portrait["operators"], start=1)]
    return [_operator(row, number) for number, row in enumerate((bench or {}).get("operators") or (), start=1)]


def _operator(row: Mapping[str, Any], position: int) -> Operator:
    offset = row.get("offset")
    return Operator(
        index=int(row.get("index", position)),
        name=str(row.get("name") or str(row.get("operator", "")).replace("_", " ")),
        kind=str(row.get("operator", "")),
        kernel=str(row.get("kernel") or NONE),
        weights=str(row.get("weights") or NONE),
        inputs=tuple(row.get("inputs") or ()),
        shape=tuple(row.get("shape") or ()),
        macs=row.get("macs"),
        parameters=row.get("parameters"),
        predicted_cycles=row.get("predicted_cycles"),
        emulated_cycles=row.get("emulated_cycles"),
        live_bytes=row.get("live_bytes"),
        offset=None if offset is None or offset < 0 else int(offset),
        bytes=row.get("bytes"),
    )


def latencies(rows: Sequence[Operator], boards: Mapping[str, Mapping[str, Any]], clock_hz: float | None) -> list[Series]:
    """Predicted, emulated, and one series for every board that timed operators."""
    made = []
    if clock_hz:
        for style, kind in (("predicted", PREDICTED), ("emulated", EMULATED)):
            cycles = {row.index: getattr(row, f"{kind}_cycles") for row in rows}
            made.append(Series(style, KINDS[kind], {i: c / clock_hz * 1e6 for i, c in cycles.items() if c is not None}))
    for n, (target, found) in enumerate(boards.items()):
        timed = {int(row["index"]): float(row["us"]) for row in found.get("operators") or () if row.get("us") is not None}
        made.append(Series(f"board{n % 3}", f"{target}: {found.get('provenance', 'provenance not stated')}", timed))
    return [series for series in made if series.us]


def drawing(rows: Sequence[Operator], portrait: Mapping[str, Any] | None, series: Sequence[Series], source: str) -> str:
    """Architecture, latency and memory of all operators, each drawn with the same height of row; `source` is the network's input."""
    if not rows:
        return missing("Operators", NO_PORTRAIT)
    height = max(LEAST, LABEL + BAR * len(series) + 10)
    connected = any(row.inputs for row in rows)
    parts = [
        ("Architecture", architecture(rows, height, source) if connected else missing("Connections of operators", NO_PORTRAIT)),
        ("Latency of every operator", bars(rows, series, height)),
        ("Memory over time", arena(rows, portrait, height)),
    ]
    columns = "".join(f'<div class="lane lane{i}"><h3>{name}</h3>{body}</div>' for i, (name, body) in enumerate(parts))
    return f'<div class="lanes">{columns}</div>{details(rows, series)}'


def architecture(rows: Sequence[Operator], height: int, source: str) -> str:
    """A block for every operator, arrows from its inputs; a connection that skips blocks runs beside them."""
    places = {row.index: n for n, row in enumerate(rows)}
    blocks = [_block(n * height, height, f"{row.index}  {row.name}", _told(row), row.kind) for n, row in enumerate(rows)]
    arrows = [_arrow(places.get(i, -1), places[row.index], height) for row in rows for i in row.inputs]
    words = "; ".join(f"{row.index} {row.name} of {' and '.join(map(str, row.inputs)) or 'nothing'}, {_told(row)}" for row in rows)
    return (
        f'<div class="scale middle" style="width:{WIDTH + LEFT}px">{escape(source)}</div>'
        f'<svg class="architecture" role="img" aria-label="{escape(f"{source}; {words}")}" width="{WIDTH}" height="{len(rows) * height}">'
        f"{''.join((*arrows, *blocks))}</svg>"
        '<p class="note">Below each name: channels x samples of its output, and parameters.</p>'
    )


def _told(row: Operator) -> str:
    shape = " x ".join(map(str, row.shape)) if row.shape else ""
    size = f"{row.parameters:,} parameters" if row.parameters else ""
    return ", ".join(filter(None, (shape, size)))


def _block(y: int, height: int, title: str, told: str, kind: str) -> str:
    middle = y + height / 2
    family = (
        "depthwise" if "depthwise" in kind else "conv" if "conv" in kind else kind if kind in ("dense", "lstm", "add", "own") else "other"
    )
    second = f'<text x="{LEFT + 12}" y="{middle + 13:g}" class="soft">{escape(told)}</text>' if told else ""
    return (
        f'<rect x="{LEFT}" y="{y + 4}" width="{WIDTH - LEFT - 2}" height="{height - 8}" rx="6" class="block {family}"/>'
        f'<text x="{LEFT + 12}" y="{middle + (-3 if told else 4):g}" class="name">{escape(title)}</text>{second}'
    )


def _arrow(source: int, target: int, height: int) -> str:
    if target - source == 1:
        x, y = (LEFT + WIDTH) / 2, target * height
        return f'<path d="M{x:g} {y - 4} v8" class="wire"/>'
    start, end = max((source + 0.5) * height, 0), (target + 0.5) * height
    reach = LEFT - 12 - 7 * min(target - source, 6)
    return f'<path d="M{LEFT} {start:g} C{reach} {start:g} {reach} {end:g} {LEFT} {end:g}" class="wire skip"/>'


def bars(rows: Sequence[Operator], series: Sequence[Series], height: int) -> str:
    """Horizontal bars, one a series, in every operator's row; the figure stands at the end of each."""
    if not series:
        return missing("Latency of operators", "Neither a portrait nor a bench.json with a clock was found.")
    most = max(value for s in series for value in s.us.values()) or 1
    drawn = []
    for n, row in enumerate(rows):
        y = n * height
        drawn.append(f'<text x="0" y="{y + 14}" class="name">{row.index}  {escape(row.name)}</text>')
        for k, s in enumerate(series):
            value = s.us.get(row.index)
            if value is None:
                continue
            at, share = y + LABEL + k * BAR, LONGEST * value / most
            drawn.append(
                f'<rect x="0" y="{at}" width="{percent(share)}" height="{BAR - 3}" rx="1" class="{s.style}">'
                f"<title>{escape(f'{row.index} {row.name}, {s.label}: {value:,.1f} us')}</title></rect>"
                f'<text x="{percent(share)}" dx="5" y="{at + BAR - 3}" class="small">{value:,.1f}</text>'
            )
    told = "Latency of every operator in microseconds; the table below has the figures"
    return (
        f'<div class="scale">{escape("microseconds")}</div><svg role="img" aria-label="{told}" width="100%" height="{len(rows) * height}">'
        f"{''.join(drawn)}</svg>{legend((s.style, s.label) for s in series)}"
    )


def arena(rows: Sequence[Operator], portrait: Mapping[str, Any] | None, height: int) -> str:
    """Every tensor of the arena as a box: across, its bytes from its offset; down, the operators it lives through."""
    size, placed = (portrait or {}).get("arena_bytes"), (portrait or {}).get("tensors") or ()
    if not size or not placed:
        return missing("Memory", NO_PORTRAIT)
    at, most = {row.index: n for n, row in enumerate(rows)}, max((row.live_bytes or 0 for row in rows), default=0)
    drawn = [f'<rect x="0" y="0" width="{percent(ARENA)}" height="{len(rows) * height}" class="ground"/>']
    drawn += [_tensor(t, at, rows, size, height) for t in placed if t["from"] in at and t["to"] in at]
    for n, row in enumerate(rows):
        if row.live_bytes is not None:
            style = "name" if row.live_bytes == most else "soft"
            drawn.append(f'<text x="100%" y="{n * height + height // 2 + 4}" text-anchor="end" class="{style}">{row.live_bytes:,}</text>')
    told = f"An arena of {size:,} bytes; {most:,} of them are alive at most. The table below has offsets and sizes"
    ends = f'<span>0</span><span class="end" style="right:{percent(1 - ARENA)}">{size:,} bytes</span><span class="last">alive</span>'
    return (
        f'<div class="scale">{ends}</div>'
        f'<svg role="img" aria-label="{escape(told)}" width="100%" height="{len(rows) * height}">{"".join(drawn)}</svg>'
        f"{legend((('tensor', 'output of an operator'), ('scratch', 'scratch space')))}"
        '<p class="note">Across: bytes of the arena. Down: as long as they are needed. Boxes that overlap in a row are computed in place. '
        "Input and output of the network have buffers of their own.</p>"
    )


def _tensor(tensor: Mapping[str, Any], at: Mapping[int, int], rows: Sequence[Operator], size: int, height: int) -> str:
    kind = "scratch" if tensor["kind"] == "scratch" else "tensor"
    first, last, index = at[tensor["from"]], at[tensor["to"]], tensor["index"]
    x, width, name = ARENA * tensor["offset"] / size, ARENA * tensor["bytes"] / size, rows[at[index]].name
    what = (
        f"scratch of {index} {name}"
        if kind == "scratch"
        else f"output of {index} {name}, until {rows[last].index} {rows[last].name} has run"
    )
    told = f"{what}: {tensor['bytes']:,} bytes at offset {tensor['offset']:,}"
    label = f'<text x="{percent(x)}" dx="5" y="{first * height + 15}" class="small">{index}</text>' if width > 0.05 else ""
    return (
        f'<rect x="{percent(x)}" y="{first * height + 1}" width="{percent(width)}" height="{(last - first + 1) * height - 2}" rx="2" '
        f'class="{kind}"><title>{escape(told)}</title></rect>{label}'
    )


def details(rows: Sequence[Operator], series: Sequence[Series]) -> str:
    """The same figures, and those that are not drawn, as a table."""
    plain = [("#", ""), ("operator", ""), ("kernel", ""), ("weights", ""), ("shape", ""), ("MACs", ""), ("parameters", "")]
    kept = [("output, bytes", ""), ("offset", ""), ("alive, bytes", "")]
    heads = [*plain, *(("us", s.label) for s in series), *kept]
    body = [list(_figures(row, series)) for row in rows]
    return f"<details><summary>All figures of the operators as a table</summary>{table(heads, body, 'figures operators')}</details>"


def _figures(row: Operator, series: Sequence[Series]) -> Iterator[str]:
    yield from (str(row.index), row.name, row.kernel, row.weights, " x ".join(map(str, row.shape)) or NONE)
    yield from (figure(row.macs), figure(row.parameters))
    yield from (figure(s.us.get(row.index), 2) for s in series)
    yield from (figure(row.bytes), "own buffer" if row.offset is None else number(row.offset), figure(row.live_bytes))
