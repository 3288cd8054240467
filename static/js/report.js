// A report: its charts read what their block says and are drawn as Compare draws them.

import { metricOfRuns } from "./chart-data.js";
import { Board } from "./charts.js";

const GROW_MS = 5_000;

/** The boards of the page by the block they stand in; each chart has an axis and a zoom of its own. */
let boards = new Map();

function start(block) {
  const { axis, smoothing, group, bandKind: band, source } = block.dataset;
  const card = block.querySelector("[data-chart]");
  const board = new Board({ axis, smoothing: Number(smoothing), logY: "logy" in block.dataset });
  const title = card.querySelector("[data-chart-title]").textContent.trim();
  const load = metricOfRuns(JSON.parse(block.dataset.runs), card.dataset.key, () => ({ group, band }), source || undefined);
  board.add(card, { title, load });
  return board;
}

/** Charts of blocks that are there: those of a preview that was replaced are let go. */
function refresh() {
  const blocks = [...document.querySelectorAll("[data-report-chart]")];
  boards = new Map(blocks.map((block) => [block, boards.get(block) ?? start(block)]));
}

let due;
document.body.addEventListener("live:metrics", () => {
  due ??= setTimeout(() => {
    due = undefined;
    for (const board of boards.values()) board.reload();
  }, GROW_MS);
});
document.body.addEventListener("htmx:afterSettle", ({ target }) => target.id === "preview" && refresh());
refresh();
