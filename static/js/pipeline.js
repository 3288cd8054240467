// A pipeline's page: the main chart of each stage beside the others', from the moment its run begins.

import "./follow.js";

import { metricsOfRun } from "./chart-data.js";
import { Board } from "./charts.js";
import { getJSON } from "./http.js";

const KEYS_MS = 5_000;

/** The chart of the run that carries out a stage. Steps of different stages have nothing in common: each zooms alone. */
class StageChart {
  constructor(place, run, template) {
    this.run = run;
    this.keysAt = 0;
    this.board = new Board();
    this.card = template.content.firstElementChild.cloneNode(true);
    place.replaceChildren(this.card);
    const title = this.card.querySelector("[data-chart-title]").textContent.trim();
    const { keys, x } = this.card.dataset;
    const load = metricsOfRun(run, keys.split(" "), () => this.logged(), { banded: "band" in this.card.dataset });
    this.chart = this.board.add(this.card, { title, load, xTitle: x });
  }

  /** What the run has logged, as of a few seconds ago at most. */
  logged() {
    if (Date.now() - this.keysAt >= KEYS_MS) {
      this.keysAt = Date.now();
      this.known = getJSON(`/api/v1/runs/${this.run}/metrics`).then(({ items }) => new Set(items.map(({ key }) => key)));
    }
    return this.known;
  }

  follow({ topic, resync }) {
    if (topic !== `run:${this.run}`) return;
    // What it knew before the first points were logged is out of date, though the library may still be on its way.
    if (resync || !this.chart.lines.some(({ series }) => series?.step.length)) this.keysAt = 0;
    if (resync) this.board.reload();
    else this.board.grow();
  }
}

const charts = new Map();

/** Charts for the runs that stages have now; a stage that was begun anew gets a new one. */
function show() {
  for (const stage of document.querySelectorAll("[data-stage]")) {
    const { stage: name, run } = stage.dataset;
    const place = document.querySelector(`[data-stage-chart="${name}"]`);
    const template = stage.querySelector("template");
    if (run && template && charts.get(name)?.run !== run) charts.set(name, new StageChart(place, run, template));
    if (!run && charts.delete(name)) place.replaceChildren();
  }
}

const tell = (detail) => charts.forEach((chart) => chart.follow(detail));

document.body.addEventListener("htmx:afterSettle", show);
document.body.addEventListener("live:metrics", ({ detail }) => tell(detail));
// A run that starts again may repeat steps: what is shown may no longer be what is stored.
document.body.addEventListener("live:status", ({ detail }) => tell({ ...detail, resync: true }));
show();
