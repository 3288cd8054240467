// Uploading files: chosen or dropped, a few at a time, each with its progress, its problems and a way to stop it.

import { csrfToken, getJSON } from "./http.js";
import { duration } from "./format.js";

const AT_ONCE = 2;
// Before this many seconds an estimate of the rest jumps about.
const ETA_AFTER = 2;

const area = document.querySelector("[data-upload]");
const waiting = [];
// Names of uploads of this page, which the list does not have before they are through.
const given = new Set();
let sending = 0;

if (area) {
  const input = area.querySelector("input[type='file']");
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  document.querySelector("[data-upload-open]")?.addEventListener("click", () => input.click());
  watchDrops();
  window.addEventListener("beforeunload", (event) => {
    if (sending) event.preventDefault();
  });
}

function watchDrops() {
  const zone = area.querySelector("[data-drop]");
  let depth = 0;
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  // A file that misses the zone would replace the page.
  document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  document.addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    depth += 1;
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!holdsFiles(event)) return;
    depth -= 1;
    zone.classList.toggle("over", depth > 0);
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    zone.classList.remove("over");
    add(event.dataTransfer.files);
  });
}

function add(files) {
  for (const file of files) {
    const item = new Item(file);
    const problem = refusal(file);
    if (problem) item.fail(problem);
    else waiting.push(item);
  }
  sendNext();
}

function refusal(file) {
  if (!file.size) return "The file is empty, or it is a folder.";
  if (file.size > Number(area.dataset.maxBytes)) return `The file is larger than ${area.dataset.maxSize}. Compress it with gzip, or split it.`;
  return "";
}

async function sendNext() {
  if (sending >= AT_ONCE || !waiting.length) return;
  sending += 1;
  const item = waiting.shift();
  try {
    await item.send();
  } finally {
    sending -= 1;
    sendNext();
  }
  sendNext();
}

/** A name for a dataset made of the file's; one that is taken is counted on. */
async function freeName(filename) {
  const stem = filename.replace(/(\.(jsonl|ndjson|json|csv|tsv|parquet|txt|gz))+$/i, "").slice(0, 190).trim() || "dataset";
  const query = new URLSearchParams({ q: stem, team: area.dataset.team, limit: "200" });
  const { items } = await getJSON(`${area.dataset.names}?${query}`);
  const taken = new Set([...items.map((item) => item.name.toLowerCase()), ...given]);
  let name = stem;
  for (let count = 2; taken.has(name.toLowerCase()); count += 1) name = `${stem} ${count}`;
  given.add(name.toLowerCase());
  return name;
}

class Item {
  constructor(file) {
    this.file = file;
    this.element = area.querySelector("[data-upload-item]").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.element.querySelector(`[data-${name}]`);
    this.part("name").textContent = file.name;
    this.part("name").title = file.name;
    this.part("state").textContent = "Waiting";
    this.part("cancel-label").textContent = `Cancel ${file.name}`;
    this.part("cancel").addEventListener("click", () => this.cancel());
    area.querySelector("[data-uploads]").append(this.element);
  }

  async send() {
    if (this.cancelled) return;
    try {
      const form = new FormData();
      form.append("name", await freeName(this.file.name));
      form.append("team", area.dataset.team);
      form.append("file", this.file);
      if (!this.cancelled) this.done(await this.post(form));
    } catch (error) {
      if (!this.cancelled) this.fail(error.message);
    }
  }

  post(form) {
    const request = new XMLHttpRequest();
    this.request = request;
    const started = performance.now();
    return new Promise((resolve, reject) => {
      request.upload.addEventListener("progress", (event) => this.show(event.loaded, event.total, (performance.now() - started) / 1000));
      request.addEventListener("load", () => {
        const answer = parsed(request);
        if (request.status < 300) resolve(answer);
        else reject(new Error(problemIn(answer) || `The server answered ${request.status}.`));
      });
      request.addEventListener("error", () => reject(new Error("The connection broke. Is the studio still running?")));
      request.addEventListener("abort", () => reject(new Error("Cancelled.")));
      request.open("POST", area.dataset.url);
      request.setRequestHeader("X-CSRFToken", csrfToken());
      request.setRequestHeader("Accept", "application/json");
      request.send(form);
    });
  }

  show(loaded, total, seconds) {
    const share = total ? loaded / total : 0;
    const bar = this.part("progress");
    bar.firstElementChild.style.width = `${100 * share}%`;
    bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    const left = seconds > ETA_AFTER && share > 0 && share < 1 ? `, ${duration((seconds * (1 - share)) / share)} left` : "";
    this.part("state").textContent = share < 1 ? `${Math.round(100 * share)} %${left}` : "Storing";
  }

  done(dataset) {
    const link = document.createElement("a");
    link.href = `${area.dataset.page}${dataset.id}`;
    link.textContent = this.file.name;
    this.part("name").replaceChildren(link);
    this.end("Uploaded; a worker reads it now");
    document.body.dispatchEvent(new CustomEvent("uploaded"));
  }

  fail(problem) {
    this.part("state").className = "errors";
    this.part("state").setAttribute("role", "alert");
    this.end(problem);
  }

  end(words) {
    this.request = undefined;
    this.part("state").textContent = words;
    this.part("progress").hidden = true;
    this.part("cancel-label").textContent = `Dismiss ${this.file.name}`;
  }

  cancel() {
    this.cancelled = true;
    this.request?.abort();
    const place = waiting.indexOf(this);
    if (place >= 0) waiting.splice(place, 1);
    this.element.remove();
  }
}

function parsed(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return {};
  }
}

function problemIn({ error }) {
  if (!error) return "";
  const details = Object.entries(error.fields ?? {}).map(([name, problems]) => `The ${name} ${problems.join("; ")}.`);
  return [error.message, error.advice || details.join(" ")].join(" ").trim();
}
