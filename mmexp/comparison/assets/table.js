// The tools above, and the table of runs.
"use strict";
const COLUMNS = () => [
  { id: "name", told: "run", value: (run) => run.name },
  { id: "metric", told: words(state.metric), value: valueOf, written: (value) => shown(state.metric, value) },
  { id: "status", told: "status", value: (run) => run.status, text: true },
  ...DATA.choices.map((name) => ({ id: `choice ${name}`, told: name, value: (run) => run.choices[name], text: true })),
  ...DATA.main.filter((metric) => metric !== state.metric).map((metric) => (
    { id: metric, told: words(metric), value: (run) => valueOf(run, metric), written: (value) => shown(metric, value) })),
  { id: "seconds", told: "seconds", value: (run) => run.costs.train_seconds ?? run.costs.wall_seconds, written: count },
  { id: "weights", told: "weights", value: (run) => run.costs.parameters, written: count },
];

// Numbers in names and choices sort as numbers; what is missing stands last either way.
function inOrder(runs, column, rising) {
  const compared = new Intl.Collator("en", { numeric: true }).compare;
  const compare = (a, b) => {
    const numbers = [Number(a), Number(b)];
    const both = numbers.every((number) => !Number.isNaN(number)) ? numbers[0] - numbers[1] : compared(a, b);
    return rising ? both : -both;
  };
  const known = (run) => column.value(run) !== undefined;
  return [...runs.filter(known).sort((a, b) => compare(column.value(a), column.value(b))), ...runs.filter((run) => !known(run))];
}

const risingOf = (column) => state.rising ?? (column.id === "metric" ? !DATA.metrics[state.metric].rises : true);

function drawTable() {
  const columns = COLUMNS();
  const sorted = columns.find((column) => column.id === state.sort) ?? columns[0];
  const head = columns.map((column) => element("th", {
    scope: "col", class: column.id === "name" ? "name" : column.text ? "text" : null,
    "aria-sort": column === sorted ? (risingOf(column) ? "ascending" : "descending") : null,
  }, element("button", { type: "button", onclick: () => sortBy(column) }, column.told)));
  at("runs").tHead.replaceChildren(element("tr", {}, ...head));
  const rows = inOrder(visible(), sorted, risingOf(sorted));
  at("runs").tBodies[0].replaceChildren(...rows.map((run) => drawRow(run, columns)));
  at("shown").textContent = `${rows.length} of ${DATA.runs.length} runs`;
  const notes = rows.filter((run) => run.note).map((run) => (
    element("li", {}, element("b", { class: run.status }, `${run.name} ${run.status}: `), run.note.trim().split("\n")[0])));
  at("notes").replaceChildren(...notes);
}

function drawRow(run, columns) {
  const place = state.chosen.indexOf(run.name);
  const name = run.link ? element("a", { href: run.link, onclick: (event) => event.stopPropagation() }, run.name) : run.name;
  const mark = place < 0 ? [] : [element("span", { class: "mark" }, ["first", "second"][place])];
  const dot = element("i", { colour: `var(--${groupColour(run.group)})`, title: DATA.groups[run.group].label });
  const cells = columns.slice(1).map((column) => {
    const value = column.value(run);
    const kind = [column.text && "text", column.id === "metric" && "metric", column.id === "status" && run.status];
    return element("td", { class: kind.filter(Boolean).join(" ") || null, title: column.id === "status" ? run.note || null : null },
      column.written ? column.written(value) : value ?? "–");
  });
  return element("tr", { "data-run": run.name, class: place < 0 ? null : "chosen", onclick: () => choose(run.name) },
    element("th", { scope: "row", class: "name" }, dot, name, ...mark), ...cells);
}

function sortBy(column) {
  state.rising = state.sort === column.id ? !risingOf(column) : column.id === "metric" ? null : Boolean(column.text || column.id === "name");
  state.sort = column.id;
  drawTable();
}

// Two runs are chosen at most: a third takes the place of the one that was chosen first.
function choose(name) {
  state.chosen = state.chosen.includes(name) ? state.chosen.filter((one) => one !== name) : [...state.chosen, name].slice(-2);
  redraw();
}

function drawTerms() {
  const written = state.filter.split(/\s+/).filter(Boolean);
  const told = DATA.choices.map((name) => [name, [...new Set(DATA.runs.map((run) => choiceTerm(run.choices[name])))]]);
  at("terms").replaceChildren(...told.filter(([, values]) => values.length <= 12).map(([name, values]) => {
    values.sort(new Intl.Collator("en", { numeric: true }).compare);
    return element("span", { class: "terms" }, name, ...values.map((value) => {
      const term = `${name}=${value}`;
      const pressed = written.includes(term);
      const after = pressed ? written.filter((one) => one !== term) : [...written, term];
      return element("button", { type: "button", "aria-pressed": pressed, onclick: () => filterBy(after.join(" ")) }, value);
    }));
  }));
}

function filterBy(text) {
  state.filter = text;
  if (at("filter").value !== text) at("filter").value = text;
  redraw();
}

function drawMetrics() {
  const splits = Map.groupBy(Object.keys(DATA.metrics).filter((name) => DATA.metrics[name].final), (name) => DATA.metrics[name].split);
  at("metric").replaceChildren(...[...splits].map(([split, names]) => element("optgroup", { label: split || "run" },
    ...names.map((name) => element("option", { value: name, selected: name === state.metric }, words(name))))));
}

at("metric").onchange = () => {
  Object.assign(state, { metric: at("metric").value, sort: "metric", rising: null });
  redraw();
};
at("filter").oninput = () => filterBy(at("filter").value);
at("tools").onsubmit = (event) => event.preventDefault();
const statuses = Object.entries(Object.groupBy(DATA.runs, (run) => run.status)).map(([status, runs]) => `${runs.length} ${status}`);
at("counts").textContent = [statuses.join(", "), DATA.choices.length && `differing in ${DATA.choices.join(", ")}`].filter(Boolean).join("; ");
drawMetrics();
parts.push(drawTable, drawTerms);
