// What all pages share: the login of this tab, calls of the public API, and elements made of text.
export const api = "/api/v1";
export const $ = (id) => document.getElementById(id);

/** The tokens live in this tab only. */
export const session = {
  get access() { return sessionStorage.getItem("access"); },
  get refresh() { return sessionStorage.getItem("refresh"); },
  keep({ access, refresh }) { sessionStorage.setItem("access", access); sessionStorage.setItem("refresh", refresh); },
  clear() { sessionStorage.clear(); },
};

/** The login has ended. */
export class SignedOut extends Error {}
/** What the API refused, in its words; `slug` is the type of docs/problems.md. */
export class Refused extends Error {
  constructor(problem, status) {
    super(wordsOf(problem, status));
    this.status = status;
    this.slug = String(problem.type ?? "").split("/").pop();
    this.fields = (problem.errors ?? []).map((error) => error.pointer);
    this.details = (problem.errors ?? []).map((error) => error.detail);
  }
}
function wordsOf(problem, status) {
  if (!problem.errors?.length) return problem.detail ?? `The server answered ${status}.`;
  // Of a list's entries the words name the one that they mean.
  const name = (pointer) => (/\/\d+/.test(pointer) ? "" : pointer.split("/").join(" ").trim().replaceAll("_", " "));
  return problem.errors.map(({ pointer, detail }) => `${name(pointer)} ${detail}`.trim()).join("; ");
}
/** A proxy in between may answer with something else than a problem. */
async function refusal(answer) {
  return new Refused(await answer.json().catch(() => ({})), answer.status);
}
/** For people: what the API said, or that nobody answered. */
export function said(error) {
  return error instanceof TypeError ? "Relaydesk cannot be reached. Try again in a moment." : error.message;
}

function send(path, { method = "GET", body, headers } = {}, access) {
  const all = { ...(access && { authorization: `Bearer ${access}` }), ...(body !== undefined && { "content-type": "application/json" }), ...headers };
  return fetch(api + path, { method, headers: all, body: body === undefined ? undefined : JSON.stringify(body) });
}
/** Without a login; answers the body. */
export async function post(path, body) {
  const answer = await send(path, { method: "POST", body });
  if (!answer.ok) throw await refusal(answer);
  return answer.json().catch(() => null); // some have nothing to say
}

let renewing = null;
/** One renewal for all requests that find the token expired: a refresh token works once. */
function renew() {
  renewing ??= send("/auth/refresh", { method: "POST", body: { refresh: session.refresh } }).then(async (answer) => {
    if (answer.ok) { session.keep(await answer.json()); return; }
    // A database that is away for a moment ends no login.
    if (answer.status !== 401 && answer.status !== 403) throw await refusal(answer);
    throw new SignedOut();
  }).finally(() => { renewing = null; });
  return renewing;
}
/** With the login of this tab; answers the response when it is a good one. */
export async function call(path, options) {
  let answer = await send(path, options, session.access);
  if (answer.status === 401) {
    if (!session.refresh) throw new SignedOut();
    await renew();
    answer = await send(path, options, session.access);
    if (answer.status === 401) throw new SignedOut();
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}
export const json = async (path, options) => (await call(path, options)).json();
export const items = async (path) => (await json(path)).items;

/** Does what a form asks for, once at a time, and says in the form what went wrong. */
export function onSubmit(form, error, work) {
  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    if (form.ariaBusy === "true") return;
    form.ariaBusy = "true";
    error.textContent = "";
    try { await work(new FormData(form)); } catch (caught) {
      if (caught instanceof SignedOut) signedOut();
      else error.textContent = said(caught);
    } finally { form.ariaBusy = "false"; }
  });
}
/** Whoever is signed out by the server leaves nothing on the page: it is loaded anew. */
export function signedOut(why) {
  session.clear();
  sessionStorage.setItem("notice", why ?? "Your login has ended. Sign in again.");
  location.reload();
}

/** A table cell; text only, so nothing that a mail or an alert says can become markup. */
export function cell(text, className, tag) {
  const td = document.createElement("td");
  if (className) td.className = className;
  if (tag) td.append(element("span", text, `tag ${tag}`));
  else td.textContent = text ?? "";
  return td;
}
export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text ?? "";
  return made;
}
/** What it does is said by `data-do` and `data-key`: tables are drawn anew while somebody is about to press it. */
export function button(text, what, key) {
  const made = element("button", text);
  made.type = "button";
  made.dataset.do = what;
  made.dataset.key = key;
  return made;
}
const known = new Map();
const nameOf = (node) => node.getAttribute("href") ?? `${node.dataset.do} ${node.dataset.key}`;
export function fill(id, rows) {
  const body = $(id), before = known.get(id), now = new Map();
  const made = rows.map(({ key, stamp, cells, current }) => {
    const tr = document.createElement("tr");
    if (current) tr.setAttribute("aria-current", "true");
    tr.append(...cells);
    now.set(key, stamp);
    if (before && before.get(key) !== stamp) tr.className = "fresh";
    return tr;
  });
  known.set(id, now);
  const empty = $(`${id}-empty`);
  if (empty) empty.hidden = rows.length > 0;
  // What is as it was stays, so that no click falls between two rows.
  const isSame = (tr, n) => body.children[n].innerHTML === tr.innerHTML && body.children[n].ariaCurrent === tr.ariaCurrent;
  if (body.children.length === made.length && made.every(isSame)) return;
  // Who walks through the rows with the keyboard stays where they are.
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  body.replaceChildren(...made);
  if (!focused) return;
  const all = [...body.querySelectorAll("a, button")], [name, key] = [nameOf(focused), focused.dataset.key];
  // A button that was pressed may be another one by now.
  (all.find((node) => nameOf(node) === name) ?? all.find((node) => key && node.dataset.key === key))?.focus();
}

export const clock = (time) => time ? new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "";
export const moment = (time) => time ? new Date(time).toLocaleString() : "";
export const words = (text) => String(text ?? "").replaceAll("_", " ");
export const stateTone = {
  sent: "good", done: "good", delivered: "good", given_up: "bad", dead: "bad", failed: "bad", pending: "warn", retry: "warn",
};
