// A sweep's page: the best so far and parallel coordinates, redrawn in place as trials end.

import "./follow.js";

import { number } from "./format.js";
import { Parallel } from "./parallel.js";
import { CONFIG, loadPlotly } from "./plotly.js";
import { cssColour, layout } from "./plot.js";

const place = document.getElementById("sweep-best");
const FEW_TRIALS = 10;
const drawings = document.getElementById("sweep-drawings");
const parallel = new Parallel(document.getElementById("sweep-parallel"));

const read = () => JSON.parse(document.getElementById("sweep-data").textContent);

function bestSoFar(trials, lower) {
  let best = null;
  return trials.map(({ state, value }) => {
    if (state === "done" && (best === null || (lower ? value < best : value > best))) best = value;
    return best;
  });
}

function figure({ trials, lower, metric }) {
  const text = cssColour("--text-3");
  const points = (wanted, marker) => {
    const some = trials.filter(({ state }) => (state === "done") === wanted);
    const about = some.map((trial) => `trial ${trial.number}: ${number(trial.value)}<br>${Object.entries(trial.params).map(([path, value]) => `${path} ${typeof value === "number" ? number(value) : value}`).join("<br>").replaceAll("&", "&amp;")}`);
    return { type: "scatter", mode: "markers", x: some.map((trial) => trial.number), y: some.map(({ value }) => value), marker, hovertext: about, hoverinfo: "text" };
  };
  const base = layout({ axis: "trial", marks: [] });
  return {
    data: [
      points(false, { size: 7, symbol: "x-thin", line: { width: 1.5, color: text } }),
      points(true, { size: 6, color: cssColour("--run-0"), opacity: 0.65 }),
      { type: "scatter", mode: "lines", x: trials.map((trial) => trial.number), y: bestSoFar(trials, lower), line: { shape: "hv", width: 2, color: cssColour("--accent") }, hoverinfo: "skip" },
    ],
    layout: {
      ...base,
      hovermode: "closest",
      dragmode: false,
      xaxis: { ...base.xaxis, showspikes: false, ...(trials.length > FEW_TRIALS ? { tickformat: "d", nticks: 10 } : { dtick: 1 }) },
      yaxis: { ...base.yaxis, title: { text: metric, font: { size: 11 } } },
    },
  };
}

function showParallel({ axes, trials, metric }) {
  const done = trials.filter(({ state }) => state === "done");
  const settings = axes.map(({ path }) => ({ name: path, values: done.map(({ params }) => params[path]) }));
  const names = done.map(({ number: trial }) => ({ name: `trial ${trial}` }));
  if (done.length) parallel.draw([...settings, { name: metric, values: done.map(({ value }) => value) }], names);
}

async function draw() {
  const data = read();
  drawings.hidden = !data.trials.length;
  if (drawings.hidden) return;
  showParallel(data);
  const Plotly = await loadPlotly();
  const { data: traces, layout } = figure(data);
  await Plotly.react(place, traces, layout, CONFIG);
  place.setAttribute("aria-label", `${data.metric} of ${data.trials.length} trials, and the best so far`);
  place.dataset.drawn = "";
}

document.body.addEventListener("htmx:afterSettle", draw);
new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(() => "drawn" in place.dataset && window.Plotly.Plots.resize(place)).observe(place);
draw();
