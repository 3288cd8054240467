// Charts of time series. A board holds the charts of a page: they share the x axis, smoothing, hover and zoom.
//
//   const board = new Board({ axis: "step", smoothing: 0.6 });
//   board.add(card, { title, load, xTitle });
//
// `card` is templates/components/chart.html. `load({ points, from, to, lines, axis })` resolves to lines
// { id, name, colour, dash, series } with series as the API gives them, or null where there is nothing.
// `lines` is what is shown already, so that a loader may fetch only what is new. Nothing is loaded or drawn
// before the chart is in view. A chart whose steps count something else names it: it has an x axis of its own.

import { csv, picture, save } from "./chart-files.js";
import { bytesize, number } from "./format.js";
import { cssColour, figure, shownValues } from "./plot.js";
import { CONFIG, loadPlotly } from "./plotly.js";
import { xValues } from "./series.js";

// After growing a chart rests twice as long as that took, so that a busy browser or server is asked less often.
const REST = 2;
const LEAST_REST_MS = 100;
const MOST_REST_MS = 2_000;
const MIN_POINTS = 200;
const MAX_POINTS = 1_500;
const FINEST_POINTS = 5_000;

export class Board {
  constructor(options = {}) {
    this.options = { axis: "step", smoothing: 0, weighting: "values", logX: false, logY: false, outliers: false, legend: true, ...options };
    this.range = null;
    this.hidden = new Set();
    this.charts = new Set();
    this.byElement = new WeakMap();
    this.inView = new IntersectionObserver((entries) => entries.forEach((entry) => this.seen(entry)), { rootMargin: "200px" });
    this.sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => this.byElement.get(target)?.resize()));
    document.body.addEventListener("theme", () => this.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  add(card, options) {
    const chart = new Chart(this, card, options);
    this.charts.add(chart);
    this.byElement.set(chart.plot, chart);
    this.inView.observe(chart.plot);
    this.sizes.observe(chart.plot);
    return chart;
  }

  seen({ target, isIntersecting }) {
    const chart = this.byElement.get(target);
    chart.visible = isIntersecting;
    if (isIntersecting) chart.catchUp();
  }

  /** Change what all charts share; `reload` when the numbers have to be fetched in another way. */
  set(changes, { reload = false } = {}) {
    // A stretch of one axis means nothing on another.
    if ("axis" in changes && changes.axis !== this.options.axis) this.range = null;
    Object.assign(this.options, changes);
    if (reload) this.reload();
    else this.redraw();
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }

  reload() {
    for (const chart of this.charts) chart.reload();
  }

  /** There are new points: charts in view fetch them soon, the others when they come into view. */
  grow() {
    for (const chart of this.charts) chart.grow();
  }

  zoom(range) {
    this.range = range;
    this.reload();
  }

  toggle(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.redraw();
  }

  hover(from, x) {
    if (from.xTitle) return;
    for (const chart of this.charts) if (chart !== from && !chart.xTitle) chart.hover(x);
  }

  unhover(from) {
    for (const chart of this.charts) if (chart !== from) chart.unhover();
  }
}

class Chart {
  constructor(board, card, { title, load, xTitle = "" }) {
    this.board = board;
    this.card = card;
    this.title = title;
    this.load = load;
    this.xTitle = xTitle;
    this.plot = card.querySelector(".chart");
    this.plot.setAttribute("aria-label", title);
    if (!board.options.legend) card.querySelector(".legend").remove();
    this.lines = [];
    this.logY = null;
    this.visible = false;
    this.stale = "all";
    this.undrawn = false;
    this.restsUntil = 0;
    card.addEventListener("click", (event) => this.click(event));
  }

  get options() {
    const options = { ...this.board.options, range: this.board.range, logY: this.logY ?? this.board.options.logY };
    // What is counted by doubling is drawn so, and a stretch of the other charts' axis means nothing here.
    return this.xTitle ? { ...options, axis: "step", logX: true, range: null, xTitle: this.xTitle } : options;
  }

  /** Whether the values are sizes, as the names of such metrics say. */
  get inBytes() {
    return /\bbytes$|_bytes$/.test(this.title);
  }

  get shownLines() {
    return this.lines.filter((line) => !this.board.hidden.has(line.id));
  }

  reload() {
    this.stale = "all";
    this.catchUp();
  }

  grow() {
    this.stale ||= "end";
    this.catchUp();
  }

  redraw() {
    this.undrawn = true;
    this.catchUp();
  }

  /** Do what is due, if the chart is in view, not busy and, if it only grows, has rested. */
  catchUp() {
    if (!this.visible || this.busy || this.waiting || !(this.stale || this.undrawn)) return;
    const wait = this.stale === "end" ? this.restsUntil - performance.now() : 0;
    if (wait > 0) {
      this.waiting = setTimeout(() => {
        this.waiting = undefined;
        this.catchUp();
      }, wait);
      return;
    }
    const began = performance.now();
    this.busy = this.work().finally(() => {
      const now = performance.now();
      this.restsUntil = now + Math.min(MOST_REST_MS, Math.max(LEAST_REST_MS, REST * (now - began)));
      this.busy = undefined;
      this.catchUp();
    });
  }

  async work() {
    try {
      if (this.stale) await this.fetch();
      await this.draw();
    } catch (error) {
      this.stale = "";
      this.undrawn = false;
      this.note(error.message, true);
    }
  }

  async fetch() {
    const points = Math.round(Math.min(MAX_POINTS, Math.max(MIN_POINTS, this.plot.clientWidth)));
    const lines = this.stale === "end" ? this.lines : [];
    const window_ = this.window();
    this.stale = "";
    this.lines = await this.load({ points, lines, axis: this.options.axis, ...window_ });
  }

  /** The steps that the zoom covers, found in what is shown now. */
  window() {
    const { axis, range } = this.options;
    if (!range) return {};
    if (axis === "step") {
      // Smoothing needs what came before.
      const before = (range[1] - range[0]) / 2;
      return { from: Math.max(0, Math.floor(range[0] - before)), to: Math.max(0, Math.ceil(range[1])) };
    }
    // Runs of a group are at different steps at the same place of another axis: only all of it can be read finer.
    if (this.lines.some(({ series }) => series?.members)) return { points: FINEST_POINTS };
    const within = this.lines.flatMap(({ series }) => {
      const x = series ? xValues(series, axis) : [];
      return x.flatMap((value, i) => (value >= range[0] && value <= range[1] ? [series.step[i], series.step[i] + series.width] : []));
    });
    return within.length ? { from: Math.min(...within), to: Math.max(...within) } : {};
  }

  async draw() {
    const Plotly = await loadPlotly();
    this.undrawn = false;
    const hasPoints = this.lines.some((line) => line.series?.step.length);
    this.card.classList.toggle("no-points", !hasPoints);
    this.legend();
    this.summary();
    if (!hasPoints) {
      this.note("Nothing logged yet.");
      return;
    }
    this.figure = figure(this.shownLines, { ...this.options, bytes: this.inBytes });
    await Plotly.react(this.plot, this.figure.data, this.figure.layout, CONFIG);
    if (!this.bound) this.bind();
  }

  bind() {
    this.bound = true;
    this.plot.on("plotly_hover", ({ points }) => this.board.hover(this, points[0].x));
    this.plot.on("plotly_unhover", () => this.board.unhover(this));
    this.plot.on("plotly_doubleclick", () => {
      window.Plotly.relayout(this.plot, { "xaxis.autorange": true, "yaxis.autorange": true });
      this.board.zoom(null);
    });
    this.plot.on("plotly_relayout", (change) => {
      if (this.xTitle || !("xaxis.range[0]" in change)) return;
      const ends = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      const { axis, logX } = this.options;
      const asNumber = (end) => (axis === "wall" ? Date.parse(`${end}Z`.replace(" ", "T")) : logX ? 10 ** end : end);
      this.board.zoom(ends.map(asNumber));
    });
  }

  hover(x) {
    if (this.visible && this.bound) window.Plotly.Fx.hover(this.plot, { xval: axisValue(x, this.options) }, "xy", true);
  }

  unhover() {
    if (this.visible && this.bound) window.Plotly.Fx.unhover(this.plot);
  }

  resize() {
    if (this.bound && this.visible) window.Plotly.Plots.resize(this.plot);
    else this.undrawn = true;
  }

  legend() {
    const list = this.card.querySelector(".legend");
    if (!list) return;
    list.replaceChildren(...this.lines.filter((line) => line.series).map((line) => this.legendEntry(line)));
  }

  legendEntry(line) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = `legend-entry run-${line.colour} ${line.dash ?? "solid"}`;
    button.dataset.line = line.id;
    button.setAttribute("aria-pressed", String(!this.board.hidden.has(line.id)));
    const value = document.createElement("b");
    value.textContent = (this.inBytes ? bytesize : number)(lastOf(shownValues(line, this.options)));
    button.append(swatch(), line.name, value);
    const entry = document.createElement("li");
    entry.append(button);
    return entry;
  }

  summary() {
    const said = this.lines.filter((line) => line.series).map((line) => `${line.name} ${number(lastOf(line.series.mean))}`);
    this.plot.setAttribute("aria-label", `${this.title}: ${said.slice(0, 10).join(", ") || "no values yet"}`);
    const odd = this.lines.reduce((sum, { series }) => sum + (series?.not_finite ?? []).reduce((n, [, count]) => n + count, 0), 0);
    this.note(odd ? `${number(odd)} value${odd === 1 ? " is" : "s are"} NaN or infinite (dotted lines).` : "");
  }

  note(text, isError = false) {
    const place = this.card.querySelector(".chart-note");
    place.textContent = text;
    place.classList.toggle("errors", isError);
  }

  click(event) {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.line) this.board.toggle(button.dataset.line);
    if ("chartLog" in button.dataset) {
      this.logY = !this.options.logY;
      button.setAttribute("aria-pressed", String(this.logY));
      this.redraw();
    }
    if ("chartExpand" in button.dataset) button.setAttribute("aria-pressed", String(this.card.classList.toggle("expanded")));
    if (button.dataset.chartSave) this.download(button.dataset.chartSave).catch((error) => this.note(error.message, true));
  }

  async download(format) {
    const name = this.title.replace(/[^\w.-]+/g, "-").toLowerCase();
    if (format === "csv") {
      // All of it, as fine as it can be had: what is drawn is coarser, or a stretch.
      const { axis } = this.options;
      const lines = await this.load({ points: FINEST_POINTS, lines: [], axis });
      const shown = lines.filter(({ id }) => !this.board.hidden.has(id));
      save(new Blob([csv(shown, axis)], { type: "text/csv" }), `${name}.csv`);
    } else if (this.figure) {
      const ground = cssColour("--surface");
      save(await picture(await loadPlotly(), this.figure, { title: this.title, format, ground }), `${name}.${format}`);
    }
  }
}

function axisValue(x, { axis, logX }) {
  if (axis === "wall") return Date.parse(`${x}Z`.replace(" ", "T")) || x;
  return logX ? Math.log10(x) : x;
}

function swatch() {
  const mark = document.createElement("i");
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

function lastOf(values) {
  return values.findLast((value) => value !== null && value !== undefined);
}
