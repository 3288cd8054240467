// The reward workbench: settings that only matter for some rewards, and how scores are spread.

import { number } from "./format.js";
import { showNeeded, putBack } from "./needs.js";
import { CONFIG, loadPlotly } from "./plotly.js";
import { cssColour } from "./plot.js";

const form = document.getElementById("trial-form");
if (form) {
  showNeeded(form);
  form.addEventListener("change", () => showNeeded(form));
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-reset]");
    if (button) putBack(form, button);
  });
}

const stored = document.getElementById("histograms");
const histograms = stored ? JSON.parse(stored.textContent) : [];

function figure({ low, high, counts: bins }) {
  const text = cssColour("--text-3");
  const line = cssColour("--line");
  // Where every score is the same there is one bar.
  const varies = high > low;
  const counts = varies ? bins : [bins.reduce((sum, count) => sum + count, 0)];
  const width = varies ? (high - low) / bins.length : 0.05;
  const first = varies ? low : low - width / 2;
  const x = counts.map((_, place) => first + (place + 0.5) * width);
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { size: 11 }, automargin: true };
  const edge = (place) => number(first + place * width);
  const hover = counts.map((count, place) => `${varies ? `${edge(place)} to ${edge(place + 1)}` : number(low)}: ${count}`);
  return {
    data: [{ type: "bar", x, y: counts, width, marker: { color: cssColour("--accent") }, hovertext: hover, hoverinfo: "text" }],
    layout: {
      autosize: true,
      bargap: 0.05,
      margin: { l: 40, r: 8, t: 6, b: 30 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 11, color: text },
      showlegend: false,
      dragmode: false,
      xaxis: varies ? axis : { ...axis, range: [low - 1, low + 1] },
      yaxis: { ...axis, nticks: 5, rangemode: "tozero" },
    },
  };
}

async function draw() {
  const places = document.querySelectorAll("[data-histogram]");
  if (!places.length) return;
  const Plotly = await loadPlotly();
  for (const place of places) {
    const { data, layout } = figure(histograms[Number(place.dataset.histogram)]);
    await Plotly.react(place, data, layout, CONFIG);
    place.dataset.drawn = "";
  }
}

draw();
new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
let resized;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => document.querySelectorAll("[data-histogram][data-drawn]").forEach((place) => window.Plotly.Plots.resize(place)), 200);
});
