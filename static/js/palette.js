// The search palette: `/` or Ctrl-K opens it, arrows choose, Enter opens.

const dialog = document.getElementById("palette");
const input = document.getElementById("palette-input");
const results = document.getElementById("palette-results");

const options = () => [...results.querySelectorAll("[role='option']")];
const chosen = () => results.querySelector("[aria-selected='true']");

function open() {
  if (dialog.open) return;
  dialog.showModal();
  input.select();
  input.dispatchEvent(new CustomEvent("palette-open"));
}

function choose(option) {
  for (const other of options()) other.setAttribute("aria-selected", String(other === option));
  option?.scrollIntoView({ block: "nearest" });
  if (option) input.setAttribute("aria-activedescendant", option.id);
  else input.removeAttribute("aria-activedescendant");
}

function move(by) {
  const all = options();
  if (all.length) choose(all[(all.indexOf(chosen()) + by + all.length) % all.length]);
}

const typing = (element) => element.closest("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  const ctrlK = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
  const slash = event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target);
  if (!ctrlK && !(slash && !document.querySelector("dialog[open]"))) return;
  event.preventDefault();
  open();
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-palette]")) open();
});
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") move(1);
  else if (event.key === "ArrowUp") move(-1);
  else if (event.key === "Enter") chosen()?.click();
  else if (event.key === "Escape") dialog.close();
  else return;
  event.preventDefault();
});
results.addEventListener("htmx:afterSwap", () => choose(options()[0]));
