// Parallel coordinates, and cost against outcome.
"use strict";
const collator = new Intl.Collator("en", { numeric: true });

// A choice of numbers is an axis of numbers, of powers of ten where it spans them; any other an axis of names.
function dimension(name, runs) {
  const all = [...new Set(DATA.runs.map((run) => String(run.choices[name] ?? "–")))].sort(collator.compare);
  const numbers = all.map(Number);
  const label = drawn(brief(name, 22));
  if (numbers.some(Number.isNaN)) {
    // Spread a little within a name, in the order of the outcome: lines of the same choices would be one.
    const spread = (place) => (runs.length > 1 ? 0.3 * (place / (runs.length - 1) - 0.5) : 0);
    return { label, values: runs.map((run, place) => all.indexOf(String(run.choices[name] ?? "–")) + spread(place)), range: [-0.3, all.length - 0.7],
      tickvals: all.map((_, place) => place), ticktext: all.map((value) => drawn(brief(value, 16))) };
  }
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  const scaled = least > 0 && most / least >= 20 ? Math.log10 : (value) => value;
  const ticks = numbers.length <= 8 ? numbers : [0, 0.25, 0.5, 0.75, 1].map((share) => numbers[Math.round(share * (numbers.length - 1))]);
  return { label, values: runs.map((run) => scaled(Number(run.choices[name]))), range: [scaled(least), scaled(most)],
    tickvals: ticks.map(scaled), ticktext: ticks.map((value) => String(+value.toPrecision(3))) };
}

function drawParallel() {
  const runs = visible().filter((run) => valueOf(run) !== undefined).sort((a, b) => valueOf(a) - valueOf(b));
  const names = DATA.choices.filter((name) => name !== "seed" && new Set(DATA.runs.map((run) => run.choices[name])).size > 1);
  if (!runs.length || !names.length) return nothing("parallel", runs.length ? "No choice differs." : `No run shown has ${words(state.metric)}.`);
  clear("parallel");
  const values = runs.map((run) => valueOf(run));
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const wide = most > least ? [least, most] : [least - 0.5, most + 0.5];
  const outcome = { label: drawn(brief(words(state.metric), 26)), values, range: wide, tickformat: DATA.metrics[state.metric].share ? ".3~p" : "" };
  const scale = DATA.metrics[state.metric].rises ? ["pale", "s1"] : ["s1", "pale"];
  const left = 22 + 7 * Math.max(...DATA.runs.map((run) => Math.min(16, String(run.choices[names[0]]).length)));
  const halo = ["1px 1px", "-1px -1px", "1px -1px", "-1px 1px", "0 0"].map((place) => `${place} 2px ${colourOf("card")}`).join(", ");
  at("parallel").style.minWidth = `${Math.max(420, 130 * (names.length + 1))}px`;
  plot("parallel", [{ type: "parcoords", dimensions: [...names.map((name) => dimension(name, runs)), outcome],
    line: { color: values, cmin: wide[0], cmax: wide[1], colorscale: scale.map((name, place) => [place, colourOf(name)]), showscale: false },
    labelfont: { color: colourOf("soft"), size: 12 }, tickfont: { color: colourOf("ink"), size: 12, shadow: halo }, rangefont: { size: 1, color: "rgba(0,0,0,0)" },
    unselected: { line: { color: colourOf("line"), opacity: 0.3 } } }], { margin: { l: Math.max(60, left), r: 80, t: 44, b: 16 } });
}

// The runs that no other run beats on cost and on outcome.
function frontOf(points, rises) {
  const better = (a, b) => (rises ? a.y >= b.y : a.y <= b.y) && a.x <= b.x && (a.x < b.x || a.y !== b.y);
  return points.filter((point) => !points.some((other) => better(other, point))).sort((a, b) => a.x - b.x || a.y - b.y);
}

function drawPareto() {
  const cost = at("cost").value;
  const points = visible().map((run) => ({ run, x: run.costs[cost], y: valueOf(run) })).filter(({ x, y }) => x !== undefined && y !== undefined);
  at("front").textContent = "";
  key("pareto-key", [...new Set(points.map(({ run }) => run.group))].sort((a, b) => a - b));
  if (!points.length) return nothing("pareto", "No run shown has both numbers.");
  clear("pareto");
  const { rises } = DATA.metrics[state.metric];
  const front = rises === null ? [] : frontOf(points, rises);
  const on = (run) => state.chosen.includes(run.name);
  const xs = points.map(({ x }) => x);
  plot("pareto", [
    { type: "scatter", mode: "lines", x: front.map(({ x }) => x), y: front.map(({ y }) => y), hoverinfo: "skip",
      line: { color: colourOf("soft"), width: 1.5, dash: "dot", shape: "hv" } },
    { type: "scatter", mode: "markers", x: xs, y: points.map(({ y }) => y), text: points.map(({ run }) => called(run)),
      hovertemplate: "%{text}<br>%{y} at %{x}<extra></extra>",
      marker: { color: points.map(({ run }) => colourOf(groupColour(run.group))), opacity: points.map((point) => (front.includes(point) ? 1 : 0.55)),
        size: points.map((point) => (front.includes(point) ? 11 : 8)),
        line: { color: colourOf("ink"), width: points.map(({ run }) => (on(run) ? 2.5 : 0)) } } },
  ], { xaxis: { title: { text: DATA.costs[cost], font: { size: 12 }, standoff: 8 }, type: Math.max(...xs) > 20 * Math.min(...xs) ? "log" : "linear" },
    yaxis: axisOf(state.metric) });
  at("front").textContent = `On the front, from the cheapest: ${front.map(({ run }) => nameOf(run)).join(", ")}.`;
}

options("cost", Object.keys(DATA.costs), (name) => DATA.costs[name], "train_seconds", drawPareto);
parts.push(drawParallel, drawPareto);
