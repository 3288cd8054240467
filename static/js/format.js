// Numbers and times in the words of the server's own filters (webapp/ui/templatetags/studio.py).

const NOTHING = "–";

export function number(value) {
  if (value === null || value === undefined || value === "") return NOTHING;
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US");
  if (size < 1e-4 || size >= 1e7) {
    const [mantissa, exponent] = value.toExponential(3).split("e");
    return `${Number(mantissa)}e${Number(exponent)}`;
  }
  if (size >= 1e4) return Math.round(value).toLocaleString("en-US");
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 8 });
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  if (seconds < 10) return `${Number(Math.max(0, seconds).toPrecision(2))} s`;
  let left = Math.round(seconds);
  const parts = [];
  for (const [unit, length] of UNITS) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count || parts.length) parts.push(count ? `${count} ${unit}` : "");
    if (parts.length === 2) break;
  }
  return parts.filter(Boolean).join(" ");
}

export function ago(date, now = Date.now()) {
  const seconds = (now - date.getTime()) / 1000;
  const ahead = seconds < -1;
  const size = Math.abs(seconds);
  if (size < 10) return ahead ? "in a moment" : "just now";
  const [unit, length] = UNITS.find(([, length]) => size >= length);
  const text = `${Math.floor(size / length)} ${unit}`;
  return ahead ? `in ${text}` : `${text} ago`;
}

export function bytesize(bytes) {
  if (!Number.isFinite(bytes)) return NOTHING;
  let size = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return unit === "B" || size >= 100 ? `${Math.round(size)} ${unit}` : `${Number(size.toPrecision(3))} ${unit}`;
    size /= 1000;
  }
  return `${Number(size.toPrecision(3))} TB`;
}
