// From series to what Plotly draws. A line is { id, name, colour, dash, series }; colours are CSS variables of the page.

import { clipRange, smooth, smoothOverX, xValues } from "./series.js";

// With more lines than this the faint raw lines and the bands would hide more than they show.
const MOST_WITH_BAND = 6;
const MOST_GROUPS_WITH_BAND = 12;
const FEW_POINTS = 40;
const MOST_MARKS = 200;
const MOST_BINS = 24;
const DASHES = ["solid", "dash", "dot", "dashdot"];

export const AXES = {
  step: "step",
  epoch: "epoch",
  num_tokens: "tokens",
  samples: "samples",
  relative: "seconds since the start",
  wall: "time (UTC)",
};

/** The value of a CSS variable as the browser paints it: light-dark() is resolved for the theme in use. */
export function cssColour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

/** Plotly reads a few tags in its texts; names of runs are only ever text. */
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** The same dash for the n-th line that has to share a colour. */
export const dashOf = (place) => DASHES[place % DASHES.length];

export function figure(lines, options) {
  const { axis, logX, logY, outliers, range, bytes = false, xTitle = "" } = options;
  const shown = lines.filter((line) => line.series?.step.length);
  const band = shown.length <= (shown[0]?.series.members ? MOST_GROUPS_WITH_BAND : MOST_WITH_BAND);
  const data = shown.flatMap((line) => traces(line, { ...options, band, bytes }));
  const clip = outliers ? clipRange(shown.map((line) => shownValues(line, options))) : null;
  const ticks = xTitle && [...new Set(shown.flatMap(({ series }) => series.step))];
  return { data, layout: layout({ axis, logX, logY, clip, range, bytes, xTitle, ticks, marks: notFinite(shown, axis) }) };
}

/** What is drawn: smoothed, unless there are so few values that each is looked at (evaluations). */
export function shownValues({ series }, options) {
  return smoothed(series, series.mean, options);
}

/** `weighting` is `time` where the further values lie apart on the x axis, the less they shall share. */
function smoothed(series, values, { axis, smoothing, weighting }) {
  if (!isSmoothed(series, smoothing)) return values;
  return weighting === "time" ? smoothOverX(values, smoothing, xValues(series, axis)) : smooth(values, smoothing, series.count);
}

function isSmoothed(series, smoothing) {
  return smoothing > 0 && series.total_points > FEW_POINTS;
}

function traces(line, options) {
  const { axis, smoothing, band, bytes } = options;
  const { series } = line;
  const x = xValues(series, axis);
  const colour = cssColour(`--run-${line.colour}`);
  const base = { x, type: "scatter", mode: "lines", connectgaps: false, hoverinfo: "skip", showlegend: false };
  const extremes = { ...base, line: { width: 0, color: colour } };
  const found = [];
  const isSmooth = isSmoothed(series, smoothing);
  if (band && (series.members || (!isSmooth && (series.width > 1 || series.banded)))) {
    const [high, low] = series.members ? [series.max, series.min].map((end) => smoothed(series, end, options)) : [series.max, series.min];
    found.push({ ...extremes, y: high }, { ...extremes, y: low, fill: "tonexty", fillcolor: withAlpha(colour, 0.16) });
  }
  if (band && isSmooth && !series.members) found.push({ ...base, y: series.mean, opacity: 0.25, line: { width: 1, color: colour } });
  found.push({
    ...base,
    y: shownValues(line, options),
    name: plain(line.name),
    meta: line.id,
    mode: series.step.length <= FEW_POINTS ? "lines+markers" : "lines",
    marker: { size: 4, color: colour },
    line: { width: 1.75, color: colour, dash: line.dash },
    hoverinfo: "all",
    hovertemplate: `${bytes ? "%{y:.3~s}B" : "%{y:.4~g}"}${series.members ? " of %{customdata}" : ""}`,
    ...(series.members ? { customdata: series.members } : {}),
  });
  if (!series.members && series.resumed_from?.length) found.push(resumptions(line, x, options, colour));
  return found;
}

/** Rings on a run's line where it was resumed from a checkpoint. */
function resumptions(line, x, options, colour) {
  const { step, width, resumed_from: resumed } = line.series;
  const values = shownValues(line, options);
  const inside = resumed.filter((from) => from >= step[0] && from < step.at(-1) + width);
  const places = inside.map((from) => step.findLastIndex((at) => at <= from)).filter((place) => Number.isFinite(values[place]));
  return {
    x: places.map((place) => x[place]), y: places.map((place) => values[place]), type: "scatter", mode: "markers",
    marker: { symbol: "circle-open", size: 10, color: colour, line: { width: 2 } },
    name: plain(line.name), showlegend: false, hovertemplate: "resumed here",
  };
}

function withAlpha(colour, alpha) {
  return colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
}

/** Where values were NaN or infinite: a thin upright line each, so that they are seen though they cannot be drawn. */
function notFinite(lines, axis) {
  const marks = [];
  for (const { series } of lines) {
    const x = xValues(series, axis);
    for (const [step] of series.not_finite) marks.push(x[series.step.indexOf(step)]);
  }
  return marks.filter((x) => x !== null && x !== undefined).slice(0, MOST_MARKS);
}

/** Runs as points over two of their settings or metrics: `x` and `y` are { name, values, log }. */
export function scatter(names, colours, x, y) {
  const plainAxis = ({ values, name, log }) => {
    const numeric = values.every((value) => value === null || typeof value === "number");
    return { title: name, type: numeric ? (log ? "log" : "linear") : "category", values: numeric ? values : values.map((value) => (value === null ? "not set" : String(value))) };
  };
  const [across, up] = [plainAxis(x), plainAxis(y)];
  const data = [{
    x: across.values, y: up.values, type: "scatter", mode: "markers", text: names.map(plain), hovertemplate: "%{text}<br>%{x}, %{y}<extra></extra>",
    marker: { size: 9, color: colours.map((colour) => cssColour(`--run-${colour}`)) },
  }];
  const base = layout({ axis: "step", marks: [] });
  const axisOf = (own, { title, type }) => ({ ...own, title: { text: plain(title), font: { size: 11 }, standoff: 6 }, type, autorange: true, showspikes: false });
  return { data, layout: { ...base, hovermode: "closest", xaxis: axisOf(base.xaxis, across), yaxis: axisOf(base.yaxis, up), uirevision: `${x.name} ${y.name} ${x.log} ${y.log}` } };
}

/** How many runs have which values of a metric. */
export function histogram(name, values) {
  const data = [{
    x: values, type: "histogram", nbinsx: MOST_BINS, hovertemplate: "%{x}: %{y}<extra></extra>",
    marker: { color: cssColour("--accent"), line: { width: 1, color: cssColour("--surface") } },
  }];
  const base = layout({ axis: name, marks: [] });
  const plainAxis = { showspikes: false, title: { text: plain(name), font: { size: 11 }, standoff: 6 } };
  return { data, layout: { ...base, hovermode: "closest", xaxis: { ...base.xaxis, ...plainAxis }, yaxis: { ...base.yaxis, tickformat: "d", title: { text: "runs", font: { size: 11 } } }, uirevision: name } };
}

/** How every chart looks: its margins, axes and hover. */
export function layout({ axis, logX, logY, clip, range, bytes, xTitle, ticks, marks }) {
  const text = cssColour("--text-3");
  const line = cssColour("--line");
  const bad = cssColour("--bad");
  const common = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { size: 11 }, automargin: true };
  const limits = clip && (logY ? clip.map((value) => Math.log10(Math.max(value, Number.MIN_VALUE))) : clip);
  return {
    autosize: true,
    margin: { l: 44, r: 8, t: 6, b: 34 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 11, color: text },
    showlegend: false,
    hovermode: "x unified",
    hoversort: "value descending",
    hoverlabel: { bgcolor: cssColour("--surface"), bordercolor: cssColour("--line-strong"), font: { color: cssColour("--text"), size: 11 } },
    dragmode: "zoom",
    xaxis: {
      ...common,
      title: { text: xTitle || (AXES[axis] ?? axis), font: { size: 11 }, standoff: 6 },
      type: axis === "wall" ? "date" : logX ? "log" : "linear",
      showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "dot", spikecolor: text,
      ...(ticks ? { tickmode: "array", tickvals: ticks, ticktext: ticks.map(String) } : {}),
      ...(range ? { range: logX ? range.map(Math.log10) : range, autorange: false } : { autorange: true }),
    },
    yaxis: {
      ...common,
      type: logY ? "log" : "linear",
      exponentformat: "e",
      nticks: 6,
      ...(bytes ? { tickformat: ".3~s", ticksuffix: "B" } : {}),
      ...(limits ? { range: limits, autorange: false } : { autorange: true }),
    },
    shapes: marks.map((x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: bad, width: 1, dash: "dot" } })),
    uirevision: `${axis} ${logX} ${logY}`,
  };
}
