// Writing a report: blocks are put in where the cursor is.

const dialog = document.getElementById("insert-block");
const text = document.getElementById(dialog.dataset.insert);

function block(form) {
  const { kind, key, group, query } = Object.fromEntries(["kind", "key", "group", "query"].map((name) => [name, form.elements[name].value.trim()]));
  const runs = [...form.querySelectorAll("[name=run]:checked")].map(({ value }) => value);
  const lines = [runs.length ? `runs: ${runs.join(", ")}` : `query: ${query}`];
  if (kind === "chart") lines.push(`key: ${key}`);
  if (kind === "chart" && group) lines.push(`group: ${group}`);
  if (kind === "table") lines.push(`keys: ${key}`);
  return ["```" + kind, ...lines, "```"].join("\n");
}

dialog.querySelector("form").addEventListener("submit", ({ target: form }) => {
  const before = text.value.slice(0, text.selectionStart).trimEnd();
  const after = text.value.slice(text.selectionEnd).trimStart();
  const start = `${before}${before ? "\n\n" : ""}${block(form)}`;
  text.value = `${start}\n\n${after}`;
  text.focus();
  text.setSelectionRange(start.length + 2, start.length + 2);
  text.dispatchEvent(new Event("input", { bubbles: true }));
});
