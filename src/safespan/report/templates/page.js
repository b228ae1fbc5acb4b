"use strict";
const SPECS = JSON.parse(document.getElementById("specs").textContent);
const system = matchMedia("(prefers-color-scheme: dark)");
const views = {};

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Theme: the system's, or as chosen.
const root = document.documentElement, button = document.getElementById("theme");
const THEMES = ["", "light", "dark"], WORDS = { "": "as the system", light: "light", dark: "dark" };

function dark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

function theme(name) {
  if (name) root.dataset.theme = name; else delete root.dataset.theme;
  button.lastChild.textContent = ": " + WORDS[name];
  try { localStorage.setItem("safespan-theme", name); } catch { /* no storage for files here: the choice is not kept */ }
}

button.addEventListener("click", () => {
  theme(THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length]);
  draw();
});
try { theme(THEMES.includes(localStorage.getItem("safespan-theme")) ? localStorage.getItem("safespan-theme") : ""); } catch { theme(""); }

// Panels side by side as far as the width allows, else under one another, each less what stands beside it.
function fit(spec, width, less) {
  spec = structuredClone(spec);
  let n = Math.min(spec.columns, spec.concat.length);
  while (n > 1 && width / n < 240) n = Math.ceil(n / 2);
  spec.columns = n;
  const panel = Math.floor((width - spec.spacing * (n - 1)) / n);
  for (const part of spec.concat) part.width = Math.max(80, panel - less);
  return spec;
}

// Axes and names need a width that is known once they are drawn: what sticks out is taken from the panels, so that no
// letter is made smaller.
let turn = 0;
async function embed(target, spec, width) {
  const options = { renderer: "svg", actions: false, logLevel: 1, config: config(width), tooltip: { theme: dark() ? "dark" : "light" } };
  const own = turn;
  let less = 56, kept = less, before = Infinity, last = false;
  for (;;) {
    const fitted = fit(spec, width, less), result = await vegaEmbed(target, fitted, options);
    const across = target.querySelector("svg").width.baseVal.value, over = across - width;
    // Where all is drawn anew meanwhile, that drawing has the place. A legend or a title stays as wide as it is.
    if (over <= 0 || own !== turn || last) return result;
    last = across >= before;
    [less, kept] = last ? [kept, kept] : [less + Math.ceil(over / fitted.columns), less];
    before = across;
    result.finalize();
  }
}

function config(width) {
  const night = dark(), ink = night ? "#e7e9ec" : "#1d2126", soft = night ? "#a3abb6" : "#5a6370";
  const grid = night ? "#2c323a" : "#ececea";
  return {
    background: "transparent", font: "system-ui, Segoe UI, Helvetica, Arial, sans-serif",
    axis: { labelColor: soft, titleColor: ink, gridColor: grid, domainColor: soft, tickColor: soft, titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12, tickCount: 5 },
    legend: { labelColor: ink, titleColor: ink, orient: "top", columns: width < 560 ? 2 : 0, symbolSize: 80, symbolOpacity: 1, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 600 },
    title: { color: ink, fontSize: 13, fontWeight: 600, anchor: "start" },
    view: { stroke: null }, rule: { color: ink },
  };
}

function draw() {
  // A chart in a section that is folded has no width of its own: all charts are as wide as one another.
  const common = Math.max(...[...document.querySelectorAll(".chart")].map(chart => chart.clientWidth)) || root.clientWidth - 60;
  turn += 1;
  for (const [name, spec] of Object.entries(SPECS)) {
    const target = document.getElementById("chart-" + name), width = target.clientWidth || common;
    if (views[name]) views[name].finalize();
    embed(target, spec, width).then(result => {
      views[name] = result.view;
      const drawing = target.querySelector("svg");
      drawing.setAttribute("role", "img");
      drawing.setAttribute("aria-label", target.getAttribute("aria-label"));
      // Groups that Vega calls symbols but gives no name say nothing to anyone.
      for (const group of drawing.querySelectorAll("g[role='graphics-symbol']:not([aria-label])")) group.removeAttribute("role");
    }).catch(error => { target.textContent = "This chart could not be drawn: " + error.message; });
  }
}

let drawn = innerWidth, waiting;
addEventListener("resize", () => {
  if (innerWidth === drawn) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => { drawn = innerWidth; draw(); }, 200);
});
system.addEventListener("change", draw);
draw();

// A link to a folded section opens it, and paper shows all.
function unfold(sections) { for (const place of sections) place.open = true; }
addEventListener("hashchange", () => unfold(document.querySelectorAll(CSS.escape(location.hash.slice(1)) ? `#${CSS.escape(location.hash.slice(1))} > details.folded` : "details.none")));
addEventListener("beforeprint", () => unfold(document.querySelectorAll("details.folded")));

// The data behind each chart: a table on demand, and a file.
function csv(columns, rows) {
  const cell = given => {
    if (given === null || given === undefined) return "";
    // A spreadsheet would take a text that begins so for a formula.
    const text = typeof given === "string" && /^[=+\-@\t\r]/.test(given) ? "'" + given : String(given);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows.map(row => columns.map(name => row[name]))].map(line => line.map(cell).join(",")).join("\n") + "\n";
}

function save(name, text) {
  const link = element("a", null, { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const SHOWN = 300;
for (const place of document.querySelectorAll("details.data")) {
  const name = place.dataset.figure, rows = SPECS[name].datasets.rows, columns = Object.keys(rows[0] || {});
  const file = element("button", "Save as CSV", { type: "button" });
  file.addEventListener("click", () => save(name + ".csv", csv(columns, rows)));
  place.append(file);
  place.addEventListener("toggle", () => {
    if (!place.open || place.querySelector("table")) return;
    const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    for (const column of columns) head.append(element("th", column, { scope: "col" }));
    for (const row of rows.slice(0, SHOWN)) {
      const line = body.insertRow();
      for (const column of columns) line.append(element("td", row[column] === null ? "–" : row[column]));
    }
    const box = element("div", null, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Data of " + name });
    box.append(table);
    place.append(box);
    if (rows.length > SHOWN) place.append(element("p", `The first ${SHOWN} of ${rows.length} rows; the file has all.`, { class: "soft" }));
  });
}

// The responses of the models: nothing is shown before it is asked for, and it is never taken for markup.
const generations = document.getElementById("generations");
if (generations) {
  const table = JSON.parse(generations.textContent), place = document.getElementById("browser");
  const rows = table.rows.map(row => Object.fromEntries(table.columns.map((name, i) => [name, row[i]])));
  const list = place.querySelector("ol"), count = place.querySelector("output"), more = place.querySelector("button");
  const filters = { model: place.querySelector("#by-model"), kind: place.querySelector("#by-kind"), score: place.querySelector("#by-score") };
  const words = place.querySelector("#by-words"), PAGE = 25;
  let chosen = [], shown = 0;

  const score = row => row.score === null ? "none" : String(row.score);
  const value = (row, field) => field === "score" ? score(row) : row[field];
  for (const [field, select] of Object.entries(filters))
    for (const seen of [...new Set(rows.map(row => value(row, field)))].sort()) select.append(element("option", seen, { value: seen }));

  function line(item, label, text, kind) {
    if (text === null || text === "") return;
    const made = element("p", null, { class: kind });
    made.append(element("span", label + ": ", { class: "soft" }), text);
    item.append(made);
  }

  function next() {
    for (const row of chosen.slice(shown, shown + PAGE)) {
      const item = element("li"), refused = row.refused === null ? "" : row.refused ? " · refused" : " · not refused";
      item.append(element("p", `${row.model} · ${row.kind} · score ${score(row)}${refused}`, { class: "who" }));
      line(item, "prompt", row.prompt, "prompt");
      line(item, "response", row.response, "response");
      line(item, "expected", row.target, "target");
      line(item, "why (" + row.judge + ")", row.reason, "reason");
      list.append(item);
    }
    shown = Math.min(chosen.length, shown + PAGE);
    count.textContent = `${shown} of ${chosen.length} shown`;
    more.hidden = shown === chosen.length;
  }

  function filter() {
    const sought = words.value.toLowerCase();
    chosen = rows.filter(row => Object.entries(filters).every(([field, select]) => !select.value || value(row, field) === select.value)
      && (!sought || [row.prompt, row.response].some(text => text && text.toLowerCase().includes(sought))));
    list.replaceChildren();
    shown = 0;
    next();
  }

  for (const control of [...Object.values(filters), words]) control.addEventListener("input", filter);
  more.addEventListener("click", next);
  place.addEventListener("toggle", () => { if (place.open && !shown) filter(); });
}
