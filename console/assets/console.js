// The live board: a client of the public API. The access token lives in this tab only.
const api = "/api/v1";
const $ = (id) => document.getElementById(id);
const session = {
  get access() { return sessionStorage.getItem("access"); },
  get refresh() { return sessionStorage.getItem("refresh"); },
  keep({ access, refresh }) { sessionStorage.setItem("access", access); sessionStorage.setItem("refresh", refresh); },
  clear() { sessionStorage.clear(); },
};

let renewing = null;
/** One renewal for all requests that find the token expired: a refresh token works once. */
function renew() {
  renewing ??= fetch(`${api}/auth/refresh`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ refresh: session.refresh }),
  }).then(async (answer) => {
    if (!answer.ok) return false;
    session.keep(await answer.json());
    return true;
  }).finally(() => { renewing = null; });
  return renewing;
}

class SignedOut extends Error {}
class NotFound extends Error {}

async function call(path, options = {}) {
  const send = () => fetch(api + path, { ...options, headers: { authorization: `Bearer ${session.access}`, ...options.headers } });
  let answer = await send();
  if (answer.status === 401) {
    if (!session.refresh || !(await renew())) { session.clear(); throw new SignedOut(); }
    answer = await send();
  }
  if (answer.status === 403) return null; // this person may not see this part
  if (answer.status === 404) throw new NotFound(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}
const items = async (path) => (await (await call(path))?.json())?.items ?? [];

/** A table cell; text only, so nothing that a mail or an alert says can become markup. */
function cell(text, className, tag) {
  const td = document.createElement("td");
  if (className) td.className = className;
  if (tag) { const span = document.createElement("span"); span.className = `tag ${tag}`; span.textContent = text; td.append(span); }
  else td.textContent = text ?? "";
  return td;
}
const known = new Map();
function fill(id, rows) {
  const body = $(id), before = known.get(id), now = new Map();
  const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  body.replaceChildren(...rows.map(({ key, stamp, cells, current }) => {
    const tr = document.createElement("tr");
    if (current) tr.setAttribute("aria-current", "true");
    tr.append(...cells);
    now.set(key, stamp);
    if (before && before.get(key) !== stamp) tr.className = "fresh";
    return tr;
  }));
  // Who walks through the rows with the keyboard stays where they are.
  if (focused) [...body.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
  known.set(id, now);
  const empty = $(`${id}-empty`);
  if (empty) empty.hidden = rows.length > 0;
}

const clock = (time) => time ? new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "";
function span(seconds) {
  const s = Math.abs(Math.round(seconds));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}
const priorityTone = { critical: "bad", high: "warn", medium: "plain", low: "soft" };
const stateTone = { sent: "good", done: "good", given_up: "bad", dead: "bad", failed: "bad", pending: "warn", retry: "warn" };

function slaCell(sla) {
  const open = ["first_response", "resolution"].map((name) => [name, sla?.[name]]).filter(([, clock]) => clock);
  const breached = open.find(([, c]) => c.state === "breached" || c.breached_at);
  if (breached) return cell(`${breached[0].replace("_", " ")} breached`, "", "bad");
  const next = open.filter(([, c]) => c.state === "running" && c.due_at).sort((a, b) => a[1].due_at.localeCompare(b[1].due_at))[0];
  if (next) {
    const left = (new Date(next[1].due_at) - Date.now()) / 1000;
    return cell(`${next[0].replace("_", " ")} in ${span(left)}`, left < 900 ? "warn" : "soft");
  }
  return cell(open.some(([, c]) => c.state === "paused") ? "paused" : "", "soft");
}

/** The ticket that the address asks for, as the links in our messages do: `/?ticket=INC0000001`. */
const wanted = () => new URLSearchParams(location.search).get("ticket");
const address = (number) => `/?ticket=${encodeURIComponent(number)}`;
function ticketCell(number) {
  const td = cell("", "num"), link = document.createElement("a");
  link.href = address(number);
  link.textContent = number;
  td.append(link);
  return td;
}
function element(tag, text, className) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text ?? "";
  return made;
}
const moment = (time) => time ? new Date(time).toLocaleString() : "";
const words = (text) => String(text ?? "").replaceAll("_", " ");
/** A changed value: names for the ids that the ticket itself knows, local times, words as people write them. */
function value(change, names) {
  if (change == null || change === "") return "nothing";
  if (typeof change === "object") return [change.what, change.visibility, change.detail].filter(Boolean).map(words).join(": ") || JSON.stringify(change);
  if (names.has(change)) return names.get(change);
  if (/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(change)) return moment(change);
  return /^[a-z]+(_[a-z]+)+$/.test(change) ? words(change) : String(change);
}
function promise(clock) {
  if (!clock) return null;
  const due = clock.due_at ? `, due ${moment(clock.due_at)}` : "";
  return `${clock.state}${due}`;
}
function entry(head, text) {
  const li = document.createElement("li");
  li.append(element("div", head, "soft"));
  if (text) li.append(element("div", text, "text"));
  return li;
}
/** All pages of a list; a ticket has few entries, and nobody reads more than a thousand here. */
async function whole(path) {
  const all = [];
  for (let cursor = ""; cursor !== null && all.length < 1000;) {
    const page = await (await call(`${path}?page_size=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`))?.json();
    all.push(...(page?.items ?? []));
    cursor = page?.next_cursor ?? null;
  }
  return all;
}
async function showTicket() {
  const number = wanted();
  $("ticket").hidden = !number;
  document.title = number ? `${number} – Relaydesk` : "Relaydesk";
  if (!number) return;
  const path = `/incidents/${encodeURIComponent(number)}`;
  let ticket = null, comments = [], changes = [];
  try {
    ticket = await (await call(path))?.json();
    if (ticket) [comments, changes] = await Promise.all([whole(`${path}/comments`), whole(`${path}/history`)]);
  } catch (error) {
    if (!(error instanceof NotFound)) throw error;
  }
  if (number !== wanted()) return; // another one was opened meanwhile
  $("ticket-title").textContent = ticket ? `${ticket.number}: ${ticket.title}` : number;
  $("ticket-body").hidden = !ticket;
  $("ticket-missing").hidden = Boolean(ticket);
  $("ticket-missing").textContent = ticket ? "" : `There is no ${number}, or it is not for you to see.`;
  if (!ticket) return;
  const facts = [
    ["Status", words(ticket.status)], ["Priority", ticket.priority], ["Impact, urgency", `${ticket.impact}, ${ticket.urgency}`],
    ["From", ticket.requester_name], ["Assignee", ticket.assignee_name], ["Team", ticket.team_name], ["Source", ticket.source],
    ["Tags", ticket.tags.join(", ")], ["First response", promise(ticket.sla?.first_response)],
    ["Resolution target", promise(ticket.sla?.resolution)], ["Resolution", ticket.resolution],
    ["Opened", moment(ticket.created_at)], ["Changed", moment(ticket.updated_at)],
  ];
  $("ticket-facts").replaceChildren(...facts.filter(([, value]) => value).map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
  $("ticket-description").textContent = ticket.description;
  const names = new Map([
    [ticket.requester, ticket.requester_name], [ticket.assignee, ticket.assignee_name], [ticket.team, ticket.team_name],
  ].filter(([id, name]) => id && name));
  const open = comments.filter((comment) => comment.visibility === "public");
  $("ticket-comments").replaceChildren(...open.map((c) => entry(`${c.author_name ?? "Relaydesk"}, ${moment(c.created_at)}`, c.body)));
  $("ticket-comments-empty").hidden = open.length > 0;
  $("ticket-history").replaceChildren(...changes.map((h) => entry(
    `${moment(h.at)}, ${h.actor_name}: ${words(h.action)}`,
    h.action === "opened" ? "" : h.changes.map((change) => {
      const to = value(change.to, names);
      return `${words(change.field)}: ${change.from == null ? to : `${value(change.from, names)} → ${to}`}`;
    }).join("\n"),
  )));
}
/** Opens (or without a number closes) the panel and moves the focus there, or back to where it came from. */
async function open(number, push) {
  const before = wanted();
  if (push) window.history.pushState(null, "", number ? address(number) : "/");
  await Promise.all([showTicket(), showTickets()]).catch(trouble);
  if (number) { $("ticket").focus(); $("ticket").scrollIntoView({ block: "nearest" }); }
  else [...$("tickets").querySelectorAll("a")].find((link) => link.getAttribute("href") === address(before ?? ""))?.focus();
}

async function showTickets() {
  const list = await items("/incidents?open=true&page_size=25&ordering=-updated_at");
  $("ticket-count").textContent = list.length === 25 ? "(latest 25)" : `(${list.length})`;
  fill("tickets", list.map((t) => ({ key: t.number, stamp: t.updated_at, current: t.number === wanted(), cells: [
    ticketCell(t.number), cell(t.priority, "", priorityTone[t.priority]), cell(t.status.replace("_", " ")), cell(t.title),
    cell(t.source, "soft"), slaCell(t.sla), cell(clock(t.updated_at), "t"),
  ] })));
}
async function showLanes() {
  const list = await items("/lanes");
  fill("lanes", list.map((l) => ({ key: l.name, stamp: "", cells: [
    cell(l.paused ? `${l.name} (paused)` : l.name, l.paused ? "warn" : ""), cell(l.ready, "n"), cell(l.running, "n"), cell(l.scheduled, "n"),
    cell(l.dead, l.dead ? "n bad" : "n"), cell(l.oldest_ready_age_seconds ? span(l.oldest_ready_age_seconds) : "", "n"),
  ] })));
}
async function showDeliveries() {
  const list = await items("/notifications?page_size=12");
  fill("deliveries", list.map((d) => ({ key: d.id, stamp: d.status, cells: [
    cell(clock(d.sent_at ?? d.created_at), "t"), cell(d.kind), cell(d.recipient), cell(d.subject ?? d.message), cell(d.status.replace("_", " "), "", stateTone[d.status]),
  ] })));
}
async function showJobs() {
  const list = await items("/jobs?page_size=12");
  fill("jobs", list.map((j) => ({ key: j.id, stamp: j.state, cells: [
    cell(clock(j.finished_at ?? j.created_at), "t"), cell(j.kind), cell(j.lane), cell(j.state, "", stateTone[j.state]), cell(j.attempt, "n"), cell(j.error, "soft"),
  ] })));
}

let due = null;
const all = () => Promise.all([showTicket(), showTickets(), showLanes(), showDeliveries(), showJobs()]);
/** Many events in a moment cost one redraw. */
function soon() { due ??= setTimeout(() => { due = null; all().catch(trouble); }, 150); }

async function follow() {
  let last = "";
  for (;;) {
    try {
      const answer = await call("/events/stream", { headers: { accept: "text/event-stream", ...(last && { "last-event-id": last }) } });
      if (!answer) return;
      live(true);
      // What happened while nobody listened.
      soon();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        for (const [, id] of value.matchAll(/^id: ?(.*)$/gm)) last = id;
        if (/^(data|event):/m.test(value)) soon();
      }
    } catch (error) {
      if (error instanceof SignedOut) return trouble(error);
    }
    live(false);
    await new Promise((resume) => setTimeout(resume, 2000));
  }
}

function live(on) { $("live").dataset.state = on ? "on" : "off"; $("live").textContent = on ? "live" : "reconnecting"; }
/** Whoever is signed out by the server leaves nothing on the page: it is loaded anew. */
function trouble(error) { if (error instanceof SignedOut) location.reload(); else live(false); }

let ticking = null;
async function show() {
  const signedIn = Boolean(session.access);
  $("login").hidden = signedIn; $("board").hidden = !signedIn; $("logout").hidden = !signedIn;
  clearInterval(ticking);
  if (!signedIn) { live(false); $("live").textContent = "signed out"; return; }
  try {
    const answer = await call("/users/me");
    if (!answer) { choose(); return; }
    const me = await answer.json();
    typed = null;
    $("organization").textContent = `${me.name} (${me.role.replace("_", " ")})`;
    await all();
    if (wanted()) $("ticket").focus();
    follow();
    ticking = setInterval(() => { if (!document.hidden) Promise.all([showLanes(), showDeliveries(), showJobs()]).catch(trouble); }, 2000);
  } catch (error) { trouble(error); }
}

const post = (path, body, headers) => fetch(`${api}/auth/${path}`, {
  method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body),
});
const wrong = (problem) => problem.errors?.[0] ? `${problem.errors[0].pointer.slice(1).replace("_", " ")} ${problem.errors[0].detail}` : problem.detail;
/** Which of the forms of signing in is there. */
function step(id) { for (const form of ["login-form", "code-form", "reset-form", "recovery"]) $(form).hidden = form !== id; }
let halfway = null;
/** What was typed a moment ago, for who has to choose another one. */
let typed = null;
/** Somebody else has set the password: nothing else goes before it is changed. */
function choose() {
  $("login").hidden = false; $("board").hidden = true;
  if (!typed) { session.clear(); step("login-form"); $("login-error").textContent = "Sign in again to choose a password of your own."; return; }
  $("reset-error").textContent = "Somebody else has set your password: choose one of your own.";
  step("reset-form");
}

$("login-form").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const form = new FormData(submit.target);
  typed = form.get("password");
  goOn(await post("login", { email: form.get("email"), password: typed }));
});
/** After the first step: in, or asked for a second factor. */
async function goOn(answer) {
  const body = await answer.json();
  if (!answer.ok) { $("login-error").textContent = body.detail ?? "Signing in failed."; return; }
  $("login-error").textContent = "";
  if (!body.mfa_required) { session.keep(body); show(); return; }
  halfway = body.mfa_token;
  if (body.must_enrol) {
    const begun = await post("mfa/enable", { mfa_token: halfway });
    const made = await begun.json();
    if (!begun.ok) { $("login-error").textContent = made.detail; return; }
    $("enrol-secret").textContent = made.secret;
    $("enrol-code").replaceChildren(document.importNode(new DOMParser().parseFromString(made.qr_svg, "image/svg+xml").documentElement, true));
  }
  $("enrol").hidden = !body.must_enrol;
  step("code-form");
}
$("code-form").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const answer = await post("mfa/verify", { mfa_token: halfway, code: new FormData(submit.target).get("code") });
  const body = await answer.json();
  submit.target.reset();
  if (answer.status === 401) { step("login-form"); $("login-error").textContent = body.detail; return; }
  if (!answer.ok) { $("code-error").textContent = wrong(body); return; }
  session.keep(body);
  if (!body.recovery_codes) { step("login-form"); show(); return; }
  $("recovery-codes").textContent = body.recovery_codes.join("\n");
  step("recovery");
});
$("recovery-kept").addEventListener("click", () => { $("recovery-codes").textContent = ""; step("login-form"); show(); });
$("forgotten").addEventListener("click", async () => {
  const email = new FormData($("login-form")).get("email");
  if (!email) { $("login-error").textContent = "Type your e-mail address first."; return; }
  const answer = await post("password-reset", { email });
  $("login-error").textContent = answer.ok ? "If the address is known, a mail with a link is on its way." : (await answer.json()).detail;
});
$("reset-form").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const chosen = new FormData(submit.target).get("password");
  const answer = resetting ? await post("password-confirm", { token: resetting, new_password: chosen })
    : await post("change-password", { current_password: typed, new_password: chosen }, { authorization: `Bearer ${session.access}` });
  if (!answer.ok) { $("reset-error").textContent = wrong(await answer.json()); return; }
  typed = null;
  submit.target.reset();
  if (!resetting) { step("login-form"); show(); return; }
  step("login-form");
  $("login-error").textContent = "The password is set: sign in with it.";
});
/** The token of a mail's link, which does not stay in the address bar. */
const resetting = location.hash.startsWith("#reset=") ? location.hash.slice(7) : null;
if (resetting) { session.clear(); history.replaceState(null, "", location.pathname); step("reset-form"); }

/** Why a login at an identity provider came to nothing. Only these sentences are shown: whoever makes a link chooses the word at most. */
const refusals = {
  expired: "The sign-in took too long or was begun in another window: try again.",
  denied: "The sign-in was refused at your provider.",
  provider_failed: "Your provider could not be reached or gave no usable answer. Try again, or ask an administrator.",
  invalid_token: "What your provider answered cannot be trusted. Ask an administrator.",
  email_not_verified: "Your provider does not say that your e-mail address is verified.",
  domain_not_allowed: "Addresses of your domain may not sign in here.",
  no_account: "You have no account here. Ask an administrator for one.",
  account_exists: "There is an account with your address that is not linked to your provider. Ask an administrator.",
  account_closed: "Your account is locked or deactivated.",
  suspended: "Your organization is suspended.",
  not_by_provider: "Administrators of this installation do not get their rights by way of a provider.",
  last_admin: "Your provider's groups would take the last administrator away. Ask an administrator.",
  not_asked_again: "Your provider does not say that it has asked you again who you are.",
};
/** The organization that the address names (`/?organization=acme`), else the one of the last time. */
function organization() {
  const named = new URLSearchParams(location.search).get("organization");
  if (named) localStorage.setItem("organization", named);
  return named ?? localStorage.getItem("organization");
}
async function showProviders() {
  const named = organization();
  const answer = await fetch(`${api}/auth/oidc${named ? `?organization=${encodeURIComponent(named)}` : ""}`);
  const found = answer.ok ? (await answer.json()).items : [];
  const back = encodeURIComponent(location.pathname + location.search);
  $("providers").replaceChildren(...found.map(({ name, start }) => {
    const link = element("a", `Sign in with ${name}`, "provider");
    link.href = `${start}?return_to=${back}`;
    return link;
  }));
  $("providers").hidden = found.length === 0;
}
const returned = location.hash.match(/^#(sign_in|sign_in_error)=([\w-]+)$/);
if (returned) {
  history.replaceState(null, "", location.pathname + location.search);
  if (returned[1] === "sign_in") { session.clear(); post("oidc/token", { code: returned[2] }).then(goOn); }
  else $("login-error").textContent = refusals[returned[2]] ?? "Signing in failed.";
}
if (!session.access) showProviders().catch(() => {});

document.addEventListener("click", (click) => {
  const link = click.target.closest?.("#tickets a");
  if (!link || click.button !== 0 || click.ctrlKey || click.metaKey || click.shiftKey || click.altKey) return;
  click.preventDefault();
  open(new URL(link.href).searchParams.get("ticket"), true);
});
$("ticket-close").addEventListener("click", () => open(null, true));
$("ticket").addEventListener("keydown", (key) => { if (key.key === "Escape") open(null, true); });
addEventListener("popstate", () => { if (session.access) open(wanted(), false); });
$("logout").addEventListener("click", async () => {
  await call("/auth/logout", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ refresh: session.refresh }) }).catch(() => {});
  session.clear();
  location.reload();
});
show();
