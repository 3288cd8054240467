// Compare, settings: what the settings that differ do to a metric. The address holds what is chosen.

import { getJSON } from "./http.js";
import { number } from "./format.js";
import { Parallel } from "./parallel.js";
import { runColour, sourceOf } from "./chart-data.js";
import { histogram, scatter } from "./plot.js";
import { CONFIG, loadPlotly } from "./plotly.js";

const MOST_SHOWN = 12;

const runs = JSON.parse(document.getElementById("compare-runs").textContent);
const panel = document.querySelector("[data-study]");
const fields = Object.fromEntries([...(panel?.querySelectorAll("[name]") ?? [])].map((field) => [field.name, field]));
let shown = null;

const chosen = (name) => (fields[name].type === "checkbox" ? (fields[name].checked ? "1" : "") : fields[name].value);

function fill() {
  const address = new URLSearchParams(location.search);
  const before = { sx: fields.sx.value, sy: `metric:${fields.metric.value}` };
  for (const [name, field] of Object.entries(fields)) {
    const wanted = address.get(name) ?? before[name];
    if (field.type === "checkbox") field.checked = Boolean(wanted);
    else if ([...(field.options ?? [])].some(({ value }) => value === wanted)) field.value = wanted;
  }
}

function remember() {
  const address = new URLSearchParams(location.search);
  for (const name of Object.keys(fields)) {
    if (chosen(name)) address.set(name, chosen(name));
    else address.delete(name);
  }
  history.replaceState(history.state, "", `?${address}${location.hash}`);
}

/** The metrics that are shown, that of the parallel coordinates first. */
function metrics() {
  const wanted = ["sx", "sy"].map(chosen).filter((name) => name.startsWith("metric:"));
  return [...new Set([chosen("metric"), ...wanted.map((name) => name.slice("metric:".length))])];
}

async function read() {
  const parameters = new URLSearchParams([...metrics().map((key) => ["metric", key]), ["figure", chosen("figure")]]);
  const source = sourceOf(runs).replace("/compare?", "/compare/settings?");
  try {
    shown = await getJSON(`${source}${parameters}`);
    problem("");
    await draw();
  } catch (error) {
    problem(error.message);
  }
}

function problem(text) {
  panel.querySelector("[data-study-problem]").textContent = text;
}

function values(name) {
  const [kind, key] = name.split(/:(.*)/s);
  return (kind === "metric" ? shown.metrics : shown.settings)[key];
}

async function draw() {
  const metric = chosen("metric");
  const order = shown.importance.map(({ field }) => field);
  const rank = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const names = Object.keys(shown.settings).sort((a, b) => rank(a) - rank(b)).slice(0, MOST_SHOWN);
  const axes = [...names.map((name) => ({ name, values: shown.settings[name] })), { name: metric, values: shown.metrics[metric] }];
  parallel.draw(axes, shown.runs);
  drawImportance();
  const [x, y] = ["sx", "sy"].map((axis) => ({ name: chosen(axis).split(/:(.*)/s)[1], values: values(chosen(axis)), log: fields[`${axis}log`].checked }));
  const colours = shown.runs.map(({ id }) => runColour(id));
  const { data, layout } = scatter(shown.runs.map(({ name }) => name), colours, x, y);
  const Plotly = await loadPlotly();
  await Plotly.react(panel.querySelector("[data-scatter]"), data, layout, CONFIG);
  const known = shown.metrics[metric].filter(Number.isFinite);
  panel.querySelector("[data-histogram-runs]").textContent = `${number(known.length)} of ${number(runs.length)} runs have a value`;
  const spread = histogram(metric, known);
  await Plotly.react(panel.querySelector("[data-histogram]"), spread.data, spread.layout, CONFIG);
}

function drawImportance() {
  const list = panel.querySelector("[data-importance]");
  const rows = shown.importance.slice(0, MOST_SHOWN).map(({ field, explained, correlation, runs: count }) => {
    const row = document.createElement("li");
    const meter = Object.assign(document.createElement("meter"), { value: explained, max: 1 });
    meter.setAttribute("aria-label", `Share that ${field} explains`);
    const name = Object.assign(document.createElement("code"), { textContent: field });
    const way = correlation === null ? "" : correlation > 0 ? ", rises with it" : ", falls with it";
    const said = Object.assign(document.createElement("span"), { className: "small faint", textContent: `${Math.round(explained * 100)}% over ${number(count)} runs${explained ? way : ""}` });
    row.append(name, meter, said);
    return row;
  });
  if (!rows.length) rows.push(Object.assign(document.createElement("li"), { className: "muted", textContent: "Too few runs have this metric to tell." }));
  list.replaceChildren(...rows);
}

let parallel;

/** Nothing is read before the panel is looked at. */
function open() {
  if (panel.hidden || document.getElementById("settings").hidden || shown) return;
  read();
}

if (panel && runs.length > 1) {
  panel.hidden = false;
  fill();
  parallel = new Parallel(panel.querySelector("[data-parallel]"));
  panel.addEventListener("change", ({ target }) => {
    remember();
    if (target.name.endsWith("log")) draw();
    else read();
  });
  document.getElementById("settings").addEventListener("tab-open", open);
  document.body.addEventListener("theme", () => shown && draw());
  open();
}
