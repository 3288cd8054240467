// Parallel coordinates, drawn as SVG: a line for each run, through its value on each axis. (Plotly's own would need a
// script that makes scripts, which the page's policy forbids.)
//
// An axis is { title, values } of a few kinds, or { title, log } of numbers. A line is { values, quality, title }: one
// value for each axis, and how good it is from 0 to 1.

import { number } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
const HEIGHT = 260;
const TOP = 30;
const BOTTOM = 24;
const SIDE = 64;
const TICKS = 4;
// An axis is taken hold of this far beside it and beyond its ends.
const GRAB = 14;
const BEYOND = 8;
const CLICK = 4;

function svg(name, attributes = {}, text = "") {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

/** Where values stand on an axis, 0 at its foot and 1 at its head, and what is written beside it. */
function scaleOf(axis, lines, place) {
  if (axis.values) {
    const kinds = axis.values.map((value) => JSON.stringify(value));
    const at = (index) => (kinds.length > 1 ? index / (kinds.length - 1) : 0.5);
    const text = (value) => (value === true ? "on" : value === false ? "off" : typeof value === "number" ? number(value) : String(value ?? "none"));
    return { of: (value) => at(kinds.indexOf(JSON.stringify(value))), ticks: axis.values.map((value, index) => [at(index), text(value)]) };
  }
  const seen = lines.map(({ values }) => values[place]).filter(Number.isFinite);
  const to = axis.log ? Math.log10 : (value) => value;
  const from = axis.log ? (value) => 10 ** value : (value) => value;
  const [low, high] = [to(Math.min(...seen)), to(Math.max(...seen))];
  const of = (value) => (high > low ? (to(value) - low) / (high - low) : 0.5);
  const shares = high > low ? Array.from({ length: TICKS }, (_, tick) => tick / (TICKS - 1)) : [0.5];
  return { of, ticks: shares.map((share) => [share, number(Number(from(low + share * (high - low)).toPrecision(3)))]) };
}

export class ParallelCoordinates {
  constructor(place) {
    this.place = place;
    this.brushes = new Map();
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(place);
  }

  show(axes, lines) {
    this.axes = axes;
    this.lines = lines;
    this.draw();
  }

  draw() {
    const width = this.place.clientWidth;
    if (!this.axes || !width) return;
    // Where there is no room for all axes side by side, the drawing scrolls.
    this.width = Math.max(width, this.axes.length * 120);
    this.scales = this.axes.map((axis, place) => scaleOf(axis, this.lines, place));
    const drawing = svg("svg", { viewBox: `0 0 ${this.width} ${HEIGHT}`, width: this.width, height: HEIGHT, role: "img" });
    drawing.setAttribute("aria-label", `${this.lines.length} runs by ${this.axes.map(({ title }) => title).join(", ")}`);
    this.paths = [...this.lines].sort((a, b) => a.quality - b.quality).map((line) => this.path(line));
    drawing.append(...this.paths.map(({ element }) => element), ...this.axes.map((axis, place) => this.axis(axis, place)));
    this.place.replaceChildren(drawing);
    this.filter();
  }

  x(place) {
    return SIDE + (this.axes.length > 1 ? (place / (this.axes.length - 1)) * (this.width - 2 * SIDE) : 0);
  }

  y(share) {
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  }

  path(line) {
    const shares = line.values.map((value, place) => this.scales[place].of(value));
    const points = shares.map((share, place) => `${this.x(place).toFixed(1)} ${this.y(share).toFixed(1)}`);
    const element = svg("path", { d: `M${points.join("L")}` });
    element.style.setProperty("--quality", `${Math.round(100 * line.quality)}%`);
    element.style.setProperty("--weight", line.quality);
    element.append(svg("title", {}, line.title));
    return { element, shares };
  }

  axis(axis, place) {
    const x = this.x(place);
    const group = svg("g", { class: "parallel-axis" });
    group.append(svg("line", { x1: x, x2: x, y1: this.y(0), y2: this.y(1) }));
    group.append(svg("text", { x, y: 14, "text-anchor": place === 0 ? "start" : place === this.axes.length - 1 ? "end" : "middle", class: "parallel-title" }, axis.title));
    const last = place > 0 && place === this.axes.length - 1;
    for (const [share, text] of this.scales[place].ticks) {
      group.append(svg("text", { x: last ? x + 6 : x - 6, y: this.y(share) + 4, "text-anchor": last ? "start" : "end" }, text));
    }
    const band = svg("rect", { x: x - 6, width: 12, class: "parallel-brush" });
    const grab = svg("rect", { x: x - GRAB, y: TOP - BEYOND, width: 2 * GRAB, height: HEIGHT - TOP - BOTTOM + 2 * BEYOND, class: "parallel-grab" });
    group.append(band, grab);
    this.mark(band, place);
    grab.addEventListener("pointerdown", (event) => this.drag(event, grab, band, place));
    return group;
  }

  drag(event, grab, band, place) {
    const box = grab.getBoundingClientRect();
    const shareOf = ({ clientY }) => Math.min(1, Math.max(0, 1 - (clientY - box.top - BEYOND) / (box.height - 2 * BEYOND)));
    const [from, began] = [shareOf(event), event.clientY];
    grab.setPointerCapture(event.pointerId);
    const move = (next) => {
      const to = shareOf(next);
      if (Math.abs(next.clientY - began) < CLICK) this.brushes.delete(place);
      else this.brushes.set(place, [Math.min(from, to), Math.max(from, to)]);
      this.mark(band, place);
      this.filter();
    };
    move(event);
    grab.addEventListener("pointermove", move);
    grab.addEventListener("lostpointercapture", () => grab.removeEventListener("pointermove", move), { once: true });
  }

  mark(band, place) {
    const [low, high] = this.brushes.get(place) ?? [0, 0];
    band.setAttribute("y", this.y(high));
    band.setAttribute("height", this.y(low) - this.y(high));
  }

  /** Lines that do not pass through what is marked on each axis stand back. */
  filter() {
    for (const { element, shares } of this.paths) {
      const passes = [...this.brushes].every(([place, [low, high]]) => shares[place] >= low && shares[place] <= high);
      element.classList.toggle("off", !passes);
    }
  }
}
