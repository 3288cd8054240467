// Taking a chart away: as a picture, or its numbers as CSV.

import { xValues } from "./series.js";

const WIDTH = 1200;
const HEIGHT = 600;

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** `format` is png or svg. The picture has a ground and a legend of its own, so that it can stand alone. */
export async function picture(Plotly, { data, layout }, { title, format, ground }) {
  const alone = { ...layout, title: { text: title }, showlegend: true, paper_bgcolor: ground, margin: { l: 60, r: 20, t: 50, b: 60 } };
  const lines = data.map((trace) => ({ ...trace, showlegend: Boolean(trace.name) }));
  const url = await Plotly.toImage({ data: lines, layout: alone }, { format, width: WIDTH, height: HEIGHT, scale: 2 });
  return dataBlob(url);
}

function dataBlob(url) {
  const [head, body] = url.split(/,(.*)/s);
  const type = head.slice(5).split(";")[0];
  if (!head.endsWith("base64")) return new Blob([decodeURIComponent(body)], { type });
  return new Blob([Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0))], { type });
}

/** One row a bucket: line, step, time, x where it is something else, and the smallest, mean and largest value. */
export function csv(lines, axis) {
  const rows = [["line", "step", "time", axis === "step" ? null : axis, "min", "mean", "max", "values"]];
  for (const { name, series } of lines) {
    if (!series) continue;
    const x = xValues(series, axis);
    series.step.forEach((step, i) => {
      const time = new Date(series.time[i] * 1000).toISOString();
      const values = [series.min[i], series.mean[i], series.max[i], series.count[i]];
      rows.push([name, step, time, axis === "step" ? null : x[i], ...values]);
    });
  }
  const kept = (row) => (axis === "step" ? row.filter((_, column) => column !== 3) : row);
  return `${rows.map((row) => kept(row).map(cell).join(",")).join("\r\n")}\r\n`;
}

function cell(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  // A spreadsheet would take a text that begins like a formula for one.
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
