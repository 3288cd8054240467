// One stream of events for the whole page, sent on as `live:<kind>` events of the body.
//
// What to listen to stands in `data-topics` of the body and of any fragment ("run:ID team:ID"). Listeners get
// `event.detail = { topic, ...data }`. When events may have been missed, `live:resync` comes first and then one event
// of each kind of state for each topic, with `detail.resync`, so that whoever shows it reads it again.
// `body[data-live]` is "on" while the stream is open and "off" when it has been lost for a while.

const STATE_KINDS = ["status", "metrics", "log", "sample", "checkpoint", "progress", "alert"];
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;
const OFFLINE_AFTER_MS = 3_000;
// Browsers allow a host few connections; a tab that nobody looks at gives its own back.
const HIDDEN_AFTER_MS = 30_000;

let source = null;
let listening = "";
let missed = false;
let retryDelay = FIRST_RETRY_MS;
let retryTimer;
let offlineTimer;
let hiddenTimer;

function wantedTopics() {
  const holders = [...document.querySelectorAll("[data-topics]")];
  return [...new Set(holders.flatMap((holder) => holder.dataset.topics.split(/\s+/)))].filter(Boolean).sort();
}

function open() {
  close();
  const topics = wantedTopics();
  listening = topics.join(" ");
  if (!topics.length) return;
  source = new EventSource(`/events?${new URLSearchParams(topics.map((topic) => ["topic", topic]))}`);
  source.addEventListener("open", opened);
  source.addEventListener("error", failed);
  source.addEventListener("message", ({ data }) => passOn(JSON.parse(data)));
  source.addEventListener("resync", readAgain);
}

function close() {
  clearTimeout(retryTimer);
  source?.close();
  source = null;
}

function reopen() {
  missed = true;
  open();
}

function opened() {
  clearTimeout(offlineTimer);
  offlineTimer = undefined;
  retryDelay = FIRST_RETRY_MS;
  document.body.dataset.live = "on";
  if (missed) readAgain();
  missed = false;
}

function failed() {
  missed = true;
  offlineTimer ??= setTimeout(() => (document.body.dataset.live = "off"), OFFLINE_AFTER_MS);
  // The browser tries again by itself, except after an answer that is an error: then the server may be starting.
  if (source.readyState !== EventSource.CLOSED) return;
  retryTimer = setTimeout(open, retryDelay * (1 + Math.random() / 4));
  retryDelay = Math.min(2 * retryDelay, LONGEST_RETRY_MS);
}

function passOn({ topic, kind, data }) {
  document.body.dispatchEvent(new CustomEvent(`live:${kind}`, { detail: { ...data, topic } }));
}

function readAgain() {
  const topics = listening.split(" ");
  document.body.dispatchEvent(new CustomEvent("live:resync", { detail: { topics } }));
  for (const topic of topics) for (const kind of STATE_KINDS) passOn({ topic, kind, data: { resync: true } });
}

function followVisibility() {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(close, HIDDEN_AFTER_MS);
  else if (!source) reopen();
}

document.addEventListener("visibilitychange", followVisibility);
document.addEventListener("htmx:afterSettle", () => {
  if (source && wantedTopics().join(" ") !== listening) reopen();
});
window.addEventListener("pagehide", close);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) reopen();
});
open();
