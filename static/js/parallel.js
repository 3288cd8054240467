// Parallel coordinates: an upright axis for each setting, the metric last, and a line for each run. Drawn by hand as SVG:
// Plotly's own writes programs while it runs, which the page's content security policy forbids.

import { number } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 300;
const TOP = 40;
const BOTTOM = 24;
const LEAST_GAP = 110;
const SIDE = 60;
const MOST_TICKS = 6;
// Numbers above 0 over more than so many powers of ten are laid out by their logarithm.
const DECADES = 1.5;

function make(name, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}

const textOf = (value) => (value === null || value === undefined ? "not set" : typeof value === "string" ? value : JSON.stringify(value));
const short = (text) => (text.length > 14 ? `${text.slice(0, 13)}…` : text);

/** Where values lie on an axis, 0 at the bottom to 1 at the top; null for a number that is not there. */
export function scaleOf(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length && known.every((value) => typeof value === "number")) {
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const log = low > 0 && Math.log10(high / low) > DECADES;
    const lay = log ? Math.log10 : (value) => value;
    const span = lay(high) - lay(low);
    const place = (value) => (value === null || value === undefined ? null : span ? (lay(value) - lay(low)) / span : 0.5);
    const different = [...new Set(known)].sort((a, b) => a - b);
    const ticks = different.length <= MOST_TICKS ? different : [0, 1, 2, 3, 4].map((i) => (log ? 10 ** (lay(low) + (span * i) / 4) : low + (span * i) / 4));
    return { place, ticks: ticks.map((value) => [place(value), number(value)]) };
  }
  const names = [...new Set(values.map(textOf))].sort();
  const place = (value) => (names.length > 1 ? names.indexOf(textOf(value)) / (names.length - 1) : 0.5);
  return { place, ticks: names.slice(0, 2 * MOST_TICKS).map((name) => [names.length > 1 ? names.indexOf(name) / (names.length - 1) : 0.5, name]) };
}

export class Parallel {
  constructor(element) {
    this.element = element;
    this.kept = new Map();
    element.addEventListener("pointerdown", (event) => this.begin(event));
    new ResizeObserver(() => this.axes && this.render()).observe(element);
  }

  /** `axes` are { name, values }, of which the last colours the lines; `runs` are { id, name }. */
  draw(axes, runs) {
    this.axes = axes.map((axis) => ({ ...axis, ...scaleOf(axis.values) }));
    this.runs = runs;
    for (const name of this.kept.keys()) if (!axes.some((axis) => axis.name === name)) this.kept.delete(name);
    this.render();
  }

  render() {
    const gap = Math.max(LEAST_GAP, (this.element.clientWidth - 2 * SIDE) / Math.max(1, this.axes.length - 1));
    const width = Math.max(this.element.clientWidth, 2 * SIDE + gap * (this.axes.length - 1));
    this.x = (place) => SIDE + gap * place;
    this.y = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    const picture = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": this.summary() });
    picture.append(...this.lines(), ...this.axes.map((axis, place) => this.axisOf(axis, place)));
    this.element.replaceChildren(picture);
    this.picture = picture;
    this.fade();
  }

  summary() {
    return `${this.runs.length} runs over ${this.axes.map(({ name }) => name).join(", ")}`;
  }

  lines() {
    const last = this.axes.at(-1);
    return this.runs.map(({ name }, run) => {
      const shares = this.axes.map(({ place, values }) => place(values[run]));
      // A run that has no value on an axis passes from its neighbour to the next.
      const points = shares.flatMap((share, place) => (share === null ? [] : [`${this.x(place)},${this.y(share)}`]));
      const share = last.place(last.values[run]);
      const line = make("polyline", { points: points.join(" "), class: share === null ? "blank" : `heat-${Math.round(share * 4)}` });
      const said = this.axes.map((axis) => `${axis.name}: ${textOf(axis.values[run])}`).join("\n");
      line.append(make("title", {}, `${name}\n${said}`));
      return line;
    });
  }

  axisOf({ name, ticks }, place) {
    const group = make("g", { "data-axis": place });
    const x = this.x(place);
    const title = make("text", { x, y: 16, "text-anchor": "middle", class: "name" }, short(name));
    title.append(make("title", {}, name));
    group.append(title, make("line", { x1: x, x2: x, y1: this.y(1), y2: this.y(0) }));
    for (const [share, text] of ticks) group.append(make("text", { x: x + 6, y: this.y(share) + 4 }, short(text)));
    const kept = this.kept.get(name);
    if (kept) group.append(make("rect", { x: x - 6, width: 12, y: this.y(kept[1]), height: this.y(kept[0]) - this.y(kept[1]), class: "kept" }));
    group.append(make("rect", { x: x - 14, width: 28, y: this.y(1) - 8, height: this.y(0) - this.y(1) + 16, class: "axis-grip" }));
    return group;
  }

  /** Lines that miss what is kept on any axis are faded. */
  fade() {
    const lines = this.picture.querySelectorAll("polyline");
    this.runs.forEach((_, run) => {
      const passes = this.axes.every(({ name, place, values }) => {
        const kept = this.kept.get(name);
        const share = place(values[run]);
        return !kept || (share !== null && share >= kept[0] && share <= kept[1]);
      });
      lines[run].classList.toggle("faded", !passes);
    });
  }

  begin(event) {
    const group = event.target.closest?.("[data-axis]");
    if (!group || !event.target.matches(".axis-grip")) return;
    event.preventDefault();
    const { name } = this.axes[Number(group.dataset.axis)];
    const top = this.picture.getBoundingClientRect().top;
    const share = ({ clientY }) => Math.min(1, Math.max(0, (HEIGHT - BOTTOM - (clientY - top)) / (HEIGHT - TOP - BOTTOM)));
    const from = share(event);
    const move = (moved) => {
      const to = share(moved);
      // A click lets go; a short drag still holds the value that it is at.
      if (Math.abs(to - from) < 0.01) this.kept.delete(name);
      else this.kept.set(name, [Math.min(from, to) - 0.01, Math.max(from, to) + 0.01]);
      this.render();
    };
    const end = (ended) => {
      move(ended);
      document.removeEventListener("pointermove", move);
      document.removeEventListener("pointerup", end);
    };
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", end);
  }
}
