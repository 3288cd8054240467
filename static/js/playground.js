// The playground: answers grow as their pieces arrive, and Ctrl-Enter asks.

import { getJSON } from "./http.js";

const answerOf = (id) => document.querySelector(`[data-answer="${CSS.escape(id)}"]`);

/** Put a piece where it belongs. One that leaves a gap means we have missed some: then the answer is fetched. */
function grow({ generation, from, text }) {
  const answer = generation && answerOf(generation);
  if (!answer) return;
  const length = Number(answer.dataset.length);
  if (from === length) {
    answer.append(text);
    answer.dataset.length = length + text.length;
  } else if (from > length) {
    catchUp(answer);
  }
}

async function catchUp(answer) {
  const { text } = await getJSON(`/api/v1/generations/${answer.dataset.answer}`);
  if (text.length <= Number(answer.dataset.length)) return;
  answer.textContent = text;
  answer.dataset.length = text.length;
}

const catchUpAll = () => document.querySelectorAll("[data-answer]").forEach(catchUp);

document.body.addEventListener("live:token", (event) => (event.detail.generation ? grow(event.detail) : catchUpAll()));
document.body.addEventListener("live:resync", catchUpAll);

document.getElementById("ask")?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
});
