// The scatter, the table of students, battery life, and which page is shown. Everything stands in this file; nothing is loaded.
"use strict";
const data = JSON.parse(document.getElementById("networks").textContent);
const element = (id) => document.getElementById(id);
const axisOf = Object.fromEntries(data.axes.map((axis) => [axis.name, axis]));

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Scatter

const plot = element("pareto");
const hidden = { status: new Set(), family: new Set() };
const several = data.families.length > 1;
const known = (name, i) => (data.values[name] ? data.values[name][i] : null);
const isScore = (name) => !axisOf[name].log;
let drawn = [];  // per trace, the networks of its points

function fillAxes() {
  for (const [select, chosen] of [[element("x-axis"), data.first[0]], [element("y-axis"), data.first[1]]]) {
    for (const group of new Set(data.axes.map((axis) => axis.group))) {
      const options = make("optgroup", "", { label: group });
      for (const axis of data.axes.filter((one) => one.group === group)) options.append(make("option", axis.title.split(" (" + group)[0], { value: axis.name }));
      select.append(options);
    }
    if (axisOf[chosen]) select.value = chosen;
    select.addEventListener("change", draw);
  }
}

const GLYPHS = {
  "circle": '<circle cx="7" cy="7" r="4.5" fill="currentColor"/>',
  "circle-open": '<circle cx="7" cy="7" r="5" fill="none" stroke="currentColor" stroke-width="2"/>',
  "diamond": '<path d="M7 0.5 13.5 7 7 13.5 0.5 7z" fill="currentColor"/>',
  "x-thin": '<path d="M3 3 11 11M11 3 3 11" stroke="currentColor" stroke-width="1.4"/>',
  "square": '<rect x="2" y="2" width="10" height="10" fill="currentColor"/>',
};

function key(kind, index, label, glyph, colour) {
  const box = make("label", "", { class: "check" });
  const input = make("input", "", { type: "checkbox", "data-kind": kind, "data-index": index });
  input.checked = true;
  input.addEventListener("change", () => {
    hidden[kind][input.checked ? "delete" : "add"](index);
    draw();
  });
  const mark = make("span", "", { class: "glyph", style: `color:${colour}` });
  mark.innerHTML = `<svg width="14" height="14" aria-hidden="true">${GLYPHS[glyph]}</svg>`;
  box.append(input, mark, make("span", label));
  element("keys").append(box);
}

function fillKeys() {
  data.statuses.forEach((status, index) => {
    const count = data.status.filter((one) => one === index).length;
    if (count) key("status", index, `${status.label}: ${count.toLocaleString("en")}`, status.symbol.symbol, several ? "var(--soft)" : status.colour);
  });
  if (several) data.families.forEach((family, index) => key("family", index, family, "square", colourOf(index)));
}

const colourOf = (family) => data.colours.families[family % data.colours.families.length];

function prefixes() {  // the shortest beginning of an id, of four letters at least, that tells students apart
  const ids = Object.keys(data.anchors);
  let length = 4;
  while (length < 16 && new Set(ids.map((id) => id.slice(0, length))).size < new Set(ids).size) length += 1;
  return length;
}

function limits(values, axis) {
  if (!values.length) return axis.log ? [0, 1] : [0, 1];
  const scaled = axis.log ? values.filter((v) => v > 0).map(Math.log10) : values;
  const low = scaled.reduce((a, b) => Math.min(a, b), Infinity), high = scaled.reduce((a, b) => Math.max(a, b), -Infinity);
  const room = Math.max(high - low, axis.log ? 0.1 : 0.01) * 0.08;
  return [low - room, high + room];
}

// Students of the front that nothing beats on these two axes, best x first.
function staircase(indices, x, y) {
  const signed = (name, i) => (axisOf[name].lower ? 1 : -1) * known(name, i);
  const ordered = [...indices].sort((a, b) => signed(x, a) - signed(x, b) || signed(y, a) - signed(y, b));
  const kept = [];
  for (const i of ordered) if (!kept.length || signed(y, i) < signed(y, kept[kept.length - 1])) kept.push(i);
  return kept;
}

function groups(x, y) {
  const found = [];
  data.statuses.forEach((status, s) => {
    for (let f = 0; f < data.families.length; f += 1) {
      const members = [];
      for (let i = 0; i < data.id.length; i += 1) {
        if (data.status[i] === s && data.family[i] === f && !hidden.status.has(s) && !hidden.family.has(f)) members.push(i);
      }
      if (members.length) found.push({ status, family: f, members, drawn: members.filter((i) => known(x, i) !== null && known(y, i) !== null) });
    }
  });
  return found;
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).trim();
}

function draw() {
  if (element("overview").hidden || !data.axes.length) return;
  const x = element("x-axis").value, y = element("y-axis").value, colour = theme(), narrow = plot.clientWidth < 560;
  const traces = [], shapes = [], annotations = [], found = groups(x, y), length = prefixes();
  drawn = [];
  const add = (trace, indices) => { traces.push({ hoverinfo: "none", ...trace }); drawn.push(indices); };
  const xs = (indices) => indices.map((i) => known(x, i)), ys = (indices) => indices.map((i) => known(y, i));

  const finished = found.filter((g) => g.status.name === "front" || g.status.name === "fallen").flatMap((g) => g.drawn);
  if ([x, y].includes(data.before_of) && x !== y) {
    const linked = finished.filter((i) => data.before[i] !== null), vertical = y === data.before_of;
    const pairs = (name, moves) => linked.flatMap((i) => [moves ? data.before[i] : known(name, i), known(name, i), null]);
    add({ x: pairs(x, !vertical), y: pairs(y, vertical), mode: "lines", line: { color: colour("--soft"), width: 1 }, hoverinfo: "skip" }, []);
  }
  const front = found.filter((g) => g.status.name === "front").flatMap((g) => g.drawn), steps = staircase(front, x, y);
  if (steps.length > 1) {
    add({ x: xs(steps), y: ys(steps), mode: "lines", line: { shape: "hv", color: colour("--front"), width: 1.5 }, opacity: 0.6, hoverinfo: "skip" }, []);
  }
  let rugs = 0;
  const ranged = { x: [], y: [] }, labelled = [];
  for (const group of found) {
    const tone = several ? colourOf(group.family) : group.status.colour;
    const symbol = group.status.symbol, marker = { ...symbol, color: tone, line: { color: tone, ...symbol.line } };
    if (group.drawn.length) {
      const named = group.status.name === "front" && front.length <= 12;
      const text = named ? { text: group.drawn.map((i) => data.id[i].slice(0, length)), textfont: { size: 11, color: colour("--text"), family: "monospace" } } : {};
      add({ x: xs(group.drawn), y: ys(group.drawn), mode: named ? "markers+text" : "markers", marker, cliponaxis: false, textposition: "top center", ...text }, group.drawn);
      if (named) labelled.push(traces[traces.length - 1]);
      ranged.x.push(...xs(group.drawn));
      ranged.y.push(...ys(group.drawn));
    }
    if (group.status.name === "rejected" && !group.drawn.length && isScore(x) !== isScore(y)) {
      const cost = isScore(y) ? x : y, members = group.members.filter((i) => known(cost, i) !== null), flat = members.map(() => 0.5);
      rugs += members.length;
      const tick = { ...marker, symbol: isScore(y) ? "line-ns" : "line-ew", size: 9, opacity: 0.7, line: { color: tone, width: 1 } };
      const values = members.map((i) => known(cost, i));
      if (isScore(y)) add({ x: values, y: flat, yaxis: "y2", mode: "markers", marker: tick }, members);
      else add({ x: flat, y: values, xaxis: "x2", mode: "markers", marker: tick }, members);
      ranged[isScore(y) ? "x" : "y"].push(...values);
    }
  }
  for (const [name, letter] of [[x, "x"], [y, "y"]]) {
    const limit = data.budget[name], vertical = letter === "x";
    if (limit !== undefined) {
      line(shapes, annotations, letter, limit, axisOf[name].log, `budget ${limit.toLocaleString("en")} ${axisOf[name].unit}`, data.colours.budget, "dash", vertical);
      ranged[letter].push(limit);
    }
    const taught = data.teacher[name];
    if (taught !== undefined) {
      line(shapes, annotations, letter, taught, false, `teacher (float) ${taught.toFixed(axisOf[name].decimals)}`, colour("--soft"), "dot", vertical);
      ranged[letter].push(taught);
    }
  }
  const edge = rugs ? 0.05 : 0;
  const axis = (name, letter, domain) => ({
    type: axisOf[name].log ? "log" : "linear", title: { text: axisOf[name].title, standoff: 10, font: { size: 13 } }, range: limits(ranged[letter], axisOf[name]),
    zeroline: false, gridcolor: colour("--line"), linecolor: colour("--line"), domain, automargin: true,
    ...(axisOf[name].log ? { dtick: "D2", tickformat: axisOf[name].decimals ? ",~g" : ",~s" } : { tickformat: ".3~f", nticks: 7 }),
  });
  const bare = { visible: false, fixedrange: true, range: [0, 1] };
  const layout = {
    height: narrow ? 400 : 540, margin: { l: narrow ? 48 : 64, r: 14, t: 22, b: 52 }, showlegend: false, hovermode: "closest", hoverdistance: 24, dragmode: narrow ? false : "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: narrow ? 12 : 14, color: colour("--text") },
    xaxis: axis(x, "x", [isScore(x) ? edge : 0, 1]), yaxis: axis(y, "y", [isScore(y) ? edge : 0, 1]), shapes, annotations,
    ...(rugs ? { [isScore(y) ? "yaxis2" : "xaxis2"]: { ...bare, domain: [0, edge * 0.7], anchor: isScore(y) ? "x" : "y" } } : {}),
  };
  part(labelled, layout, axisOf[y].lower && !axisOf[y].log);
  if (rugs) layout[isScore(y) ? "xaxis" : "yaxis"].anchor = isScore(y) ? "y2" : "x2";  // labels of the axis stand below the ticks
  Plotly.react(plot, traces, layout, { displayModeBar: false, responsive: true });
  summarise(found, x, y, rugs, steps.length);
}

// Labels stand on the side where the front is better; one that would stand on another goes to the other side.
function part(labelled, layout, below) {
  const pixels = (value, axis, extent) => (((axis.type === "log" ? Math.log10(value) : value) - axis.range[0]) / (axis.range[1] - axis.range[0])) * extent;
  const points = labelled.flatMap((trace) => trace.x.map((x, n) => ({ trace, n, x: pixels(x, layout.xaxis, plot.clientWidth - 80), y: pixels(trace.y[n], layout.yaxis, layout.height - 80) })));
  points.sort((a, b) => a.x - b.x);
  const [first, other] = below ? ["bottom center", "top center"] : ["top center", "bottom center"];
  for (const trace of labelled) trace.textposition = trace.x.map(() => first);
  points.forEach((point, n) => {
    const near = points.slice(0, n).some((one) => one.trace.textposition[one.n] === first && point.x - one.x < 42 && Math.abs(point.y - one.y) < 16);
    if (near) point.trace.textposition[point.n] = other;
  });
}

function line(shapes, annotations, letter, value, log, text, colour, dash, vertical) {
  const ends = vertical ? { x0: value, x1: value, yref: "paper", y0: 0, y1: 1 } : { y0: value, y1: value, xref: "paper", x0: 0, x1: 1 };
  shapes.push({ type: "line", ...ends, line: { color: colour, width: vertical && dash === "dash" ? 2 : 1.5, dash }, layer: "below" });
  const place = log ? Math.log10(value) : value, font = { size: 12, color: colour };
  if (vertical) annotations.push({ x: place, y: 1, yref: "paper", yanchor: "bottom", text, font, showarrow: false });
  else annotations.push({ y: place, x: 0, xref: "paper", xanchor: "left", yanchor: "bottom", text, font, showarrow: false });
}

function summarise(found, x, y, rugs, steps) {
  const lost = found.filter((g) => g.drawn.length < g.members.length), missing = lost.reduce((n, g) => n + g.members.length - g.drawn.length, 0) - rugs;
  const said = [];
  if (rugs) said.push(`${rugs.toLocaleString("en")} rejected candidates were never trained and have no score: ticks at the edge show their predicted cost.`);
  if (missing > 0) said.push(`${missing.toLocaleString("en")} networks have no figure for one of these axes and are not drawn.`);
  element("scatter-note").textContent = said.join(" ");
  const counts = found.filter((g) => g.drawn.length).map((g) => `${g.drawn.length} ${g.status.label}${several ? " of " + data.families[g.family] : ""}`);
  plot.setAttribute("aria-label", `Scatter of ${axisOf[y].title} against ${axisOf[x].title}: ${counts.join(", ") || "nothing"}; ${steps} on the front of this view. The table of students has the figures.`);
}

function architecture(i) {
  const told = data.told[i];
  if (typeof told === "string") return told ? [told] : [];
  const lines = new Map();
  data.choices[told[0]].forEach((name, n) => {
    const [group, ...rest] = name.split(" ");
    const words = rest.length ? `${rest.join(" ")} ${told[n + 1]}` : `${told[n + 1]}`;
    lines.set(group, [...(lines.get(group) || []), words]);
  });
  return [...lines].map(([group, words]) => `${group}: ${words.join(", ")}`);
}

function tell(i, event) {
  const box = element("told"), status = data.statuses[data.status[i]].name, id = data.id[i], open = finishedAs(i);
  box.replaceChildren(make("strong", `${id}${data.families[data.family[i]] ? ", " + data.families[data.family[i]] : ""}`));
  box.append(make("div", data.statuses[data.status[i]].label), ...(data.notes[id] && status !== "scored" ? [make("div", data.notes[id])] : []));
  box.append(...architecture(i).map((line) => make("div", line, { class: "architecture-line" })));
  for (const group of new Set(data.axes.map((axis) => axis.group))) {
    const figures = data.axes.filter((axis) => axis.group === group && known(axis.name, i) !== null).map((axis) => {
      const value = known(axis.name, i).toLocaleString("en", { minimumFractionDigits: axis.decimals, maximumFractionDigits: axis.decimals });
      return [axis.short, value, axis.unit, axis.doubt].filter(Boolean).join(" ");
    });
    if (figures.length) box.append(make("div", `${group}: ${figures.join(", ")}`, { class: "figures-line" }));
  }
  if (open && data.before[i] !== null) box.append(make("div", `${axisOf[data.before_of].short} after the short distillation: ${data.before[i]}`));
  if (open) box.append(make("a", "open its page", { href: `#${data.anchors[id]}` }));
  box.hidden = false;
  if (getComputedStyle(box).position !== "absolute") return;
  const area = plot.getBoundingClientRect(), across = event.clientX - area.left, down = event.clientY - area.top;
  box.style.left = `${Math.max(0, across > area.width / 2 ? across - box.offsetWidth - 16 : across + 16)}px`;
  box.style.top = `${Math.max(0, Math.min(down - 20, area.height - box.offsetHeight))}px`;
}

const finishedAs = (i) => ["front", "fallen"].includes(data.statuses[data.status[i]].name);

// A ring round the student that the table points at.
function ring(id) {
  const x = element("x-axis").value, y = element("y-axis").value, mark = element("ring");
  const i = data.id.findIndex((one, n) => one === id && finishedAs(n)), layout = plot._fullLayout;
  mark.hidden = i < 0 || !layout || known(x, i) === null || known(y, i) === null;
  if (mark.hidden) return;
  mark.style.left = `${layout.xaxis._offset + layout.xaxis.d2p(known(x, i))}px`;
  mark.style.top = `${layout.yaxis._offset + layout.yaxis.d2p(known(y, i))}px`;
}

function listen() {
  const under = (event) => event.points.map((p) => (drawn[p.curveNumber] || [])[p.pointNumber]).find((i) => i !== undefined);
  plot.on("plotly_hover", (event) => { const i = under(event); if (i !== undefined) tell(i, event.event); });
  // Where nothing hovers, a tap on the link would first leave the point: there the box stays until it is tapped itself.
  const box = element("told"), floats = () => getComputedStyle(box).position === "absolute", hovers = matchMedia("(hover: hover)");
  plot.on("plotly_unhover", () => { if (floats() && hovers.matches) box.hidden = true; });
  box.addEventListener("click", (event) => { if (floats() && !event.target.closest("a")) box.hidden = true; });
  plot.on("plotly_click", (event) => {
    const i = under(event);
    if (i === undefined) return;
    const to = finishedAs(i) ? data.anchors[data.id[i]] : null;
    if (to && hovers.matches) location.hash = to;
    else tell(i, event.event);
  });
}

// Table of students

const table = element("students");
const cells = (row) => [...row.cells];
const stored = (cell) => JSON.parse(cell.dataset.value);

function sort(head, index) {
  const rising = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[1].cells) other.setAttribute("aria-sort", other === head ? (rising ? "ascending" : "descending") : "none");
  const order = (a, b) => {
    const [p, q] = [stored(a.cells[index]), stored(b.cells[index])];
    if (p === null || q === null) return (p === null) - (q === null);  // what is missing stays last
    const compared = typeof p === "number" && typeof q === "number" ? p - q : String(p).localeCompare(String(q), "en");
    return rising ? compared : -compared;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
}

function filter() {
  const words = element("text-filter").value.toLowerCase().split(/\s+/).filter(Boolean), family = element("family-filter") ? element("family-filter").value : "";
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    row.hidden = !(words.every((word) => row.dataset.words.includes(word)) && (family === "" || row.dataset.family === family));
    shown += !row.hidden;
  }
  element("shown").textContent = `${shown} of ${table.tBodies[0].rows.length} students`;
}

function showGroup(box) {
  for (const cell of table.querySelectorAll(`[data-group="${box.dataset.group}"]`)) cell.hidden = !box.checked;
}

function shownRows() {  // rows and columns as they stand on the screen, with stored figures
  const heads = [...table.tHead.rows[1].cells].filter((cell) => !cell.hidden);
  const names = heads.map((cell) => cell.dataset.name), at = heads.map((cell) => cell.cellIndex);
  const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => at.map((i) => stored(row.cells[i])));
  return { names, rows };
}

function csv() {
  const quoted = (value) => (value === null ? "" : /[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const { names, rows } = shownRows();
  return [names, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}

function json() {
  const { names, rows } = shownRows();
  return JSON.stringify(rows.map((row) => Object.fromEntries(row.map((value, i) => [names[i], value]))), null, 1) + "\n";
}

function download(name, type, content) {
  const link = make("a", "", { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function startTable() {
  if (!table) return;
  [...table.tHead.rows[1].cells].forEach((head, index) => head.querySelector("button").addEventListener("click", () => sort(head, index)));
  element("text-filter").addEventListener("input", filter);
  if (element("family-filter")) element("family-filter").addEventListener("change", filter);
  for (const box of document.querySelectorAll("input[data-group]")) {
    box.addEventListener("change", () => showGroup(box));
    showGroup(box);
  }
  element("download-csv").addEventListener("click", () => download("students.csv", "text/csv", csv()));
  element("download-json").addEventListener("click", () => download("students.json", "application/json", json()));
  for (const row of table.tBodies[0].rows) {
    for (const event of ["mouseenter", "focusin"]) row.addEventListener(event, () => ring(row.dataset.id));
    for (const event of ["mouseleave", "focusout"]) row.addEventListener(event, () => ring(null));
  }
  filter();
}

// Battery life: the formula of hwnas/report/battery.py

function startBattery() {
  const form = element("battery");
  if (!form) return;
  const note = element("battery-note").textContent;
  const update = () => {
    const read = (name) => (form.elements[name].value.trim() === "" ? NaN : Number(form.elements[name].value));
    const capacity = read("capacity_mah"), supply = read("supply_v"), period = read("period_s"), sleep = read("sleep_ua");
    const sensing = Number.isNaN(read("sensing_uw")) ? 0 : read("sensing_uw");
    const right = capacity > 0 && supply > 0 && period > 0 && sleep >= 0 && sensing >= 0;
    element("battery-wrong").textContent = right ? "" : "Capacity, supply and period must be above 0, sleep current 0 or above.";
    const rows = [...element("battery-days").tBodies[0].rows];
    const powers = rows.map((row) => Number(row.dataset.energy) / period + sleep * supply + sensing);
    const life = (power) => (1000 * capacity * supply) / (24 * power), days = powers.map(life), most = Math.max(...days);
    const figure = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 }), factor = Number(form.dataset.factor);
    const told = (power, inference) => {
      const ends = [inference * factor, inference / factor].map((doubted) => figure(life(power - inference + doubted)));
      return figure(life(power)) + (factor > 1 ? ` (${ends.join(" to ")})` : "");
    };
    rows.forEach((row, i) => {
      row.querySelector(".power").textContent = right ? powers[i].toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 }) : "–";
      row.querySelector(".days").textContent = right ? told(powers[i], Number(row.dataset.energy) / period) : "–";
      row.querySelector("i").style.width = right ? `${(100 * days[i]) / most}%` : "0";
    });
    element("battery-note").textContent = sensing > 0 ? form.dataset.sensing : note;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}

// Pages

const articles = [...document.querySelectorAll("article.student")];
const title = document.title;
let came = null;  // the student whose page was shown last

function route() {
  const page = articles.find((one) => `#${one.id}` === location.hash);
  const before = articles.find((one) => !one.hidden && document.documentElement.classList.contains("paged"));
  document.documentElement.classList.add("paged");
  element("overview").hidden = Boolean(page);
  for (const one of articles) one.hidden = one !== page;
  document.title = page ? `${page.dataset.student}: ${title}` : title;
  if (page) {
    came = page.id;
    window.scrollTo(0, 0);
    page.querySelector("h1").focus({ preventScroll: true });
    return;
  }
  draw();
  if (plot.on && !plot.listening) { plot.listening = true; listen(); }
  const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (before && came) {
    const link = document.querySelector(`#students a[href="#${CSS.escape(came)}"]`) || element("overview").querySelector("h1");
    (target || link).scrollIntoView();
    link.focus({ preventScroll: true });
  } else if (target) target.scrollIntoView();
}

fillAxes();
fillKeys();
startTable();
startBattery();
route();
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && element("overview").hidden) location.hash = "#students-table";
});
for (const query of ["(prefers-color-scheme: dark)", "(max-width: 600px)"]) matchMedia(query).addEventListener("change", draw);
for (const code of document.querySelectorAll(".command code")) {
  if (!navigator.clipboard) break;
  const button = make("button", "copy", { type: "button", "aria-label": `copy ${code.textContent}` });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  });
  code.after(button);
}
