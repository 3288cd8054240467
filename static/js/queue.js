// The queue: runs that wait are moved past each other, by dragging or with the arrows.

import "./follow.js";

const rowAt = (element) => element.closest?.("[data-queued]");
const dragged = () => document.querySelector(".dragged");

function move(row, past, place) {
  if (!past || past === row) return;
  const values = { past: past.dataset.queued, place };
  window.htmx.ajax("POST", row.dataset.move, { target: "#queue", swap: "outerHTML", values });
}

/** Where the pointer would put the dragged row. */
function placeIn(row, y) {
  const box = row.getBoundingClientRect();
  return y < box.top + box.height / 2 ? "ahead" : "behind";
}

function unmark() {
  for (const row of document.querySelectorAll("[data-drop]")) delete row.dataset.drop;
}

document.addEventListener("click", (event) => {
  const step = event.target.closest("[data-step]")?.dataset.step;
  if (!step) return;
  const row = rowAt(event.target);
  if (step === "up") move(row, row.previousElementSibling, "ahead");
  else move(row, row.nextElementSibling, "behind");
});

// From the press on: a row that is replaced before the pointer has moved could not be dragged any more.
document.addEventListener("pointerdown", ({ target }) => {
  if (target.closest?.(".grip")) rowAt(target)?.classList.add("held");
});
for (const end of ["pointerup", "pointercancel"]) {
  document.addEventListener(end, () => document.querySelector(".held")?.classList.remove("held"));
}
document.addEventListener("dragstart", (event) => {
  const row = event.target.closest?.(".grip") && rowAt(event.target);
  if (!row) return;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", row.dataset.queued);
  event.dataTransfer.setDragImage(row, row.clientWidth - 20, row.clientHeight / 2);
  row.classList.add("dragged");
});
document.addEventListener("dragover", (event) => {
  const row = rowAt(event.target);
  if (!row || !dragged()) return;
  event.preventDefault();
  unmark();
  if (row !== dragged()) row.dataset.drop = placeIn(row, event.clientY);
});
document.addEventListener("drop", (event) => {
  const row = rowAt(event.target);
  if (!row || !dragged()) return;
  event.preventDefault();
  move(dragged(), row, placeIn(row, event.clientY));
});
document.addEventListener("dragend", () => {
  unmark();
  dragged()?.classList.remove("dragged");
});
