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
function trouble(error) { if (error instanceof SignedOut) show(); else live(false); }

let ticking = null;
async function show() {
  const signedIn = Boolean(session.access);
  $("login").hidden = signedIn; $("board").hidden = !signedIn; $("logout").hidden = !signedIn;
  clearInterval(ticking);
  if (!signedIn) { live(false); $("live").textContent = "signed out"; return; }
  try {
    const me = await (await call("/users/me")).json();
    $("organization").textContent = `${me.name} (${me.role.replace("_", " ")})`;
    await all();
    if (wanted()) $("ticket").focus();
    follow();
    ticking = setInterval(() => { if (!document.hidden) Promise.all([showLanes(), showDeliveries(), showJobs()]).catch(trouble); }, 2000);
  } catch (error) { trouble(error); }
}

$("login-form").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const form = new FormData(submit.target);
  const answer = await fetch(`${api}/auth/login`, {
    method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify({ email: form.get("email"), password: form.get("password") }),
  });
  const body = await answer.json();
  if (!answer.ok) { $("login-error").textContent = body.detail ?? "Signing in failed."; return; }
  $("login-error").textContent = "";
  session.keep(body);
  show();
});
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
