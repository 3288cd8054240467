// What charts do to numbers before they draw them. Pure functions: lists in, lists out; null is a gap.

// A time-weighted average forgets as much over a thousandth of the shown range as a plain one does over one value.
const X_UNITS = 1000;

/**
 * Exponential moving average without the bias towards the first value. `weight` is 0 (nothing) to below 1.
 *
 * `counts` says how many logged points each value is the mean of. A value of n points pulls as n equal points would, so
 * that the curve is the one that smoothing the logged points gives, however coarsely they are shown. What is constant
 * stays exactly as it is; gaps stay gaps and are stepped over.
 */
export function smooth(values, weight, counts = null) {
  return average(values, weight, (index) => counts?.[index] ?? 1, (index) => counts?.[index] ?? 1);
}

/** As `smooth`, for values that are unevenly spaced on the x axis: the further the last one lies back, the less it weighs. */
export function smoothOverX(values, weight, x) {
  const known = x.filter(Number.isFinite);
  const range = known.at(-1) - known[0];
  let before = null;
  const distance = (index) => {
    const units = before === null || !(range > 0) ? 1 : ((x[index] - x[before]) / range) * X_UNITS;
    before = index;
    return units;
  };
  return average(values, weight, distance, () => 1);
}

/** `age(i)` is how many units of forgetting value i brings, `points(i)` how many points it stands for. */
function average(values, weight, age, points) {
  if (!(weight > 0)) return [...values];
  let mean = 0;
  let mass = 0;
  return values.map((value, index) => {
    if (!Number.isFinite(value)) return null;
    const share = (1 - weight ** points(index)) / (1 - weight);
    mass = mass * weight ** age(index) + share;
    mean += (value - mean) * (share / mass);
    return mean;
  });
}

/**
 * The y range that leaves outliers outside: the values without the `tail` share at either end, and a quarter of their
 * range around them, never wider than all values. Null when that leaves nothing out.
 */
export function clipRange(lines, tail = 0.02) {
  const sorted = lines.flat().filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length < 3) return null;
  const outside = tail * (sorted.length - 1);
  const low = sorted[Math.ceil(outside)];
  const high = sorted[sorted.length - 1 - Math.ceil(outside)];
  const margin = (high - low) / 4;
  const range = [Math.max(sorted[0], low - margin), Math.min(sorted.at(-1), high + margin)];
  const everything = range[0] === sorted[0] && range[1] === sorted.at(-1);
  return everything || margin === 0 ? null : range;
}

/**
 * The x values of a series as the API answers it. `axis` is `step`, `relative` (seconds since the run began), `wall`
 * (milliseconds since the epoch, as date axes take them), or anything else for the metric that was asked for as `x`.
 * Groups of runs come with the places that they share on any axis.
 */
export function xValues(series, axis) {
  const own = () => series.x ?? series.step.map(() => null);
  if (series.members && axis !== "step") return axis === "wall" ? own().map((time) => time * 1000) : own();
  switch (axis) {
    case "step":
      return series.step;
    case "relative":
      return series.time.map((time) => time - series.start);
    case "wall":
      return series.time.map((time) => time * 1000);
    default:
      return own();
  }
}
