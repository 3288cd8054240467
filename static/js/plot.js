// From series to what Plotly draws. A line is { id, name, colour, dash, series }; colours are CSS variables of the page.

import { clipRange, smooth, xValues } from "./series.js";

// With more lines than this the faint raw lines and the bands would hide more than they show.
const MOST_WITH_BAND = 6;
const FEW_POINTS = 40;
const MOST_MARKS = 200;
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

export function figure(lines, { axis, smoothing, logX, logY, outliers, range, bytes = false, xTitle = "" }) {
  const shown = lines.filter((line) => line.series?.step.length);
  const band = shown.length <= MOST_WITH_BAND;
  const data = shown.flatMap((line) => traces(line, { axis, smoothing, band, bytes }));
  const clip = outliers ? clipRange(shown.map((line) => shownValues(line, smoothing))) : null;
  const ticks = xTitle && [...new Set(shown.flatMap(({ series }) => series.step))];
  return { data, layout: layout({ axis, logX, logY, clip, range, bytes, xTitle, ticks, marks: notFinite(shown, axis) }) };
}

/** What is drawn: smoothed, unless there are so few values that each is looked at (evaluations). */
export function shownValues({ series }, smoothing) {
  return isSmoothed(series, smoothing) ? smooth(series.mean, smoothing, series.count) : series.mean;
}

function isSmoothed(series, smoothing) {
  return smoothing > 0 && series.total_points > FEW_POINTS;
}

function traces(line, { axis, smoothing, band, bytes }) {
  const { series } = line;
  const x = xValues(series, axis);
  const colour = cssColour(`--run-${line.colour}`);
  const base = { x, type: "scatter", mode: "lines", connectgaps: false, hoverinfo: "skip", showlegend: false };
  const extremes = { ...base, line: { width: 0, color: colour } };
  const found = [];
  const smoothed = isSmoothed(series, smoothing);
  if (band && !smoothed && (series.width > 1 || series.banded)) {
    found.push({ ...extremes, y: series.max }, { ...extremes, y: series.min, fill: "tonexty", fillcolor: withAlpha(colour, 0.16) });
  }
  if (band && smoothed) found.push({ ...base, y: series.mean, opacity: 0.25, line: { width: 1, color: colour } });
  found.push({
    ...base,
    y: shownValues(line, smoothing),
    name: plain(line.name),
    meta: line.id,
    mode: series.step.length <= FEW_POINTS ? "lines+markers" : "lines",
    marker: { size: 4, color: colour },
    line: { width: 1.75, color: colour, dash: line.dash },
    hoverinfo: "all",
    hovertemplate: bytes ? "%{y:.3~s}B" : "%{y:.4~g}",
  });
  return found;
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

function layout({ axis, logX, logY, clip, range, bytes, xTitle, ticks, marks }) {
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
