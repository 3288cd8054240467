// The Compare page: one chart for each metric, all runs in it. The address holds the view, so that a link shows it again.

import { toast } from "./app.js";
import { groupLines, metricOfRuns, runLines } from "./chart-data.js";
import { Board } from "./charts.js";

const GROW_MS = 5_000;
const DEFAULTS = { x: "step", smoothing: "0.6", weighting: "values", band: "std" };

const runs = JSON.parse(document.getElementById("compare-runs").textContent);
const groups = JSON.parse(document.getElementById("compare-groups").textContent);
// Elsewhere than in the API, where the page is shown to others.
const elsewhere = document.getElementById("compare-source");
const source = elsewhere ? JSON.parse(elsewhere.textContent) : undefined;
const controls = document.querySelector("[data-compare-controls]");
const address = new URLSearchParams(location.search);

class CompareBoard extends Board {
  zoom(range) {
    super.zoom(range);
    remember("zoom", range ? range.map((end) => Number(end.toPrecision(8))).join(",") : "");
  }

  toggle(id) {
    super.toggle(id);
    remember("hide", [...this.hidden].join(","));
    showVisibility();
  }
}

function remember(name, value) {
  if (!value || value === DEFAULTS[name]) address.delete(name);
  else address.set(name, value);
  history.replaceState(history.state, "", `?${address}${location.hash}`);
}

function readControls() {
  const form = Object.fromEntries([...controls.querySelectorAll("[name]")].map((field) => [field.name, field]));
  return {
    axis: form.x.value,
    smoothing: Number(form.smoothing.value),
    weighting: form.weighting.value,
    logX: form.logx.checked,
    logY: form.logy.checked,
    outliers: form.outliers.checked,
  };
}

/** How the runs are grouped; the page itself knows by what. */
function grouping() {
  return { group: groups.length ? controls.querySelector("[name=group]")?.value ?? "link" : "", band: controls.querySelector("[name=band]")?.value };
}

function fillControls() {
  for (const field of controls.querySelectorAll("[name]")) {
    if (!address.has(field.name) || field.name === "group") continue;
    if (field.type === "checkbox") field.checked = true;
    else field.value = address.get(field.name);
  }
}

function showVisibility() {
  for (const button of document.querySelectorAll("[data-toggle-run]")) {
    button.setAttribute("aria-pressed", String(!board.hidden.has(button.dataset.toggleRun)));
  }
}

/** The legend shows the dash of runs that share a colour, as the charts do. */
function showDashes() {
  for (const { id, dash } of groups.length ? groupLines(groups) : runLines(runs)) {
    document.querySelector(`[data-toggle-run="${id}"]`).classList.add(dash);
  }
}

function goTo(ids) {
  address.delete("run");
  for (const id of ids) address.append("run", id);
  location.search = address.toString();
}

function follow(board) {
  let due;
  document.body.addEventListener("live:metrics", () => {
    due ??= setTimeout(() => {
      due = undefined;
      board.reload();
    }, GROW_MS);
  });
}

let board;
showDashes();
if (controls) {
  fillControls();
  board = new CompareBoard({ ...readControls(), legend: false });
  board.range = address.get("zoom")?.split(",").map(Number) ?? null;
  for (const id of address.get("hide")?.split(",") ?? []) board.hidden.add(id);
  for (const card of document.querySelectorAll("[data-chart]")) {
    const key = card.dataset.key;
    board.add(card, { title: key, load: metricOfRuns(runs, key, grouping, source), xTitle: card.dataset.x });
  }
  controls.addEventListener("input", ({ target }) => {
    remember(target.name, target.type === "checkbox" ? (target.checked ? "1" : "") : target.value);
    if (target.name === "x") remember("zoom", "");
    // Another grouping has another legend.
    if (target.name === "group") {
      remember("hide", "");
      location.reload();
    } else board.set(readControls(), { reload: ["x", "band"].includes(target.name) });
  });
  showVisibility();
  follow(board);
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  const { toggleRun, removeRun, baseline } = button.dataset;
  const ids = runs.map(({ id }) => id);
  if (button.matches("[data-dialog='#share-view']")) document.querySelector("[data-view-address]").value = location.search;
  if (toggleRun) board?.toggle(toggleRun);
  if (removeRun) goTo(ids.filter((id) => id !== removeRun));
  if (baseline) goTo([baseline, ...ids.filter((id) => id !== baseline)]);
  if ("copyAddress" in button.dataset) {
    await navigator.clipboard.writeText(location.href);
    toast("The link is copied.", "ok");
  }
});
