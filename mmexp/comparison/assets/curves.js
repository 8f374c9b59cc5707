// What was logged in training: the mean over the seeds of a configuration, and a band around it.
"use strict";
const QUANTILES = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]; // 97.5 % of Student's t for 1 to 9 degrees
const AGAINST = { step: "step", samples: "samples seen", seconds: "seconds of training, at the run's mean speed" };

function lineOf(run, metric, against) {
  const curve = run.curves[metric];
  const each = against === "step" ? 1 : run.each[against];
  return curve && each ? { xs: curve[0].map((step) => step * each), ys: curve[1] } : null;
}

// The value between two logged ones, none outside of what was logged.
function valueAt({ xs, ys }, x) {
  if (x < xs[0] || x > xs[xs.length - 1]) return null;
  const after = xs.findIndex((other) => other >= x);
  if (xs[after] === x) return ys[after];
  return ys[after - 1] + ((ys[after] - ys[after - 1]) * (x - xs[after - 1])) / (xs[after] - xs[after - 1]);
}

function bandOf(lines, kind) {
  const longest = lines.reduce((a, b) => (b.xs.length > a.xs.length ? b : a));
  return longest.xs.map((x) => {
    const values = lines.map((line) => valueAt(line, x)).filter((value) => value !== null);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    if (kind === "range") return { x, mean, low: Math.min(...values), high: Math.max(...values) };
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1));
    const half = values.length > 1 ? ((QUANTILES[values.length - 2] ?? 1.96) * deviation) / Math.sqrt(values.length) : 0;
    return { x, mean, low: mean - half, high: mean + half };
  });
}

function tracesOf(group, lines, kind) {
  const band = bandOf(lines, kind);
  const colour = colourOf(groupColour(group));
  const xs = band.map(({ x }) => x);
  const edge = { type: "scatter", mode: "lines", x: xs, line: { width: 0, color: colour }, hoverinfo: "skip" };
  const middle = { type: "scatter", mode: xs.length > 40 ? "lines" : "lines+markers", x: xs, y: band.map(({ mean }) => mean),
    line: { color: colour, width: group < COLOURED ? 2 : 1 }, marker: { size: 5 }, opacity: group < COLOURED ? 1 : 0.45,
    text: xs.map(() => drawn(DATA.groups[group].label)), hovertemplate: "%{text}<br>%{y} at %{x}<extra></extra>" };
  if (lines.length < 2 || group >= COLOURED) return [middle];
  return [{ ...edge, y: band.map(({ low }) => low) },
    { ...edge, y: band.map(({ high }) => high), fill: "tonexty", fillcolor: faded(colour, 0.16) }, middle];
}

function drawCurves() {
  const [metric, against, kind] = ["curve", "against", "band"].map((id) => at(id).value);
  const lines = new Map();
  for (const run of visible()) {
    const line = lineOf(run, metric, against);
    if (line) lines.set(run.group, [...(lines.get(run.group) ?? []), line]);
  }
  const groups = [...lines.keys()].sort((a, b) => a - b);
  key("curves-key", groups);
  if (!groups.length) return nothing("curves", "No run shown logged this more than once.");
  clear("curves");
  // The best are drawn last, over all others.
  plot("curves", groups.toReversed().flatMap((group) => tracesOf(group, lines.get(group), kind)),
    { xaxis: { title: { text: AGAINST[against], font: { size: 12 }, standoff: 8 }, rangemode: "tozero" }, yaxis: axisOf(metric) });
}

const logged = Object.keys(DATA.metrics).filter((name) => DATA.runs.some((run) => run.curves[name]));
// A run of few epochs has a validation or two: then its training loss tells more.
const often = logged.filter((name) => DATA.runs.some((run) => run.curves[name]?.[0].length > 2));
const preferred = [DATA.metric.replace(/^test[^/]*/, "val"), "train/loss", "val/loss"].find((name) => often.includes(name));
options("curve", logged, words, preferred ?? logged[0], drawCurves);
options("against", Object.keys(AGAINST).filter((name) => name === "step" || DATA.runs.some((run) => run.each[name])),
  (name) => AGAINST[name].split(",")[0], "step", drawCurves);
at("band").onchange = drawCurves;
parts.push(drawCurves);
