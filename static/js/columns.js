// Which columns the list of runs has: chosen in a dialog, put in order by button or by dragging, sent with the filters.

import { getJSON } from "./http.js";

const MOST_FOUND = 100;
const FIGURES = { last: "", min: " min", max: " max" };

/** Every column there can be, by its name in addresses. */
function labels({ columns, metrics, settings }) {
  const own = columns.map(({ name, label }) => [name, label]);
  const figures = metrics.flatMap((key) => Object.entries(FIGURES).map(([figure, says]) => [`${key}.${figure}`, key + says]));
  return new Map([...own, ...settings.map((path) => [`config.${path}`, `config.${path}`]), ...figures]);
}

export function chooseColumns(dialog, filters) {
  const [shown, more, find, news] = ["shown", "more", "find", "news"].map((part) => document.getElementById(`columns-${part}`));
  let known = new Map();
  let usual = [];
  let names = [];

  const inputs = () => [...document.querySelectorAll("[data-column]")];
  const labelOf = (name) => known.get(name) ?? name;

  async function open() {
    const words = await getJSON(dialog.dataset.words);
    [known, usual] = [labels(words), words.usual];
    names = inputs().map(({ value }) => value);
    find.value = "";
    news.textContent = "";
    draw();
    dialog.showModal();
  }

  function button(icon, says, act, disabled = false) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "btn btn-quiet btn-icon btn-small";
    made.setAttribute("aria-label", says);
    made.title = says;
    made.disabled = disabled;
    made.append(document.getElementById(`columns-${icon}`).content.cloneNode(true));
    made.addEventListener("click", act);
    return made;
  }

  function line(name, ...buttons) {
    const item = document.createElement("li");
    const label = document.createElement("span");
    label.textContent = labelOf(name);
    item.append(label, ...buttons);
    return item;
  }

  function shownLine(name, place) {
    const label = labelOf(name);
    const item = line(
      name,
      button("arrow-up", `Move ${label} to the left`, () => move(place, place - 1), place === 0),
      button("arrow-down", `Move ${label} to the right`, () => move(place, place + 1), place === names.length - 1),
      button("x", `Take ${label} out`, () => change(names.filter((other) => other !== name), `${label} is taken out.`), names.length === 1),
    );
    item.prepend(document.getElementById("columns-grip").content.cloneNode(true));
    item.draggable = true;
    item.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData("text/plain", String(place));
      event.dataTransfer.effectAllowed = "move";
      item.classList.add("dragged");
    });
    item.addEventListener("dragend", () => item.classList.remove("dragged"));
    item.addEventListener("dragover", (event) => event.preventDefault());
    item.addEventListener("drop", (event) => {
      event.preventDefault();
      move(Number(event.dataTransfer.getData("text/plain")), place);
    });
    return item;
  }

  function draw() {
    shown.replaceChildren(...names.map(shownLine));
    const wanted = find.value.trim().toLowerCase();
    const found = [...known.keys()].filter((name) => !names.includes(name) && labelOf(name).toLowerCase().includes(wanted));
    const lines = found.slice(0, MOST_FOUND).map((name) => {
      const label = labelOf(name);
      return line(name, button("plus", `Show ${label}`, () => change([...names, name], `${label} is shown last.`)));
    });
    more.replaceChildren(...lines);
    if (lines.length) return;
    const none = document.createElement("li");
    none.className = "faint";
    none.textContent = "Nothing of that name in the newest runs.";
    more.append(none);
  }

  function change(to, says) {
    names = to;
    news.textContent = says;
    draw();
    if (!dialog.contains(document.activeElement) || document.activeElement === document.body) find.focus();
  }

  function move(from, to) {
    const order = [...names];
    const [name] = order.splice(from, 1);
    order.splice(to, 0, name);
    change(order, `${labelOf(name)} is now at place ${to + 1}.`);
    const buttons = shown.children[to].querySelectorAll("button");
    [buttons[to > from ? 1 : 0], buttons[to > from ? 0 : 1]].find((one) => !one.disabled)?.focus();
  }

  function apply() {
    const place = inputs().at(-1);
    const same = names.length === usual.length && names.every((name, at) => name === usual[at]);
    const fresh = names.map((name) => {
      const input = document.createElement("input");
      input.type = "hidden";
      input.setAttribute("form", filters.id);
      if (!same) input.name = "column"; // the usual ones are not named in the address
      input.value = name;
      input.dataset.column = "";
      return input;
    });
    const old = inputs();
    place.after(...fresh);
    old.forEach((input) => input.remove());
    dialog.close();
    filters.requestSubmit();
  }

  document.querySelector("[data-columns-open]").addEventListener("click", open);
  find.addEventListener("input", draw);
  document.getElementById("columns-usual").addEventListener("click", () => change([...usual], "The usual columns are shown."));
  document.getElementById("columns-apply").addEventListener("click", apply);
}
