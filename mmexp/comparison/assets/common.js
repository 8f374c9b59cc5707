// What all parts of the page share: the data, what is chosen, how numbers are written and how plots look.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const COLOURED = 5; // configurations with a colour of their own, the best ones; more could not be told apart
const state = { metric: DATA.selected, filter: "", sort: "metric", rising: null, chosen: [] };
const at = (id) => document.getElementById(id);

// Text only ever becomes a text node: what a run, a file or a caption is called is never read as HTML.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "colour") made.style.setProperty("--c", value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Plotly reads tags and entities in every text that it draws.
const drawn = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const brief = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const groupColour = (group) => (group < COLOURED ? `s${group + 1}` : "soft");

function faded(colour, alpha) {
  const hex = colour.length === 4 ? [...colour.slice(1)].map((digit) => digit + digit).join("") : colour.slice(1);
  return `rgba(${[0, 2, 4].map((place) => parseInt(hex.slice(place, place + 2), 16)).join(",")},${alpha})`;
}

function count(value) {
  if (value === undefined || value === null) return "–";
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (Math.abs(value) >= size) return `${+(value / (letter === "k" ? 1e3 : size)).toPrecision(3)}\u00a0${letter}`;
  return String(+value.toPrecision(4));
}

function shown(metric, value, unit = true) {
  if (value === undefined || value === null) return "–";
  if (DATA.metrics[metric].share) return (100 * value).toFixed(1) + (unit ? "\u00a0%" : "");
  return Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(4));
}

const words = (metric) => [DATA.metrics[metric].words, DATA.metrics[metric].split].filter(Boolean).join(", ");
const visible = () => DATA.runs.filter((run) => matches(run, state.filter));
const valueOf = (run, metric = state.metric) => run.metrics[metric];
const seeds = (run) => (run.choices.seed === undefined ? "" : `, seed ${run.choices.seed}`);
// A number alone does not say that it is a run.
const nameOf = (run) => (/^\d/.test(run.name) ? `run ${run.name}` : run.name);
const called = (run) => drawn(`${nameOf(run)}: ${DATA.groups[run.group].label}${seeds(run)}`);

// Terms of one key widen, terms of several keys narrow; any other word must stand somewhere in the run's row.
function matches(run, filter) {
  const exact = {};
  for (const term of filter.split(/\s+/).filter(Boolean)) {
    const [key, ...value] = term.split("=");
    if (value.length && DATA.choices.includes(key)) (exact[key] ??= []).push(value.join("="));
    else if (!rowText(run).includes(term.toLowerCase())) return false;
  }
  return Object.entries(exact).every(([key, values]) => values.includes(choiceTerm(run.choices[key])));
}
const choiceTerm = (value) => String(value ?? "–").replace(/\s+/g, "");
const rowText = (run) => [run.name, run.status, ...Object.values(run.choices)].join(" ").toLowerCase();

// Plots ------------------------------------------------------------------------------------------------------------
function layout(more) {
  const axis = { gridcolor: colourOf("line"), zeroline: false, linecolor: colourOf("line"), automargin: true };
  const { xaxis, yaxis, ...rest } = more;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 12, color: colourOf("soft") },
    margin: { l: 10, r: 14, t: 10, b: 10, autoexpand: true },
    hoverlabel: { bgcolor: colourOf("card"), bordercolor: colourOf("line"), font: { color: colourOf("ink") }, align: "left" },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}
const axisOf = (metric, title = true) => ({
  title: title ? { text: drawn(words(metric)), font: { size: 12 }, standoff: 8 } : undefined,
  tickformat: DATA.metrics[metric].share ? ".3~p" : "",
});

function plot(id, traces, shape) {
  Plotly.react(at(id), traces, layout(shape), { displayModeBar: false, responsive: true });
}

function nothing(id, text) {
  Plotly.purge(at(id));
  at(id).replaceChildren(element("p", { class: "nothing" }, text));
}

function clear(id) {
  at(id).querySelector(".nothing")?.remove();
}

function key(id, groups) {
  const told = groups.filter((group) => group < COLOURED);
  const items = told.map((group) => element("span", { colour: `var(--${groupColour(group)})`, title: DATA.groups[group].title },
    DATA.groups[group].label));
  if (groups.length > told.length) items.push(element("span", { colour: "var(--soft)" }, `${groups.length - told.length} others`));
  at(id).replaceChildren(...items);
}

function options(id, names, told, chosen, change) {
  at(id).replaceChildren(...names.map((name) => element("option", { value: name, selected: name === chosen }, told(name))));
  at(id).onchange = () => change(at(id).value);
}

const parts = []; // functions that redraw a part of the page
const redraw = () => parts.forEach((part) => part());
