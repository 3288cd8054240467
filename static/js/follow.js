// Fragments that follow the live events of the kinds in their `data-follow`: each is read anew, by its htmx trigger
// `again`, soon after an event, at most once a second, and once more after the last one. (htmx's own throttle forgets
// what comes while it waits, for all triggers of an element, and so does a fragment that is replaced while it waits for
// another answer: the news that a run has ended would be lost.)
//
// While a dialog or a menu of theirs is open, a row is held or dragged, or an answer is ticked, nothing is put in place:
// what the dialog asks about may stand in it, and the menu or the tick would be gone.

const KINDS = ["status", "metrics", "sample", "checkpoint", "alert"];
const SOON_MS = 50;
const PERIOD_MS = 1_000;
const BUSY = "dialog[open], [data-follow] details.menu[open], .held, .dragged, [data-tick]:checked";

// Ids of fragments: to be read soon; with an answer on its way; to be read once what keeps them from it is over.
const planned = new Set();
const asked = new Set();
const held = new Set();
const readAt = new Map();

const isBusy = () => document.querySelector(BUSY) !== null;
const follows = (element) => element?.dataset.follow !== undefined;

function plan(id) {
  if (planned.has(id)) return;
  planned.add(id);
  const wait = (readAt.get(id) ?? 0) + PERIOD_MS - Date.now();
  setTimeout(() => read(id), Math.max(SOON_MS, wait));
}

function read(id) {
  planned.delete(id);
  if (isBusy() || asked.has(id)) {
    held.add(id);
    return;
  }
  const fragment = document.getElementById(id);
  if (fragment) {
    readAt.set(id, Date.now());
    // One that has only just come in is not listening yet, and would never hear of this.
    window.htmx.process(fragment);
    window.htmx.trigger(fragment, "again");
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
document.body.addEventListener("htmx:beforeRequest", ({ detail: { target } }) => {
  if (follows(target)) asked.add(target.id);
});
document.body.addEventListener("htmx:afterRequest", ({ detail: { target } }) => {
  if (follows(target) && asked.delete(target.id)) release();
});
document.body.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const { verb, elt } = detail.requestConfig;
  // What somebody asked for is put in place: it is not the fragment itself that asks then.
  if (verb !== "get" || elt !== detail.target || !follows(detail.target) || !isBusy()) return;
  detail.shouldSwap = false;
  held.add(detail.target.id);
});
document.addEventListener("close", release, true);
document.addEventListener("toggle", release, true);
document.addEventListener("pointerup", release);
document.addEventListener("dragend", release);
document.addEventListener("change", release);
