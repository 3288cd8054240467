// Live refreshes that wait: one may take away the button that a dialog asks about, or the row that is being dragged.
// Fragments that list `again` among their triggers are read anew once that is over.

const BUSY = "dialog[open], .dragged";
const isLive = ({ requestConfig }) => /^(live:|hx:poll)/.test(requestConfig.triggeringEvent?.type ?? "");
const waiting = new Set();

function release() {
  // Whatever people have asked for goes first.
  setTimeout(() => {
    for (const id of waiting) window.htmx.trigger(`#${id}`, "again");
    waiting.clear();
  });
}

export function holdWhileBusy() {
  document.body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (!isLive(detail) || !document.querySelector(BUSY)) return;
    detail.shouldSwap = false;
    waiting.add(detail.target.id);
  });
  document.addEventListener("close", release, true);
  document.addEventListener("dragend", release);
}
