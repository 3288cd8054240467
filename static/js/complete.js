// Completion of the search of runs: fields, their values, metrics and settings. Arrows choose, Enter takes, Escape closes.
//
// What can be searched for is read once, when the box is first used (`data-words`).

import { getJSON } from "./http.js";

const MOST = 12;
const PART = /^(?<name>[\w./@-]+)(?<sign>:|!=|<=|>=|<|>|=)(?<value>.*)$/s;
const ORDERS = ["<", "<=", ">", ">="];
const FIGURES = ["min", "max", "last"];
const JOINS = ["and", "or", "not"];

/** What is being typed at the caret: from the last blank or bracket outside quotes. */
function partAt(text, caret) {
  let start = 0;
  let quoted = false;
  for (let place = 0; place < caret; place++) {
    if (text[place] === '"' && text[place - 1] !== "\\") quoted = !quoted;
    else if (!quoted && /[\s(]/.test(text[place])) start = place + 1;
  }
  return { start, part: text.slice(start, caret) };
}

const quote = (value) => (/^[^\s(),"]+$/.test(value) ? value : `"${value.replace(/["\\]/g, "\\$&")}"`);

/** Those that begin with what is typed, then those that contain it. */
function fitting(options, typed) {
  const wanted = typed.toLowerCase();
  const place = ({ text }) => text.toLowerCase().indexOf(wanted);
  const found = options.filter((option) => place(option) >= 0);
  return found.sort((a, b) => Math.min(place(a), 1) - Math.min(place(b), 1)).slice(0, MOST);
}

/** Values of a field, behind the last comma. */
function valuesFor({ groups: { name, sign, value } }, words, start) {
  const known = words.values[name.toLowerCase()];
  if (!known || ORDERS.includes(sign)) return { from: start, options: [] };
  const typed = value.slice(value.lastIndexOf(",") + 1);
  const plain = typed.replace(/^"/, "");
  const options = fitting(known.map((text) => ({ text, insert: quote(text), says: name })), plain);
  const from = start + name.length + sign.length + value.length - typed.length;
  return { from, options: options.filter(({ insert }) => insert !== typed) };
}

function namesFor(part, words) {
  const settings = words.settings.map((path) => `config.${path}`);
  const figures = words.metrics.filter((key) => part.startsWith(`${key}.`)).flatMap((key) => FIGURES.map((one) => `${key}.${one}`));
  const whole = (list) => list.includes(part) || figures.includes(part);
  const signs = [
    ...(whole(words.metrics) || whole(settings) ? ORDERS : []),
    ...(settings.includes(part) ? ["=", "!="] : []),
  ].map((sign) => ({ text: part + sign, insert: part + sign, says: "compare" }));
  const joins = part ? JOINS.filter((join) => join.startsWith(part)).map((text) => ({ text, insert: `${text} `, says: "join conditions" })) : [];
  const names = [
    ...words.fields.map(({ name, kind, says }) => ({ text: name, insert: kind === "text" ? `${name}:` : name, says })),
    ...figures.map((text) => ({ text, insert: text, says: "metric" })),
    ...words.metrics.map((text) => ({ text, insert: /^[\w./@-]+$/.test(text) ? text : quote(text), says: "metric" })),
    ...settings.map((text) => ({ text, insert: text, says: "setting" })),
  ].filter(({ insert }) => insert !== part);
  return [...joins, ...signs, ...fitting(names, part)].slice(0, MOST);
}

/** What can be put in place of the text from `from` to the caret. */
export function completions(words, text, caret) {
  const { start, part } = partAt(text, caret);
  const condition = PART.exec(part);
  if (condition) return valuesFor(condition, words, start);
  return { from: start, options: namesFor(part, words) };
}

export function complete(input) {
  const list = document.getElementById(input.getAttribute("aria-controls"));
  let words = null;
  let offered = { from: 0, options: [] };
  let chosen = -1;

  const read = () => (words ??= getJSON(input.dataset.words).catch(() => (words = null)));

  async function offer() {
    const known = await read();
    if (!known || document.activeElement !== input) return;
    offered = completions(known, input.value, input.selectionStart);
    show();
  }

  function show() {
    chosen = -1;
    list.replaceChildren(...offered.options.map(row));
    list.hidden = offered.options.length === 0;
    list.scrollTop = 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    input.removeAttribute("aria-activedescendant");
  }

  function close() {
    offered = { from: 0, options: [] };
    show();
  }

  function row({ text, says }, place) {
    const option = document.createElement("div");
    option.id = `${list.id}-${place}`;
    option.className = "query-option";
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", "false");
    const name = document.createElement("b");
    name.textContent = text;
    const note = document.createElement("span");
    note.className = "faint small";
    note.textContent = says;
    option.append(name, note);
    option.addEventListener("click", () => take(place));
    return option;
  }

  function choose(place) {
    chosen = (place + list.children.length) % list.children.length;
    [...list.children].forEach((option, other) => option.setAttribute("aria-selected", String(other === chosen)));
    list.children[chosen].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", list.children[chosen].id);
  }

  function take(place) {
    const { insert } = offered.options[place];
    input.setRangeText(insert, offered.from, input.selectionStart, "end");
    input.focus();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  input.addEventListener("focus", read);
  input.addEventListener("input", offer);
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // or the box would lose the focus
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && list.hidden) offer();
    else if (event.key === "ArrowDown" && !list.hidden) choose(chosen + 1);
    else if (event.key === "ArrowUp" && !list.hidden) choose(chosen < 0 ? -1 : chosen - 1);
    else if (event.key === "Enter" && chosen >= 0) take(chosen);
    else if (event.key === "Escape" && !list.hidden) close();
    else {
      if (event.key === "Enter") close();
      return;
    }
    event.preventDefault(); // Escape would empty the box
  });
}
