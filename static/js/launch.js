// The Launch page: settings that only matter for some choices, and answers that never undo what was typed meanwhile.

import { putBack, showNeeded } from "./needs.js";

const form = document.getElementById("launch");
const controls = (root) => root.querySelectorAll("input[name], select[name], textarea[name]");
const isTick = (control) => control.type === "checkbox" || control.type === "radio";
const keyOf = (control) => (isTick(control) ? `${control.name}=${control.value}` : control.name);
const valueOf = (control) => (isTick(control) ? control.checked : control.value);
// Several methods on a page have folds of the same name: each says which part it belongs to.
const titleOf = (fold) => `${fold.parentElement.closest("[data-part]")?.dataset.part ?? ""} ${fold.querySelector("summary").firstChild.textContent.trim()}`;

let asked = new Map();

function remember() {
  asked = new Map([...controls(form)].map((control) => [keyOf(control), valueOf(control)]));
}

/** Whether what stands in a control is the person's own: changed since the question, or still being written. */
const isTheirs = (control) => control === document.activeElement || valueOf(control) !== asked.get(keyOf(control));

/** Have a part that comes in look as people left the one it replaces: later words, open folds. */
function carryOver(from, to) {
  const now = new Map([...controls(from)].map((control) => [keyOf(control), control]));
  for (const control of controls(to)) {
    const old = now.get(keyOf(control));
    if (!old || old.type === "hidden" || !isTheirs(old)) continue;
    if (isTick(control)) control.checked = old.checked;
    else control.value = old.value;
  }
  const folds = new Map([...from.querySelectorAll("details.fold")].map((fold) => [titleOf(fold), fold.open]));
  for (const fold of to.querySelectorAll("details.fold")) fold.open = folds.get(titleOf(fold)) || Boolean(fold.querySelector(".errors"));
  from.querySelectorAll("details[data-pick][open]").forEach((menu) => openAgain(to, menu));
}

function openAgain(to, menu) {
  const name = menu.querySelector("input").name;
  const twin = to.querySelector(`[name="${CSS.escape(name)}"]`)?.closest("details");
  if (twin) twin.open = true;
}

/** Enter ends a field, as Tab does; only Ctrl-Enter and the button launch. */
function onKey(event) {
  if (event.key !== "Enter") return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    document.getElementById("launch-button").click();
  } else if (event.target.matches("input:not([type='checkbox'], [type='radio'])")) {
    event.preventDefault();
    // A change told by hand would be told again by the browser, on leaving the field.
    event.target.blur();
    event.target.focus();
  }
}

// A tick has no id by which htmx could give it the focus back.
let focused = null;

document.body.addEventListener("htmx:beforeRequest", ({ target }) => target === form && remember());
document.body.addEventListener("htmx:oobBeforeSwap", ({ detail }) => {
  const next = detail.fragment.firstElementChild;
  focused = detail.target.contains(document.activeElement) && !document.activeElement.id ? keyOf(document.activeElement) : null;
  carryOver(detail.target, next);
  showNeeded(next);
});
document.body.addEventListener("htmx:oobAfterSwap", ({ detail }) => {
  const placed = document.getElementById(detail.target.id);
  if (focused) [...controls(placed)].find((control) => keyOf(control) === focused)?.focus();
  focused = null;
});
document.body.addEventListener("htmx:beforeSwap", ({ detail }) => {
  // The recipe stays open, and the button keeps the focus.
  if (detail.target.id === "launch-side") recipeWasOpen = Boolean(detail.target.querySelector(".recipe")?.open);
});
document.body.addEventListener("htmx:afterSwap", () => {
  const recipe = form.querySelector(".recipe");
  if (recipe && recipeWasOpen) recipe.open = true;
});
let recipeWasOpen = false;

/** A slider and the number beside it say the same. */
function slide({ target }) {
  if (target.dataset.slides) form.elements[target.dataset.slides].value = target.value;
  const slider = target.name && form.querySelector(`[data-slides="${CSS.escape(target.name)}"]`);
  if (slider) slider.value = target.value;
}

form.addEventListener("input", slide);
form.addEventListener("change", () => showNeeded(form));
form.addEventListener("keydown", onKey);
form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reset]");
  if (button) putBack(form, button);
});
showNeeded(form);
// The method that a link chose may lie far down in a list that scrolls by itself; the page stays where it is.
const list = form.querySelector(".launch-methods");
const chosen = list?.querySelector("input[name='method']:checked")?.closest("label");
if (chosen) list.scrollTop += chosen.getBoundingClientRect().top - list.getBoundingClientRect().top - list.clientHeight / 3;
// One id for each visit: pressing the button twice queues one run.
const requestId = form.querySelector("[data-request-id]");
if (requestId) requestId.value ||= crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

function isChanged(control) {
  if (isTick(control)) return control.checked !== control.defaultChecked;
  if (!control.options) return control.type !== "hidden" && control.value !== control.defaultValue;
  return control.selectedIndex !== Math.max(0, [...control.options].findIndex(({ defaultSelected }) => defaultSelected));
}

// What was chosen while the page was still loading, or put back by the browser, has been told to nobody.
window.addEventListener("load", () => {
  if ([...controls(form)].some(isChanged)) form.dispatchEvent(new Event("change", { bubbles: true }));
});
