// Draws the panels of the report (bench/panels.py) with plotly.js, in the colours of the theme that is on.
"use strict";
const { panels, colours, wide } = JSON.parse(document.getElementById("data").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const theme = document.getElementById("theme");
const MANY = 12; // curves beyond which a legend at the side leaves no room

function timeText(ns) {
  for (const [unit, scale] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) if (ns >= scale) return +(ns / scale).toPrecision(3) + " " + unit;
  return +ns.toPrecision(3) + " ns";
}

function axis(given, css, values) {
  const made = { title: { text: given.title, font: { size: 12 }, standoff: 10 }, type: given.log ? "log" : "linear", gridcolor: css("--line"),
    linecolor: css("--line"), zerolinecolor: css("--line"), automargin: true };
  if (given.ticks) Object.assign(made, { tickmode: "array", tickvals: given.ticks.map((tick) => tick[0]), ticktext: given.ticks.map((tick) => tick[1]) });
  if (given.is_time) {
    const decades = [];
    for (let ns = 1; ns <= 1e11; ns *= 10) if (ns >= Math.min(...values) / 10 && ns <= Math.max(...values) * 10) decades.push(ns);
    Object.assign(made, { tickmode: "array", tickvals: decades, ticktext: decades.map(timeText) });
  }
  if (given.log && !given.ticks && !given.is_time) Object.assign(made, { dtick: 1, tickformat: given.title.startsWith("GB") ? "~g" : "~s" });
  if (!given.log) made.rangemode = "tozero";
  return made;
}

function traces(panel) {
  if (panel.bars) {
    return panel.bars.map((bar) => ({ type: "bar", name: bar.label, x: panel.groups[0] === "" ? [bar.label] : panel.groups, y: bar.values,
      marker: { color: colours[bar.name] }, texttemplate: "%{y:.3~s}", textposition: "outside", cliponaxis: false, hovertemplate: "%{y:.4~s}<extra>" + bar.label + "</extra>" }));
  }
  return panel.curves.map((curve) => {
    const show = panel.x.is_time || panel.y.is_time;
    const text = show ? (panel.x.is_time ? curve.x : curve.y).map(timeText) : undefined;
    const where = panel.x.is_time ? "%{text}: %{y:.2f} %" : panel.y.is_time ? "%{text}" : "%{y:.4~s}";
    return { type: "scatter", mode: show ? "lines" : "lines+markers", name: curve.label, x: curve.x, y: curve.y, text,
      line: { color: colours[curve.name], width: wide.includes(curve.name) ? 3 : 1.5, dash: curve.dash || "solid" }, marker: { size: 5 },
      hovertemplate: where + "<extra>" + curve.label + "</extra>" };
  });
}

function layout(panel) {
  const style = getComputedStyle(document.documentElement);
  const css = (name) => style.getPropertyValue(name).trim();
  const values = (which) => (panel.curves || []).flatMap((curve) => curve[which]);
  const drawn = { font: { color: css("--ink"), family: "system-ui, sans-serif", size: 12 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 64, r: 12, t: 12, b: 48 }, hovermode: "closest", hoverlabel: { bgcolor: css("--panel"), font: { color: css("--ink") } },
    showlegend: !panel.bars || panel.groups[0] !== "", legend: { font: { size: 11 } }, yaxis: axis(panel.y, css, values("y")) };
  drawn.xaxis = panel.bars ? { gridcolor: css("--line"), automargin: true, type: "category" } : axis(panel.x, css, values("x"));
  if (panel.curves && panel.curves.length > MANY) drawn.legend = { font: { size: 10 }, orientation: "h", y: -0.25 };
  return drawn;
}

function place(panel) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const title = document.createElement("b");
  title.textContent = panel.title;
  caption.append(title, panel.note);
  const plot = document.createElement("div");
  plot.className = panel.curves && panel.curves.length > MANY ? "plot tall" : "plot";
  plot.id = panel.id;
  figure.append(caption, plot);
  document.getElementById("panels").append(figure);
  return Plotly.newPlot(plot, traces(panel), layout(panel), { responsive: true, displaylogo: false });
}

function repaint() {
  for (const panel of panels) Plotly.relayout(panel.id, layout(panel));
}

theme.addEventListener("change", () => {
  if (theme.value) document.documentElement.dataset.theme = theme.value;
  else delete document.documentElement.dataset.theme;
  repaint();
});
dark.addEventListener("change", repaint);
Promise.all(panels.map(place)).then(() => { document.body.dataset.drawn = panels.length; });
