// Requests to our own server: same-origin, with Django's CSRF token, failures as errors with the server's words.

export class RequestError extends Error {
  constructor(message, status, fields = {}) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

export function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]*)/)?.[1] ?? "";
}

export function getJSON(url, options = {}) {
  return request(url, options);
}

export function postJSON(url, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return request(url, { method: "POST", body: JSON.stringify(body), ...options, headers });
}

export function postForm(url, form, options = {}) {
  const body = form instanceof FormData ? form : new FormData(form);
  return request(url, { method: "POST", body, ...options });
}

async function request(url, options) {
  const headers = { Accept: "application/json", "X-CSRFToken": csrfToken(), ...options.headers };
  const response = await fetch(url, { credentials: "same-origin", ...options, headers });
  const isJSON = response.headers.get("Content-Type")?.includes("json");
  const body = isJSON ? await response.json() : await response.text();
  if (response.ok) return body;
  const error = isJSON ? body.error : undefined;
  throw new RequestError(error?.message ?? `The server answered ${response.status}.`, response.status, error?.fields);
}
