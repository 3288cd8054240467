// A run's page: charts that grow while it trains, and a log that follows what is printed.

import "./follow.js";

import { openTab } from "./app.js";
import { boundsOf, metricsOfRun } from "./chart-data.js";
import { Board } from "./charts.js";
import { getJSON } from "./http.js";

const KEYS_MS = 5_000;
const STORE = "run-charts";
const MOST_LOG = 1_000_000;

// --- charts -----------------------------------------------------------------------------------------------------------

/** What the toolbars show, for all panels and for the next run one looks at. */
const options = { axis: "step", smoothing: 0, logY: false, outliers: false, ...remembered() };

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(STORE));
  } catch {
    return null;
  }
}

function remember() {
  try {
    localStorage.setItem(STORE, JSON.stringify(options));
  } catch {
    // The choice holds for this page.
  }
}

class RunCharts {
  constructor(panel) {
    this.panel = panel;
    this.run = panel.dataset.run;
    this.prefix = panel.dataset.prefix ?? "";
    this.board = new Board(options);
    this.shown = new Set();
    this.keysAt = 0;
    for (const card of panel.querySelectorAll("[data-chart]")) this.add(card, card.dataset.keys.split(" "));
    panel.addEventListener("tab-open", () => this.list());
    this.showOptions();
    this.list();
  }

  showOptions() {
    for (const input of this.panel.querySelectorAll("[data-chart-option]")) {
      const value = options[input.dataset.chartOption];
      if (input.type === "checkbox") input.checked = value;
      else input.value = value;
    }
  }

  /** What the run has logged, as of a few seconds ago at most. */
  keys() {
    if (Date.now() - this.keysAt >= KEYS_MS) {
      this.keysAt = Date.now();
      this.known = getJSON(`/api/v1/runs/${this.run}/metrics`).then(({ items }) => new Set(items.map(({ key }) => key)));
    }
    return this.known;
  }

  add(card, keys) {
    const banded = "band" in card.dataset;
    for (const key of banded ? keys.flatMap((key) => [key, ...boundsOf(key)]) : keys) this.shown.add(key);
    const title = card.querySelector("[data-chart-title]").textContent.trim();
    const load = metricsOfRun(this.run, keys, () => this.keys(), { banded });
    this.board.add(card, { title, load, xTitle: card.dataset.x });
  }

  /** Cards for what the run has logged and no chart shows yet; a metric and its `eval/` twin share one. */
  async list() {
    if (this.panel.hidden) return;
    // When nothing can be read the charts say so themselves.
    const keys = await this.keys().then((known) => [...known], () => []);
    const groups = Map.groupBy(keys.filter((key) => this.isNew(key)), baseOf);
    const place = this.panel.querySelector("[data-all-charts]");
    place.append(...[...groups].map(([base, twins]) => this.newCard(base, twins)));
    this.panel.querySelector("[data-others]")?.toggleAttribute("hidden", !place.children.length);
    if (keys.length) delete this.panel.dataset.blank;
  }

  isNew(key) {
    const belongs = this.prefix ? key.startsWith(this.prefix) : !key.startsWith("system/");
    return belongs && !this.shown.has(key);
  }

  newCard(base, keys) {
    const card = document.getElementById("chart-card").content.firstElementChild.cloneNode(true);
    card.querySelector("[data-chart-title]").textContent = words((keys.length > 1 ? base : keys[0]).slice(this.prefix.length));
    this.add(card, keys);
    return card;
  }

  follow({ topic, resync }) {
    if (topic !== `run:${this.run}`) return;
    if (resync || "blank" in this.panel.dataset) this.keysAt = 0;
    if (resync) this.board.reload();
    else this.board.grow();
    this.list();
  }
}

const SHORT = /\b(cpu|gpu|rss|kl)\b/g;
const words = (key) => key.replaceAll("_", " ").replace(SHORT, (short) => short.toUpperCase()).replace(/^[a-z]/, (first) => first.toUpperCase());
const baseOf = (key) => key.replace(/^eval\//, "");
const panels = [...document.querySelectorAll("[data-run-charts]")].map((panel) => new RunCharts(panel));

document.addEventListener("input", ({ target }) => {
  const name = target.dataset.chartOption;
  if (!name) return;
  options[name] = target.type === "checkbox" ? target.checked : target.type === "range" ? Number(target.value) : target.value;
  remember();
  for (const panel of panels) {
    panel.showOptions();
    panel.board.set({ [name]: options[name] }, { reload: name === "axis" });
  }
});
document.body.addEventListener("live:metrics", ({ detail }) => panels.forEach((panel) => panel.follow(detail)));
// A run that starts again may repeat steps: what is shown may no longer be what is stored.
document.body.addEventListener("live:status", ({ detail }) => panels.forEach((panel) => panel.follow({ ...detail, resync: true })));

// --- log --------------------------------------------------------------------------------------------------------------

let reading = false;
let missed = false;

/** Add what was printed since; the view stays at the end if it was there. */
async function growLog() {
  const log = document.querySelector("[data-log]:not([data-still])");
  if (!log) return;
  // What is printed while an answer is on its way may not be in it, and may be the last that is printed.
  missed = reading;
  if (reading) return;
  reading = true;
  try {
    for (let more = true; more && log.isConnected; ) {
      missed = false;
      const { text, end } = await getJSON(`/api/v1/runs/${log.dataset.log}/logs?start=${log.dataset.end}`);
      more = text !== "" || missed;
      log.dataset.end = end;
      if (text) append(log, text);
    }
  } catch {
    // The next event tries again.
  } finally {
    reading = false;
  }
}

function append(log, text) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  log.classList.remove("blank");
  log.append(text);
  while (log.textContent.length > MOST_LOG && log.childNodes.length > 1) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

document.body.addEventListener("live:log", growLog);
document.body.addEventListener("htmx:afterSettle", ({ target }) => {
  const log = target.id === "log-tail" && document.querySelector("[data-log]");
  if (!log) return;
  log.scrollTop = log.scrollHeight;
  growLog();
});

// --- the rest ---------------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const name = event.target.closest("[data-open-tab]")?.dataset.openTab;
  if (name) openTab(document.getElementById(`tab-${name}`), true);
});
