// A live refresh may take away the button that a dialog asks about, and with it what was asked for. While a dialog is
// open such refreshes wait; fragments that list `again` among their triggers are read anew when it closes.

const isLive = ({ requestConfig }) => /^(live:|hx:poll)/.test(requestConfig.triggeringEvent?.type ?? "");

export function holdWhileAsking() {
  const waiting = new Set();
  document.body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (!isLive(detail) || !document.querySelector("dialog[open]")) return;
    detail.shouldSwap = false;
    waiting.add(detail.target.id);
  });
  document.addEventListener(
    "close",
    () => {
      // Whatever the answer has asked for goes first.
      setTimeout(() => {
        for (const id of waiting) window.htmx.trigger(`#${id}`, "again");
        waiting.clear();
      });
    },
    true,
  );
}
