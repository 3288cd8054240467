// The charts of a run's page: the method's own set, then everything else the run has logged, growing while it trains.

import { metricsOfRun } from "./chart-data.js";
import { Board } from "./charts.js";
import { getJSON } from "./http.js";

const LIST_MS = 10_000;

class RunCharts {
  constructor(section) {
    this.section = section;
    this.run = section.dataset.run;
    this.prefix = section.dataset.prefix ?? "";
    this.board = new Board({ smoothing: this.smoothing });
    this.shown = new Set();
    this.logged = this.readKeys();
    for (const card of section.querySelectorAll("[data-chart]")) this.add(card, card.dataset.keys.split(" "));
    section.addEventListener("input", (event) => this.control(event.target));
    this.addOthers();
  }

  get smoothing() {
    return Number(this.section.querySelector("[data-chart-smoothing]")?.value ?? 0);
  }

  control({ dataset, value, checked }) {
    if ("chartX" in dataset) this.board.set({ axis: value }, { reload: true });
    if ("chartSmoothing" in dataset) this.board.set({ smoothing: Number(value) });
    if ("chartLog" in dataset) this.board.set({ logY: checked });
    if ("chartOutliers" in dataset) this.board.set({ outliers: checked });
  }

  add(card, keys) {
    for (const key of keys) this.shown.add(key);
    this.board.add(card, { title: card.querySelector("[data-chart-title]").textContent.trim(), load: metricsOfRun(this.run, keys, () => this.logged) });
  }

  async readKeys() {
    this.listedAt = Date.now();
    const { items } = await getJSON(`/api/v1/runs/${this.run}/metrics`);
    return new Set(items.map(({ key }) => key));
  }

  /** Cards for what the run has logged and no chart shows yet; a metric and its `eval/` twin share one. */
  async addOthers() {
    const groups = new Map();
    for (const key of await this.logged) {
      if (this.shown.has(key) || !key.startsWith(this.prefix) || (!this.prefix && key.startsWith("system/"))) continue;
      const base = key.replace(/^eval\//, "");
      groups.set(base, [...(groups.get(base) ?? []), key]);
    }
    const place = this.section.querySelector("[data-all-charts]");
    for (const [base, keys] of groups) place.append(this.newCard(base, keys));
    this.section.querySelector("[data-no-others]").hidden = place.children.length > 0;
  }

  newCard(title, keys) {
    const card = document.getElementById("chart-card").content.firstElementChild.cloneNode(true);
    card.querySelector("[data-chart-title]").textContent = title.slice(this.prefix.length).replaceAll("_", " ");
    this.add(card, keys);
    return card;
  }

  follow({ topic, resync }) {
    if (topic !== `run:${this.run}`) return;
    if (resync) this.board.reload();
    else this.board.grow();
    if (!resync && Date.now() - this.listedAt < LIST_MS) return;
    this.logged = this.readKeys();
    this.addOthers();
  }
}

const sections = [...document.querySelectorAll("[data-run-charts]")].map((section) => new RunCharts(section));
document.body.addEventListener("live:metrics", ({ detail }) => sections.forEach((section) => section.follow(detail)));
// A run that starts again may repeat steps: what is shown may no longer be what is stored.
document.body.addEventListener("live:status", ({ detail }) => sections.forEach((section) => section.follow({ ...detail, resync: true })));

// The log is read from its end.
function scrollLog() {
  const log = document.querySelector("[data-log]");
  if (log) log.scrollTop = log.scrollHeight;
}
document.body.addEventListener("htmx:afterSettle", ({ target }) => {
  if (target.id === "log-tail") scrollLog();
});
