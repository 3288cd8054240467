// The Launch page: settings that only matter for some choices, putting defaults back, and never launching twice.

function showNeeded() {
  for (const field of document.querySelectorAll("#launch [data-needs]")) {
    const chooser = document.querySelector(`#launch [name="${CSS.escape(field.dataset.needs)}"]`);
    field.hidden = !chooser || chooser.value === "none";
  }
}

// One id for each visit: pressing the button twice queues one run.
function giveRequestId() {
  const field = document.querySelector("[data-request-id]");
  if (field && !field.value) field.value = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reset]");
  if (!button) return;
  const name = button.dataset.reset;
  for (const field of document.querySelectorAll(`#launch [name="${CSS.escape(name)}"]`)) {
    if (field.type === "checkbox") field.checked = field.dataset.default === "on";
    else if (field.tagName === "SELECT") field.value = field.dataset.default;
    else if (field.type !== "hidden") field.value = "";
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }
  button.remove();
});

function refresh() {
  showNeeded();
  giveRequestId();
}

document.addEventListener("change", (event) => {
  if (event.target.closest("#launch")) showNeeded();
});
document.body.addEventListener("htmx:afterSettle", refresh);
refresh();
