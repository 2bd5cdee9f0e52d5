// The board, live, and which page is there. A client of the public API.
import { $, SignedOut, call, cell, clock, element, fill, items, json, moment, session, signedOut, stateTone, words } from "/client.js";
import * as signIn from "/sign_in.js";
import * as webhooks from "/webhooks.js";
import * as account from "/account.js";

function span(seconds) {
  const s = Math.abs(Math.round(seconds));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}
const priorityTone = { critical: "bad", high: "warn", medium: "plain", low: "soft" };
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

/** What the address asks for: a ticket, as the links in our messages do (`/?ticket=INC0000001`), or a page (`/?page=webhooks`). */
const asked = (name) => new URLSearchParams(location.search).get(name);
const wanted = () => asked("ticket");
const address = (number) => `/?ticket=${encodeURIComponent(number)}`;
function ticketCell(number) {
  const td = cell("", "num"), link = document.createElement("a");
  link.href = address(number);
  link.textContent = number;
  td.append(link);
  return td;
}
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
    const page = await json(`${path}?page_size=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    all.push(...page.items);
    cursor = page.next_cursor ?? null;
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
    ticket = await json(path);
    const part = (name) => whole(`${path}/${name}`).catch((error) => { if (error.status === 403) return []; throw error; });
    [comments, changes] = await Promise.all([part("comments"), part("history")]);
  } catch (error) {
    if (error.status !== 403 && error.status !== 404) throw error;
    ticket = null;
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
  if (!rights.has("jobs.read")) return;
  const list = await items("/lanes");
  fill("lanes", list.map((l) => ({ key: l.name, stamp: "", cells: [
    cell(l.paused ? `${l.name} (paused)` : l.name, l.paused ? "warn" : ""), cell(l.ready, "n"), cell(l.running, "n"), cell(l.scheduled, "n"),
    cell(l.dead, l.dead ? "n bad" : "n"), cell(l.oldest_ready_age_seconds ? span(l.oldest_ready_age_seconds) : "", "n"),
  ] })));
}
async function showDeliveries() {
  if (!rights.has("notifications.read")) return;
  const list = await items("/notifications?page_size=12");
  fill("deliveries", list.map((d) => ({ key: d.id, stamp: d.status, cells: [
    cell(clock(d.sent_at ?? d.created_at), "t"), cell(d.kind), cell(d.recipient), cell(d.subject ?? d.message), cell(d.status.replace("_", " "), "", stateTone[d.status]),
  ] })));
}
async function showJobs() {
  if (!rights.has("jobs.read")) return;
  const list = await items("/jobs?page_size=12");
  fill("jobs", list.map((j) => ({ key: j.id, stamp: j.state, cells: [
    cell(clock(j.finished_at ?? j.created_at), "t"), cell(j.kind), cell(j.lane), cell(j.state, "", stateTone[j.state]), cell(j.attempt, "n"), cell(j.error, "soft"),
  ] })));
}

/** What this person may, as `user-permissions` says. */
let rights = new Set();
async function showRights() {
  const all = await items("/user-permissions?page_size=200");
  rights = new Set(all.filter((permission) => permission.allowed).map((permission) => permission.name));
  for (const part of document.querySelectorAll("[data-needs]")) part.hidden = !rights.has(part.dataset.needs);
}

const pages = { webhooks, account };
const page = () => (Object.hasOwn(pages, asked("page") ?? "") ? asked("page") : "board");
/** Shows the page that the address asks for, with what is in it. */
async function turn() {
  const here = page();
  for (const name of ["board", ...Object.keys(pages)]) $(name).hidden = name !== here;
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.dataset.page === here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (here === "board") await all();
  else { document.title = `${here === "account" ? "My account" : "Webhooks"} – Relaydesk`; await pages[here].show(rights); }
}
/** What is not told as an event is looked at every now and then. */
function look() {
  if (page() !== "board") return pages[page()].look();
  return rights.has("events.follow") ? Promise.all([showLanes(), showDeliveries(), showJobs()]) : all();
}

let due = null;
const all = () => Promise.all([showTicket(), showTickets(), showLanes(), showDeliveries(), showJobs()]);
/** Many events in a moment cost one redraw. */
function soon() { due ??= setTimeout(() => { due = null; if (page() === "board") all().catch(trouble); }, 150); }
const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

async function follow() {
  let last = "";
  while (session.access) {
    try {
      const answer = await call("/events/stream", { headers: { accept: "text/event-stream", ...(last && { "last-event-id": last }) } });
      live(true);
      // What happened while nobody listened.
      soon();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        // What arrives may end in the middle of a line.
        const lines = (rest + value).split(/\r?\n/);
        rest = lines.pop();
        for (const line of lines) {
          if (line.startsWith("id:")) last = line.slice(3).trim();
          if (/^(data|event):/.test(line)) soon();
        }
      }
    } catch (error) {
      if (error instanceof SignedOut) return trouble(error);
    }
    live(false);
    await pause(2000);
  }
}

/** What happens is told to us; and what we asked for last was answered. */
let [told, answered] = [false, true];
function live(on) { told = on; answered ||= on; showLive(); }
function showLive() {
  const on = told && answered;
  $("live").dataset.state = on ? "on" : "off";
  $("live").textContent = on ? "live" : "reconnecting";
}
function trouble(error) {
  if (error instanceof SignedOut) signedOut();
  else if (error.slug === "password-change-required") location.reload();
  else { answered = false; showLive(); }
}

let ticking = null;
/** In, or not. */
async function enter() {
  const signedIn = Boolean(session.access) && !signIn.isBusy();
  clearInterval(ticking);
  for (const id of ["logout", "pages", "live"]) $(id).hidden = !signedIn;
  $("login").hidden = signedIn;
  if (!signedIn) {
    for (const name of ["board", ...Object.keys(pages)]) $(name).hidden = true;
    signIn.show();
    return;
  }
  try {
    const me = await json("/users/me");
    signIn.done();
    $("organization").textContent = `${me.name} (${words(me.role)})`;
    await showRights();
  } catch (error) {
    if (error.slug === "password-change-required") {
      $("login").hidden = false;
      for (const id of ["pages", "live"]) $(id).hidden = true;
      signIn.choose();
      return;
    }
    // A suspended organization, an account that was locked: the sign-in says it.
    if (error.status === 403) return signedOut(error.message);
    trouble(error);
    if (error instanceof SignedOut) return;
    // Not here now: it will be.
    await pause(2000);
    return enter();
  }
  await turn().catch(trouble);
  if (page() === "board" && wanted()) $("ticket").focus();
  if (rights.has("events.follow")) follow();
  else live(true);
  ticking = setInterval(() => { if (!document.hidden) look().then(() => { answered = true; showLive(); }).catch(trouble); }, 2000);
}
signIn.start(enter);

document.addEventListener("click", (click) => {
  const link = click.target.closest?.("#tickets a, #pages a");
  if (!link || click.button !== 0 || click.ctrlKey || click.metaKey || click.shiftKey || click.altKey) return;
  click.preventDefault();
  if (link.dataset.page) { window.history.pushState(null, "", link.href); turn().catch(trouble); return; }
  open(new URL(link.href).searchParams.get("ticket"), true);
});
$("ticket-close").addEventListener("click", () => open(null, true));
$("ticket").addEventListener("keydown", (key) => { if (key.key === "Escape") open(null, true); });
addEventListener("popstate", () => {
  if (!session.access || signIn.isBusy()) return;
  if ($("board").hidden || page() !== "board") turn().catch(trouble); else open(wanted(), false);
});
$("logout").addEventListener("click", async () => {
  await call("/auth/logout", { method: "POST", body: { refresh: session.refresh } }).catch(() => {});
  session.clear();
  location.reload();
});
