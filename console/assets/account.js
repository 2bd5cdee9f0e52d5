// One's own account: profile, password, second factor, and where one is signed in (docs/authentication.md, docs/people.md).
import { $, SignedOut, api, button, call, cell, element, fill, items, json, moment, onSubmit, said, session, signedOut } from "/client.js";
import { forgetEnrolment, goTo, showEnrolment, takeOutcome } from "/sign_in.js";

/** What the profile was when it was read: somebody else may change it meanwhile. */
let version = null;
let factor = null;
let myself = null;

export async function show() {
  for (const words of document.querySelectorAll("#account [role=alert], #account [role=status]")) words.textContent = "";
  forget();
  const outcome = takeOutcome();
  $("account-outcome").hidden = !outcome;
  $("account-said").textContent = outcome?.said ?? "";
  $("account-error").textContent = outcome?.error ?? "";
  // Not before it is read: what somebody types meanwhile would be written over.
  $("profile-form").hidden = true;
  await Promise.all([showProfile(), showFactor(), look()]);
}
export async function look() {
  const list = await items("/auth/sessions?page_size=100");
  $("logins-others").hidden = list.length < 2;
  fill("logins", list.map((login) => {
    const to = cell("", "do");
    if (!login.current) {
      const end = button("End", "end", login.id);
      end.setAttribute("aria-label", `End: ${device(login.device)}, ${login.address ?? ""}`);
      to.append(end);
    }
    return { key: login.id, stamp: "", current: login.current, cells: [
      cell(`${device(login.device)}${login.current ? " (this one)" : ""}`), cell(login.address), cell(moment(login.created_at), "t"),
      cell(moment(login.last_used_at), "t"), to,
    ] };
  }));
}
/** Browsers call themselves by long names, of which people know a part. */
function device(agent) {
  if (!agent) return "unknown";
  const browser = [["Edg/", "Edge"], ["OPR/", "Opera"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]].find(([mark]) => agent.includes(mark));
  const system = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS X", "macOS"], ["Linux", "Linux"]].find(([mark]) => agent.includes(mark));
  return browser ? [browser[1], system?.[1]].filter(Boolean).join(", ") : agent.slice(0, 60);
}

async function showProfile() {
  const answer = await call("/users/me"), me = await answer.json();
  version = answer.headers.get("etag");
  myself = me.id;
  $("profile-who").textContent = `${me.email}, ${me.role.replaceAll("_", " ")}`;
  for (const form of ["password-form", "again-form", "factor-begin", "factor-off"]) $(form).elements.username.value = me.email;
  for (const name of ["name", "phone", "time_zone", "locale"]) $("profile-form").elements[name].value = me[name] ?? "";
  const zones = Intl.supportedValuesOf?.("timeZone") ?? [];
  $("time-zones").replaceChildren(...zones.map((zone) => { const option = element("option"); option.value = zone; return option; }));
  $("profile-form").hidden = false;
}
onSubmit($("profile-form"), $("profile-error"), async (form) => {
  $("profile-said").textContent = "";
  const body = { name: form.get("name").trim() };
  for (const name of ["phone", "time_zone", "locale"]) body[name] = form.get(name).trim() || null;
  await call("/users/me", { method: "PATCH", body, headers: { "if-match": version } });
  await showProfile();
  $("profile-said").textContent = "Saved.";
});
onSubmit($("password-form"), $("password-error"), async (form) => {
  $("password-said").textContent = "";
  const body = { current_password: form.get("current"), new_password: form.get("new") };
  await call("/auth/change-password", { method: "POST", body });
  for (const name of ["current", "new"]) $("password-form").elements[name].value = "";
  $("password-said").textContent = "It is changed, and all your other logins have ended.";
  await look();
});

async function showFactor() {
  factor = await json("/auth/mfa");
  const asked = factor.required ? " Your organization asks for it." : "";
  const left = factor.recovery_codes_left;
  $("factor-state").textContent = factor.enabled
    ? `On: signing in takes a code of your authenticator.${asked} ${left} recovery ${left === 1 ? "code is" : "codes are"} left.`
    : `Off. With one, your password alone opens nothing.${asked}`;
  $("factor-begin").hidden = factor.enabled;
  $("factor-renew").hidden = !factor.enabled;
  $("factor-off").hidden = !factor.enabled || factor.required;
}
/** What is shown once does not stay on the page. */
function forget() {
  for (const id of ["factor-confirm", "factor-codes"]) $(id).hidden = true;
  $("factor-codes-text").textContent = "";
  forgetEnrolment("factor");
  for (const id of ["factor-begin", "factor-confirm", "factor-renew", "factor-off"]) $(id).reset();
}
async function showCodes(codes) {
  forget();
  await showFactor();
  $("factor-codes-text").textContent = codes.join("\n");
  $("factor-codes").hidden = false;
  $("factor-codes").focus();
}
onSubmit($("factor-begin"), $("factor-begin-error"), async (form) => {
  const made = await json("/auth/mfa/enable", { method: "POST", body: { password: form.get("password") } });
  forget();
  showEnrolment("factor", made);
  $("factor-begin").hidden = true;
  $("factor-confirm").hidden = false;
  $("factor-confirm").elements.code.focus();
});
onSubmit($("factor-confirm"), $("factor-confirm-error"), async (form) => {
  $("factor-confirm").reset();
  await showCodes((await json("/auth/mfa/verify", { method: "POST", body: { code: form.get("code").trim() } })).recovery_codes);
});
onSubmit($("factor-renew"), $("factor-renew-error"), async (form) => {
  const body = { code: form.get("code").trim() };
  $("factor-renew").reset();
  const made = await careful(() => json("/auth/mfa/recovery-codes", { method: "POST", body }));
  if (made) await showCodes(made.recovery_codes);
});
onSubmit($("factor-off"), $("factor-off-error"), async (form) => {
  await call("/auth/mfa/disable", { method: "POST", body: { password: form.get("password"), code: form.get("code").trim() } });
  forget();
  await showFactor();
});
$("factor-codes-kept").addEventListener("click", () => { forget(); $("factor-renew").elements.code.focus(); });

const ending = {
  end: (id) => call(`/auth/sessions/${encodeURIComponent(id)}`, { method: "DELETE" }),
  others: () => call("/auth/sessions", { method: "DELETE" }),
};
$("account").addEventListener("click", async (click) => {
  const pressed = click.target.closest("button[data-do]");
  if (!pressed) return;
  $("logins-error").textContent = "";
  try {
    await careful(() => ending[pressed.dataset.do](pressed.dataset.key));
    await look();
  } catch (error) {
    if (error instanceof SignedOut) signedOut();
    else $("logins-error").textContent = said(error);
  }
});

/** Does it; and where the login is too old for it, asks who it is, and does it then. Answers nothing when they leave it. */
async function careful(work) {
  try { return await work(); } catch (error) {
    if (error.slug !== "reauthentication-required") throw error;
  }
  return (await again()) ? work() : null;
}
let answered = null;
async function again() {
  if (answered) return false; // one question at a time
  const [{ enabled }, identities] = await Promise.all([json("/auth/mfa"), items(`/users/${encodeURIComponent(myself)}/identities`)]);
  const ways = identities.filter((one) => one.is_enabled);
  $("again-elsewhere").hidden = ways.length === 0;
  $("again-providers").replaceChildren(...ways.map((one) => goTo(`Sign in again with ${one.provider_name}`, `${api}/auth/oidc/${one.provider}/start`, true)));
  $("again-code").hidden = !enabled;
  $("again-form").elements.code.required = enabled;
  $("again-error").textContent = "";
  $("again").showModal();
  return new Promise((resolve) => { answered = resolve; });
}
onSubmit($("again-form"), $("again-error"), async (form) => {
  const code = form.get("code").trim();
  const answer = await json("/auth/reauthenticate", { method: "POST", body: { password: form.get("password"), ...(code && { code }) } });
  session.keep(answer);
  answered?.(true);
  answered = null;
  $("again").close();
});
$("again").addEventListener("close", () => {
  $("again-form").reset();
  answered?.(false);
  answered = null;
});
$("again-cancel").addEventListener("click", () => $("again").close());
