// Behaviour that every page shares, bound once to the document so that fragments swapped in later have it too.

import { ago } from "./format.js";

const TOAST_SECONDS = 6;

// --- theme ----------------------------------------------------------------------------------------------------------

function switchTheme() {
  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : systemDark;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // The choice holds for this page.
  }
  document.body.dispatchEvent(new CustomEvent("theme"));
}

// --- toasts ---------------------------------------------------------------------------------------------------------

/** Show a message in the corner. `tone` is info, ok, warn or error; errors stay until they are dismissed. */
export function toast(text, tone = "info") {
  const element = document.createElement("div");
  element.className = `notice toast ${tone}`;
  element.dataset.toast = "";
  const words = document.createElement("div");
  words.className = "grow";
  words.textContent = text;
  const dismiss = document.createElement("button");
  dismiss.className = "btn btn-quiet btn-small";
  dismiss.type = "button";
  dismiss.dataset.dismiss = "";
  dismiss.textContent = "Dismiss";
  element.append(words, dismiss);
  document.getElementById("toasts").append(element);
}

function fadeLater(element) {
  if (element.classList.contains("error")) return;
  setTimeout(() => element.remove(), TOAST_SECONDS * 1000);
}

function watchToasts() {
  const place = document.getElementById("toasts");
  place.querySelectorAll("[data-toast]").forEach(fadeLater);
  new MutationObserver((changes) => {
    for (const change of changes) {
      for (const node of change.addedNodes) if (node instanceof HTMLElement) fadeLater(node);
    }
  }).observe(place, { childList: true });
}

// --- asking before something is lost --------------------------------------------------------------------------------

function ask(question, verb) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = question;
  document.getElementById("confirm-yes").textContent = verb;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function questionOf(form, submitter) {
  const holder = submitter?.dataset.confirm ? submitter : form;
  const question = holder?.dataset.confirm;
  return question && [question, holder.dataset.confirmVerb || submitter?.textContent.trim() || "Go on"];
}

const speaksHtmx = (element) => element.matches("[hx-post], [hx-get], [hx-delete], [hx-put], [hx-patch]");

document.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  const question = questionOf(form, submitter);
  if (!question || form.dataset.confirmed || speaksHtmx(form) || (submitter && speaksHtmx(submitter))) return;
  event.preventDefault();
  if (!(await ask(...question))) return;
  form.dataset.confirmed = "yes";
  form.requestSubmit(submitter);
  delete form.dataset.confirmed;
});

document.addEventListener("htmx:confirm", async (event) => {
  const { elt, triggeringEvent, issueRequest } = event.detail;
  const question = questionOf(elt, triggeringEvent?.submitter);
  if (!question) return;
  event.preventDefault();
  if (await ask(...question)) issueRequest(true);
});

// --- htmx failures --------------------------------------------------------------------------------------------------

// Our own error fragments say where they go; anything else (a proxy's page) is not swapped in.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.getResponseHeader("HX-Retarget")) event.detail.shouldSwap = true;
});
document.addEventListener("htmx:responseError", (event) => {
  const { xhr } = event.detail;
  if (!xhr.getResponseHeader("HX-Retarget")) toast(`The server answered ${xhr.status}. Reload the page and try again.`, "error");
});
document.addEventListener("htmx:sendError", () => toast("The server does not answer. Is the studio still running?", "error"));

// --- clicks ---------------------------------------------------------------------------------------------------------

const CLICKS = {
  "[data-theme-switch]": switchTheme,
  "[data-dismiss]": (button) => button.closest("[data-toast], .notice").remove(),
  "[data-dialog]": (button) => document.querySelector(button.dataset.dialog).showModal(),
  "[data-close]": (button) => button.closest("dialog").close(),
  "[data-copy]": copy,
  "[data-rail]": () => openRail(!document.getElementById("rail").classList.contains("open")),
};

document.addEventListener("click", (event) => {
  for (const [selector, act] of Object.entries(CLICKS)) {
    const element = event.target.closest(selector);
    if (element) act(element);
  }
  if (event.target.matches("dialog.dialog[open]:not(#confirm)")) closeOnBackdrop(event);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target) || event.target.closest(".menu-items :is(a, button)")) menu.open = false;
  }
  if (!event.target.closest("#rail, [data-rail]")) openRail(false);
});

function closeOnBackdrop(event) {
  const box = event.target.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  if (!inside && event.detail) event.target.close();
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
  openRail(false);
});

function openRail(open) {
  const rail = document.getElementById("rail");
  if (!rail || rail.classList.contains("open") === open) return;
  rail.classList.toggle("open", open);
  document.querySelector("[data-rail]").setAttribute("aria-expanded", String(open));
  if (open) rail.querySelector("a").focus();
}

/** `data-copy="text"`, or `data-copy="#id"` for the text of an element. */
async function copy(button) {
  const wanted = button.dataset.copy;
  const source = wanted.startsWith("#") ? document.querySelector(wanted) : null;
  try {
    await navigator.clipboard.writeText(source ? (source.value ?? source.textContent) : wanted);
    toast("Copied.", "ok");
  } catch {
    toast("The browser did not allow copying: select the text and copy it by hand.", "warn");
  }
}

// --- tabs -----------------------------------------------------------------------------------------------------------
// <div class="tabs" role="tablist"> <button class="tab" role="tab" aria-controls="panel" aria-selected="true">; the
// address remembers the open one after its #.

export function openTab(tab, focus = false) {
  const strip = tab.closest("[role='tablist']");
  const tabs = strip.querySelectorAll("[role='tab']");
  for (const other of tabs) {
    const open = other === tab;
    other.setAttribute("aria-selected", String(open));
    other.tabIndex = open ? 0 : -1;
    const panel = document.getElementById(other.getAttribute("aria-controls"));
    if (panel) panel.hidden = !open;
  }
  if (focus) tab.focus();
  showInStrip(tab, strip);
  const panel = document.getElementById(tab.getAttribute("aria-controls"));
  panel?.dispatchEvent(new CustomEvent("tab-open", { bubbles: true }));
}

/** On a narrow screen the tabs scroll sideways: the open one is to be seen whole. The page itself stays where it is. */
function showInStrip(tab, strip) {
  const [inner, outer] = [tab.getBoundingClientRect(), strip.getBoundingClientRect()];
  strip.scrollLeft += Math.max(0, inner.right - outer.right) - Math.max(0, outer.left - inner.left);
}

document.addEventListener("click", (event) => {
  const tab = event.target.closest("[role='tab']");
  if (!tab) return;
  openTab(tab);
  history.replaceState(history.state, "", `#${tab.getAttribute("aria-controls")}`);
});
document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.("[role='tab']");
  const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!tab || !move) return;
  event.preventDefault(); // or the strip scrolls as well
  const tabs = [...tab.closest("[role='tablist']").querySelectorAll("[role='tab']")];
  openTab(tabs[(tabs.indexOf(tab) + move + tabs.length) % tabs.length], true);
});

function openTabOfAddress() {
  const name = decodeURIComponent(location.hash.slice(1));
  const tab = name && document.querySelector(`[role="tab"][aria-controls="${CSS.escape(name)}"]`);
  if (tab) openTab(tab);
}
window.addEventListener("hashchange", openTabOfAddress);

// --- times ----------------------------------------------------------------------------------------------------------

function refreshTimes() {
  for (const time of document.querySelectorAll("time[data-ago]")) time.textContent = ago(new Date(time.dateTime));
}

// A dialog whose form was refused comes back open within the page: show it above the page.
for (const dialog of document.querySelectorAll("dialog.dialog[open]")) {
  dialog.close();
  dialog.showModal();
}

watchToasts();
openTabOfAddress();
setInterval(refreshTimes, 10_000);
