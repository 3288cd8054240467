// Fragments that follow the live events of the kinds in their `data-follow`: each is read anew, by its htmx trigger
// `again`, soon after an event, at most once a second, and once more after the last one. (htmx's own throttle forgets
// what comes while it waits, for all triggers of an element: the news that a run has ended would be lost.)
//
// While a dialog is open or a row is being dragged nothing is put in place: what the dialog asks about may stand in it.

const KINDS = ["status", "metrics", "sample", "checkpoint"];
const SOON_MS = 50;
const PERIOD_MS = 1_000;
const BUSY = "dialog[open], .dragged";

const planned = new Set();
const held = new Set();
const readAt = new Map();

const isBusy = () => document.querySelector(BUSY) !== null;
const isRefresh = ({ requestConfig }) => ["again", "hx:poll:trigger"].includes(requestConfig.triggeringEvent?.type);

function plan(id) {
  if (planned.has(id)) return;
  planned.add(id);
  const wait = (readAt.get(id) ?? 0) + PERIOD_MS - Date.now();
  setTimeout(() => read(id), Math.max(SOON_MS, wait));
}

function read(id) {
  planned.delete(id);
  if (isBusy()) {
    held.add(id);
  } else if (document.getElementById(id)) {
    readAt.set(id, Date.now());
    window.htmx.trigger(`#${id}`, "again");
  }
}

function release() {
  for (const id of held) plan(id);
  held.clear();
}

for (const kind of KINDS) {
  document.body.addEventListener(`live:${kind}`, () => {
    for (const fragment of document.querySelectorAll(`[data-follow~="${kind}"]`)) plan(fragment.id);
  });
}
document.body.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (!isRefresh(detail) || !isBusy()) return;
  detail.shouldSwap = false;
  held.add(detail.target.id);
});
document.addEventListener("close", release, true);
document.addEventListener("dragend", release);
