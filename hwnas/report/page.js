// Buttons switch the cost axis; text and grid follow the reader's light or dark system.
const axes = __AXES__;
const plot = document.getElementById("pareto");

function paint() {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim();
  const grid = style.getPropertyValue("--line").trim();
  const card = style.getPropertyValue("--card").trim();
  Plotly.relayout(plot, {
    "font.color": text,
    "xaxis.gridcolor": grid, "xaxis.linecolor": grid,
    "yaxis.gridcolor": grid, "yaxis.linecolor": grid,
    "hoverlabel.bgcolor": card, "hoverlabel.bordercolor": grid, "hoverlabel.font.color": text,
  });
}

for (const button of document.querySelectorAll("[data-axis]")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[data-axis]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    const axis = axes[button.dataset.axis];
    Plotly.update(plot, { x: axis.x }, { "xaxis.title.text": axis.title, "xaxis.autorange": true });
  });
}

paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
