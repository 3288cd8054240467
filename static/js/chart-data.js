// Loaders for charts: metrics of one run, or one metric of many runs, from the API.

import { getJSON, RequestError } from "./http.js";
import { dashOf } from "./plot.js";

const RUN_COLOURS = 10;
const COLUMNS = ["step", "time", "count", "min", "mean", "max"];

/** The colour of a run: the same on every page (the tag `run_colour` on the server). */
export function runColour(id) {
  return Number.parseInt(id.replaceAll("-", "").slice(-6), 16) % RUN_COLOURS;
}

function query(parameters) {
  return new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
}

/** One metric of one run; null when the run has not logged it. */
async function readSeries(run, key, parameters) {
  const path = key.split("/").map(encodeURIComponent).join("/");
  try {
    return await getJSON(`/api/v1/runs/${run}/metrics/${path}?${query(parameters)}`);
  } catch (error) {
    if (error instanceof RequestError && error.status === 404) return null;
    throw error;
  }
}

/** What is known with what is new at its end. New points take the place of old ones from their first step on. */
export function extended(old, added) {
  if (!added.step.length) return { ...old, total_points: added.total_points, resumed_from: added.resumed_from };
  const kept = old.step.filter((step) => step < added.step[0]).length;
  const columns = COLUMNS.map((name) => [name, [...old[name].slice(0, kept), ...added[name]]]);
  const odd = [...old.not_finite.filter(([step]) => step < added.step[0]), ...added.not_finite];
  return { ...added, ...Object.fromEntries(columns), not_finite: odd };
}

/** A series to its present end; only the end is fetched where every point is shown. */
async function grown(run, key, old, points) {
  if (!old?.step.length || old.width > 1 || old.step.length >= points) return readSeries(run, key, { points });
  const added = await readSeries(run, key, { points, from: old.step.at(-1) });
  return added && added.width === 1 ? extended(old, added) : readSeries(run, key, { points });
}

/** The metrics that bound the lines of a chart with bands. */
export const boundsOf = (key) => [`${key}/low`, `${key}/high`];

/** A metric with the band that two others give it, each logged at the same steps. */
async function readBanded(run, key, parameters) {
  const [series, low, high] = await Promise.all([key, ...boundsOf(key)].map((one) => readSeries(run, one, parameters)));
  return series && low && high ? { ...series, min: low.mean, max: high.mean, banded: true } : series;
}

/**
 * A loader for several metrics of one run. `eval/x` is drawn like `x`, dotted. `logged()` resolves to the set of keys
 * that the run has logged; others are not asked for. With `banded` each is read with its band.
 */
export function metricsOfRun(run, keys, logged, { banded = false } = {}) {
  const bases = [...new Set(keys.map((key) => key.replace(/^eval\//, "")))];
  const lines = keys.map((key) => ({
    id: key,
    name: key,
    colour: (runColour(run) + bases.indexOf(key.replace(/^eval\//, ""))) % RUN_COLOURS,
    dash: key.startsWith("eval/") ? "dot" : "solid",
  }));
  return async ({ points, from, to, lines: shown }) => {
    const known = await logged();
    const read = (key) => {
      if (!known.has(key)) return null;
      if (banded) return readBanded(run, key, { points, from, to });
      if (from !== undefined) return readSeries(run, key, { points, from, to });
      return grown(run, key, shown.find(({ id }) => id === key)?.series, points);
    };
    return Promise.all(lines.map(async (line) => ({ ...line, series: await read(line.id) })));
  };
}

/** Runs as lines: each in its own colour, with another dash where an earlier one has the same. */
export function runLines(runs) {
  const taken = new Map();
  return runs.map(({ id, name }) => {
    const colour = runColour(id);
    const place = taken.get(colour) ?? 0;
    taken.set(colour, place + 1);
    return { id, name, colour, dash: dashOf(place) };
  });
}

/** Groups of runs as lines; their colours are those of the legend. */
export function groupLines(groups) {
  return groups.map(({ id, name }) => {
    const place = Number(id.slice(id.lastIndexOf("-") + 1));
    return { id, name, colour: place % RUN_COLOURS, dash: dashOf(Math.floor(place / RUN_COLOURS)) };
  });
}

/** Where the API tells of several runs. */
export function sourceOf(runs) {
  return `/api/v1/compare?${new URLSearchParams(runs.map(({ id }) => ["run", id]))}&`;
}

/**
 * A loader for one metric of many runs. `grouping()` tells at the time of loading the `group` and `band` where runs
 * are drawn as groups. `source` is the address that has them, ready for further parameters.
 */
export function metricOfRuns(runs, key, grouping, source = runs.length > 1 ? sourceOf(runs) : null) {
  const lines = runLines(runs);
  return async ({ points, from, to, axis }) => {
    const { group, band } = grouping();
    if (!source) return [{ ...lines[0], series: await readSeries(lines[0].id, key, { points, from, to }) }];
    const parameters = query({ key, points, from, to, x: axis, ...(group ? { group, band } : {}) });
    const answer = await getJSON(`${source}${parameters}`);
    if (answer.groups.length) return groupLines(answer.groups).map((line, place) => ({ ...line, series: answer.groups[place] }));
    const series = new Map(answer.runs.map((run) => [run.id, run]));
    return lines.map((line) => ({ ...line, series: series.get(line.id)?.step.length ? series.get(line.id) : null }));
  };
}
