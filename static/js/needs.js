// Settings that only matter for some choices.

/** Fields of a block matter once its type is chosen, and those of a reward once it has a weight. */
export function showNeeded(root) {
  for (const field of root.querySelectorAll("[data-needs]")) {
    const chooser = root.querySelector(`[name="${CSS.escape(field.dataset.needs)}"]`);
    // An empty input stands for the default, which it shows as its placeholder.
    const chosen = chooser && (chooser.value.trim() || chooser.placeholder);
    field.hidden = !chosen || chosen === "none" || Number(chosen) === 0;
  }
}

/** Put the default back into a setting whose reset button was pressed. */
export function putBack(form, button) {
  const name = button.dataset.reset;
  const fields = [...form.querySelectorAll(`[name="${CSS.escape(name)}"]:not([type="hidden"])`)];
  for (const field of fields) {
    if (field.type === "checkbox") field.checked = field.dataset.default === "on";
    else field.value = field.dataset.default ?? "";
  }
  fields[0]?.focus();
  fields[0]?.dispatchEvent(new Event("change", { bubbles: true }));
}
