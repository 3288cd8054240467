// A text that is not saved is not left unasked.

const text = document.querySelector("textarea[name=body]");
const saved = "unsaved" in text.form.dataset ? null : text.value;
let leaving = false;

text.form.addEventListener("submit", () => {
  leaving = true;
});
window.addEventListener("beforeunload", (event) => {
  if (!leaving && text.value !== saved) event.preventDefault();
});
