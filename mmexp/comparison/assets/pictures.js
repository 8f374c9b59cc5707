// What two chosen runs retrieved for the same queries, and which settings they differ in.
"use strict";
const same = (query) => JSON.stringify([query.text, query.picture]);
const named = (name) => DATA.runs.find((run) => run.name === name);
const titleOf = (run) => `${nameOf(run)}: ${DATA.groups[run.group].label}`;
const picture = (one) => (one.picture ? [element("img", { src: DATA.pictures[one.picture], alt: one.text })] : []);

function pair() {
  // Where nobody chose: the best run and the best of another configuration, of those with pictures.
  const sorted = inOrder(DATA.runs, { value: (run) => valueOf(run, DATA.selected) }, !DATA.metrics[DATA.selected].rises);
  const shown = [...sorted.filter((run) => DATA.galleries[run.name]), ...sorted];
  const other = shown.filter((run) => run.group !== (named(state.chosen[0]) ?? shown[0])?.group);
  const names = [...state.chosen, ...[...shown.slice(0, 1), ...other, ...shown].map((run) => run.name)];
  return [...new Set(names)].slice(0, 2).map(named);
}

function drawSides() {
  const runs = pair();
  ["first", "second"].forEach((id, place) => options(id, DATA.runs.map((run) => run.name),
    (name) => titleOf(named(name)), runs[place]?.name,
    (name) => { state.chosen = runs.map((run, other) => (other === place ? name : run.name)); redraw(); }));
  const missing = runs.filter((run) => !DATA.galleries[run.name]);
  if (missing.length || runs.length < 2) {
    const told = runs.length < 2 ? "There is one run alone." : `No gallery.json in ${missing.map((run) => run.name).join(" and ")}: `
      + "a run writes it with its report where it retrieves; older runs and runs that did not end have none.";
    options("block", [], String, "", drawQueries);
    at("sides").replaceChildren(element("p", { class: "nothing" }, told));
  } else {
    const [one, two] = runs.map((run) => DATA.galleries[run.name]);
    const titles = Object.keys(one).filter((title) => two[title]);
    options("block", titles, String, titles.includes(at("block").value) ? at("block").value : titles[0], drawQueries);
    drawQueries();
  }
  drawSettings(runs);
}

function drawQueries() {
  const runs = pair();
  const [one, two] = runs.map((run) => DATA.galleries[run.name][at("block").value] ?? []);
  const both = one.map((query) => [query, two.find((other) => same(other) === same(query))]).filter(([, other]) => other);
  if (!both.length) return at("sides").replaceChildren(element("p", { class: "nothing" }, "The two runs were asked nothing that is the same."));
  const found = (place) => both.filter((queries) => queries[place].retrieved.some((answer) => answer.right)).length;
  const sum = runs.map((run, place) => `${found(place)} (${nameOf(run)})`).join(", ");
  const heads = element("div", { class: "query heads" }, element("span"), ...runs.map((run) => element("span", {}, titleOf(run))));
  at("sides").replaceChildren(element("p", { class: "sum" }, `Queries, of ${both.length}, with a right answer among those shown: ${sum}.`), heads,
    ...both.map((queries) => element("div", { class: "query" }, element("div", { class: "ask" }, ...picture(queries[0]), element("span", { title: queries[0].text }, queries[0].text)),
      ...queries.map((query, place) => answers(query.retrieved, titleOf(runs[place]))))));
}

function answers(retrieved, name) {
  const texts = retrieved.every((answer) => !answer.picture);
  const items = retrieved.map((answer) => {
    const told = `${answer.right ? "right" : "wrong"}, ${answer.score.toFixed(2)}: ${answer.text}`;
    return element("li", { class: answer.right ? "right" : null, title: told, "aria-label": told }, ...(texts ? [element("span", {}, answer.text)] : picture(answer)));
  });
  return element("div", { "data-run": name }, element("ol", { class: texts ? "answers texts" : "answers" }, ...items));
}

function drawSettings(runs) {
  const places = runs.map((run) => DATA.runs.indexOf(run));
  const told = Object.entries(DATA.settings).map(([name, values]) => [name, ...places.map((place) => values[place])]);
  const rows = told.filter(([, first, second]) => first !== second);
  at("settings").tHead.replaceChildren(element("tr", {}, ...["key", ...runs.map((run) => run.name)].map((name) => (
    element("th", { scope: "col", class: "text" }, name)))));
  at("settings").tBodies[0].replaceChildren(...(rows.length ? rows : [["nothing", "", ""]]).map(([name, ...values]) => element("tr", {},
    element("th", { scope: "row", class: "text" }, name), ...values.map((value) => element("td", { class: "text long" }, value)))));
}

parts.push(drawSides);
redraw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
