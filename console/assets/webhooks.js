// Webhooks: where events are told to other systems, and what became of it (docs/webhooks.md).
import { $, SignedOut, button, call, cell, clock, element, fill, items, json, moment, onSubmit, said, signedOut, stateTone } from "/client.js";

let [mayRead, mayManage] = [false, false];
/** By their ids, as they were last seen. */
let known = new Map();
/** The delivery whose attempts are shown. */
let opened = null;

export async function show(rights) {
  [mayRead, mayManage] = ["webhooks.read", "webhooks.manage"].map((right) => rights.has(right));
  forget();
  close();
  for (const id of ["webhooks-error", "webhooks-said", "webhook-form-error", "told-error"]) $(id).textContent = "";
  if (!mayRead) {
    // In the API's words.
    await showList().catch((error) => { $("webhooks-error").textContent = said(error); });
    return;
  }
  await look();
  const types = await items("/webhook-event-types?page_size=200");
  $("event-types").replaceChildren(...types.map((type) => { const option = element("option"); option.value = type; return option; }));
}
export async function look() {
  if (!mayRead) return;
  await showList();
  await Promise.all([showTold(), showAttempts()]);
}

/** What is enough to tell one address from another in a line. */
const host = (url) => { try { return new URL(url).host; } catch { return url; } };
function stateOf(webhook) {
  if (webhook.is_active) return webhook.failures > 0 ? cell(`${webhook.failures} failed since ${moment(webhook.failing_since)}`, "", "warn") : cell("on", "", "good");
  const why = { by_hand: "off", gone: "off: the receiver says that it is gone", failing: "off: nothing was delivered for days", owner_deleted: "off: its owner was deleted" };
  return cell(why[webhook.disabled_reason] ?? "off", "", webhook.disabled_reason === "by_hand" ? "soft" : "bad");
}
async function showList() {
  const list = await items("/webhooks?page_size=100");
  known = new Map(list.map((webhook) => [webhook.id, webhook]));
  fill("webhooks-list", list.map((w) => {
    const to = cell("", "do");
    if (mayManage) to.append(button(w.is_active ? "Switch off" : "Switch on", w.is_active ? "off" : "on", w.id), button("Test", "test", w.id), button("Change", "change", w.id));
    for (const made of to.children) made.setAttribute("aria-label", `${made.textContent}: ${host(w.url)}`);
    return { key: w.id, stamp: w.updated_at, cells: [cell(w.url), cell(w.event_types.join(" ")), cell(w.description, "soft"), stateOf(w), to] };
  }));
  const choice = $("told-webhook"), chosen = choice.value;
  const ids = [...choice.options].slice(1).map((option) => option.value);
  if (ids.join() === list.map((w) => w.id).join()) return;
  choice.replaceChildren(choice.options[0], ...list.map((w) => { const option = element("option", w.description || w.url); option.value = w.id; return option; }));
  choice.value = known.has(chosen) ? chosen : "";
}
async function showTold() {
  const filters = new URLSearchParams({ page_size: 25 });
  for (const name of ["webhook", "status"]) if ($(`told-${name}`).value) filters.set(name, $(`told-${name}`).value);
  const list = await items(`/webhook-deliveries?${filters}`);
  fill("told", list.map((d) => {
    const to = cell("", "do"), name = `${d.event_type}, ${clock(d.created_at)}`;
    to.append(button("Attempts", "attempts", d.id));
    if (mayManage && d.status !== "pending") to.append(button("Send again", "again", d.id));
    for (const made of to.children) made.setAttribute("aria-label", `${made.textContent}: ${name}`);
    const answer = d.last_error ?? d.last_status ?? "";
    return { key: d.id, stamp: `${d.status} ${d.attempts}`, current: d.id === opened?.id, cells: [
      cell(moment(d.created_at), "t"), cell(d.event_type), cell(host(known.get(d.webhook)?.url ?? "")),
      cell(d.status, "", stateTone[d.status]), cell(d.attempts, "n"), cell(answer, "soft"), to,
    ] };
  }));
}
async function showAttempts() {
  const of = opened;
  $("attempts").hidden = !of;
  if (!of) return;
  const list = await items(`/webhook-deliveries/${encodeURIComponent(of.id)}/attempts?page_size=50`);
  if (of !== opened) return; // another one was opened meanwhile
  $("attempts-title").textContent = `Attempts of ${of.event_type}, ${of.webhook_id}`;
  fill("attempts-list", list.map((a) => ({ key: a.number, stamp: a.duration_ms, cells: [
    cell(a.number, "n"), cell(moment(a.started_at), "t"), cell(a.duration_ms == null ? "" : `${a.duration_ms} ms`, "n"),
    cell(a.status, "n"), cell(a.error ?? a.response),
  ] })));
}
function close() { opened = null; $("attempts").hidden = true; }

/** The secret is shown once, and not kept on the page. */
function forget() { $("webhook-secret").hidden = true; $("webhook-secret-text").textContent = ""; }
async function showSecret(made) {
  $("webhook-secret-of").textContent = made.url;
  $("webhook-secret-text").textContent = made.secret;
  $("webhook-secret-before").hidden = !made.previous_secret_until;
  $("webhook-secret-until").textContent = moment(made.previous_secret_until);
  $("webhook-secret").hidden = false;
  $("webhook-secret").focus();
  await look();
}
const wanted = (form) => ({
  url: form.get("url").trim(), description: form.get("description").trim(), event_types: form.get("event_types").split(/[\s,]+/).filter(Boolean),
});
onSubmit($("webhook-form"), $("webhook-form-error"), async (form) => {
  const made = await json("/webhooks", { method: "POST", body: wanted(form) });
  $("webhook-form").reset();
  await showSecret(made);
});
$("webhook-secret-kept").addEventListener("click", () => { forget(); $("webhook-form").elements.url.focus(); });

/** The webhook that is being changed, as it was read: somebody else may change it meanwhile. */
let changing = null;
async function change(id) {
  const answer = await call(`/webhooks/${id}`);
  changing = { ...await answer.json(), version: answer.headers.get("etag") };
  for (const error of document.querySelectorAll("#webhook-change [role=alert]")) error.textContent = "";
  for (const form of ["change-form", "delete-form"]) $(form).reset();
  for (const name of ["url", "description"]) $("change-form").elements[name].value = changing[name];
  $("change-form").elements.event_types.value = changing.event_types.join(" ");
  $("webhook-change").showModal();
}
const ofChanging = (rest = "") => `/webhooks/${encodeURIComponent(changing.id)}${rest}`;
async function changed(notice) {
  $("webhook-change").close();
  await look();
  $("webhooks-said").textContent = notice;
}
onSubmit($("change-form"), $("change-error"), async (form) => {
  // Only what is another: who says where it goes and what it hears becomes its owner.
  const others = Object.entries(wanted(form)).filter(([name, value]) => String(value) !== String(changing[name]));
  if (others.length) await call(ofChanging(), { method: "PATCH", body: Object.fromEntries(others), headers: { "if-match": changing.version } });
  await changed(others.length ? "It is changed." : "Nothing was changed.");
});
onSubmit($("secret-form"), $("secret-error"), async () => {
  const made = await json(ofChanging("/secret"), { method: "POST", body: {} });
  $("webhook-change").close();
  await showSecret(made);
});
onSubmit($("delete-form"), $("delete-error"), async () => {
  await call(ofChanging(), { method: "DELETE", headers: { "if-match": changing.version } });
  if (opened?.webhook === changing.id) close();
  await changed("It is deleted.");
});
$("change-cancel").addEventListener("click", () => $("webhook-change").close());

const verbs = {
  on: ["webhooks", (id) => call(`/webhooks/${id}`, { method: "PATCH", body: { is_active: true } }), "It is on: what happens from now on is told."],
  off: ["webhooks", (id) => call(`/webhooks/${id}`, { method: "PATCH", body: { is_active: false } }), "It is off: nothing is told to it, nor what waits."],
  change: ["webhooks", change],
  test: ["webhooks", (id) => call(`/webhooks/${id}/test`, { method: "POST" }), "A test is on its way: see below what came of it."],
  again: ["told", (id) => call(`/webhook-deliveries/${id}/replay`, { method: "POST" })],
  attempts: ["told", async (id) => {
    opened = await json(`/webhook-deliveries/${id}`);
    await showAttempts();
    $("attempts").focus();
    $("attempts").scrollIntoView({ block: "nearest" });
  }],
};
/** What was pressed and is not done: pressed again it is not done twice. */
const acting = new Set();
$("webhooks").addEventListener("click", async (click) => {
  const pressed = click.target.closest("button[data-do]");
  const name = pressed && `${pressed.dataset.do} ${pressed.dataset.key}`;
  if (!pressed || acting.has(name)) return;
  const [part, verb, notice] = verbs[pressed.dataset.do];
  acting.add(name);
  for (const id of ["webhooks-error", "webhooks-said", "told-error"]) $(id).textContent = "";
  try {
    await verb(encodeURIComponent(pressed.dataset.key));
    if (notice) $("webhooks-said").textContent = notice;
    await look();
  } catch (error) {
    if (error instanceof SignedOut) signedOut();
    else $(`${part}-error`).textContent = said(error);
  } finally { acting.delete(name); }
});
for (const id of ["told-webhook", "told-status"]) {
  $(id).addEventListener("change", () => showTold().catch((error) => { $("told-error").textContent = said(error); }));
}
function leave() {
  const back = opened && `attempts ${opened.id}`;
  close();
  showTold().catch(() => {});
  if (back) [...$("told").querySelectorAll("button")].find((made) => `${made.dataset.do} ${made.dataset.key}` === back)?.focus();
}
$("attempts-close").addEventListener("click", leave);
$("attempts").addEventListener("keydown", (key) => { if (key.key === "Escape") leave(); });
