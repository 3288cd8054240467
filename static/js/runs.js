// The list of runs: selecting rows, and keeping the selection when the table is refreshed.

import { chooseColumns } from "./columns.js";
import { complete } from "./complete.js";
import "./follow.js";

const bar = document.querySelector("[data-selection-bar]");
const boxes = () => [...document.querySelectorAll("[data-select]")];
const chosen = new Set();
let lastTicked = null;

function refresh() {
  const all = document.querySelector("[data-select-all]");
  if (!bar) return;
  for (const box of boxes()) box.checked = chosen.has(box.value);
  const count = boxes().filter((box) => box.checked).length;
  bar.hidden = count === 0;
  bar.querySelector("[data-selection-count]").textContent = `${count} selected`;
  for (const button of bar.querySelectorAll("[data-ask]")) {
    button.dataset.confirm = button.dataset.ask.replace("# ", count === 1 ? "the selected run" : `${count} runs`);
  }
  askBeforeMoving(count);
  if (!all) return;
  all.checked = count > 0 && count === boxes().length;
  all.indeterminate = count > 0 && count < boxes().length;
}

/** A project that keeps few checkpoints deletes the others of what is moved there: only then is there a question. */
function askBeforeMoving(count) {
  const to = bar.querySelector("[data-move-to]").selectedOptions[0];
  const button = bar.querySelector("[data-move]");
  const what = count === 1 ? "the selected run" : `${count} runs`;
  if (to.dataset.loses) button.dataset.confirm = `Move ${what} to ${to.textContent}? ${to.dataset.loses}`;
  else delete button.dataset.confirm;
}

function choose(box, on) {
  if (on) chosen.add(box.value);
  else chosen.delete(box.value);
}

/** With the shift key, everything from the box that was ticked before. */
function chooseRange(box) {
  const all = boxes();
  const from = all.findIndex(({ value }) => value === lastTicked);
  const to = all.indexOf(box);
  if (from < 0) return;
  for (const between of all.slice(Math.min(from, to), Math.max(from, to) + 1)) choose(between, box.checked);
}

document.addEventListener("click", (event) => {
  const box = event.target;
  if (box.matches("[data-select]")) {
    choose(box, box.checked);
    if (event.shiftKey) chooseRange(box);
    lastTicked = box.value;
  } else if (box.matches("[data-select-all]")) {
    boxes().forEach((other) => choose(other, box.checked));
  } else if (box.closest("[data-clear-selection]")) {
    chosen.clear();
  } else {
    return;
  }
  refresh();
});

bar?.querySelector("[data-move-to]").addEventListener("change", refresh);
document.body.addEventListener("htmx:afterSettle", refresh);
refresh();
complete(document.getElementById("runs-query"));
chooseColumns(document.getElementById("columns"), document.getElementById("runs-filter"));
