// The list of runs: selecting rows, and keeping the selection when the table is refreshed.

const chosen = new Set();

function refresh() {
  const form = document.querySelector("[data-selection]");
  if (!form) return;
  const boxes = [...form.querySelectorAll("[data-select]")];
  for (const box of boxes) box.checked = chosen.has(box.value);
  const count = boxes.filter((box) => box.checked).length;
  form.querySelector("[data-selection-bar]").hidden = count === 0;
  form.querySelector("[data-selection-count]").textContent = `${count} selected`;
  const all = form.querySelector("[data-select-all]");
  all.checked = count > 0 && count === boxes.length;
  all.indeterminate = count > 0 && count < boxes.length;
}

document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.matches("[data-select-all]")) {
    for (const other of document.querySelectorAll("[data-select]")) choose(other.value, box.checked);
  } else if (box.matches("[data-select]")) {
    choose(box.value, box.checked);
  } else {
    return;
  }
  refresh();
});

function choose(value, on) {
  if (on) chosen.add(value);
  else chosen.delete(value);
}

document.body.addEventListener("htmx:afterSettle", refresh);
refresh();
