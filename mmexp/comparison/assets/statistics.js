// What is told of the comparison's own metric: means with intervals, importance, differences.
"use strict";
const verdictClass = (verdict) => (verdict === "too close to call" ? "soft" : verdict);
const labels = (names, most) => ({ tickmode: "array", tickvals: names.map((_, place) => place), ticktext: names.map((name) => drawn(brief(name, most))),
  tickfont: { color: colourOf("ink") }, range: [names.length - 0.5, -0.5], showgrid: false, ticks: "" });
const narrow = () => window.innerWidth < 700;
const interval = (metric, one) => (one.low === null ? "no interval" : `${shown(metric, one.low, false)} to ${shown(metric, one.high)}`);

function drawConfigurations() {
  const names = new Set(visible().map((run) => run.name));
  const told = DATA.configurations.filter((one) => one.runs.some((name) => names.has(name)));
  if (!told.length) return nothing("configurations", "None of the runs shown is in a configuration with a mean.");
  clear("configurations");
  const runs = told.flatMap((one, y) => one.runs.map((name) => ({ y, run: DATA.runs.find((run) => run.name === name) })))
    .filter(({ run }) => run && names.has(run.name));
  const whiskers = (side) => told.map((one) => (one[side] === null ? 0 : Math.abs(one[side] - one.mean)));
  const colours = told.map((one) => colourOf(groupColour(one.group)));
  const spread = { type: "scatter", mode: "markers", x: runs.map(({ run }) => valueOf(run, DATA.metric)), y: runs.map(({ y }) => y + 0.24),
    marker: { size: 5, color: runs.map(({ run }) => colourOf(groupColour(run.group))), opacity: 0.5 },
    text: runs.map(({ run }) => called(run)), hovertemplate: "%{text}<br>%{x}<extra></extra>" };
  const whisker = told.map((one, y) => ({ type: "scatter", mode: "markers", x: [one.mean], y: [y], marker: { size: 10, color: colours[y] },
    error_x: { type: "data", symmetric: false, array: [whiskers("high")[y]], arrayminus: [whiskers("low")[y]], color: colours[y], thickness: 2, width: 5 },
    text: [`${drawn(DATA.groups[one.group].title)}<br>${shown(DATA.metric, one.mean)}, ${interval(DATA.metric, one)}`],
    hovertemplate: "%{text}<extra></extra>" }));
  at("configurations").style.height = `${70 + 34 * told.length}px`;
  plot("configurations", [spread, ...whisker],
    { xaxis: axisOf(DATA.metric), yaxis: labels(told.map((one) => DATA.groups[one.group].label), narrow() ? 24 : 40) });
}

function drawImportance() {
  const told = [...DATA.importance].sort((a, b) => b.share - a.share);
  if (!told.length) return nothing("importance", "Too few runs, or no choice that differs.");
  clear("importance");
  const whiskers = (side) => told.map((one) => (one[side] === null ? 0 : Math.abs(one[side] - one.share)));
  at("importance").style.height = `${70 + 34 * told.length}px`;
  plot("importance", [{ type: "bar", orientation: "h", x: told.map((one) => one.share), y: told.map((_, place) => place), width: 0.5,
    marker: { color: faded(colourOf("s1"), 0.6) },
    error_x: { type: "data", symmetric: false, array: whiskers("high"), arrayminus: whiskers("low"), color: colourOf("ink"), thickness: 1.5, width: 5 },
    hovertemplate: "%{x:.0%}<extra></extra>" }],
  { xaxis: { tickformat: ".0%", range: [0, 1.03], title: { text: "share of the variance", font: { size: 12 }, standoff: 8 } },
    yaxis: labels(told.map((one) => one.group), narrow() ? 18 : 28) });
}

function drawDifferences() {
  const heads = [["about", "text"], ["first", "text"], ["is", "text"], ["second", "text"], ["by"], ["interval"], ["pairs"], ["p"],
    ["p corrected"]];
  const unit = DATA.metrics[DATA.metric].share ? "\u00a0points" : "";
  const signed = (value) => (value > 0 ? "+" : "") + shown(DATA.metric, value, false).replace("-", "\u2212");
  const p = (value) => (value === null ? "–" : value < 0.001 ? "< 0.001" : value.toFixed(3));
  const rows = DATA.differences.map((one) => element("tr", {},
    element("td", { class: "text" }, one.about), element("td", { class: "text long" }, one.first),
    element("td", { class: `text ${verdictClass(one.verdict)}` }, one.verdict + (one.verdict === "too close to call" ? "" : " than")),
    element("td", { class: "text long" }, one.second), element("td", {}, signed(one.mean) + unit),
    element("td", {}, one.low === null ? "–" : `${signed(one.low)} to ${signed(one.high)}`),
    element("td", {}, `${one.pairs}${one.unit === "block" ? "\u00a0blocks" : ""}`), element("td", {}, p(one.p)), element("td", {}, p(one.corrected))));
  at("differences").tHead.replaceChildren(element("tr", {}, ...heads.map(([told, kind]) => element("th", { scope: "col", class: kind }, told))));
  at("differences").tBodies[0].replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { class: "text soft", colspan: heads.length },
    "No two configurations share a seed or a choice that could be compared."))]));
}

at("scope").textContent = `Of ${words(DATA.metric)}, over all finished runs: importance and differences follow neither the filter nor the metric chosen above.`;
parts.push(drawConfigurations, drawImportance, drawDifferences);
