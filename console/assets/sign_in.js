// Signing in: password, second factor, the organization's own provider; a password of one's own, and a new one by a mail's link.
import { $, Refused, SignedOut, api, call, element, json, onSubmit, post, said, session } from "/client.js";

const forms = ["login-form", "code-form", "reset-form", "recovery"];
/** Which of the forms is there, and the focus in it. */
function step(id) {
  for (const form of forms) $(form).hidden = form !== id;
  $("organization-form").hidden = id !== "login-form";
  for (const alert of document.querySelectorAll("#login [role=alert], #login [role=status]")) alert.textContent = "";
  ($(id).querySelector("input:not([hidden])") ?? $(id).querySelector("button")).focus();
}
/** What a login is halfway through: the token of its first step. */
let halfway = null;
/** What was typed a moment ago, for who has to choose another password. */
let typed = null;
/** The token of a mail's link, which does not stay in the address bar. */
let resetting = null;
/** A login stands while another one is being made: it stays until that is there. */
let standing = false;
/** How it went when somebody showed again who they are: for the page that they come back to. */
let outcome = null;
/** Goes on with the pages behind. */
let enter = null;

export function start(entered) {
  enter = entered;
  // A mail's link may be opened where the console is open already: by itself nothing would be loaded anew.
  addEventListener("hashchange", () => { if (behind.test(location.hash)) location.reload(); });
  if (!readAddress()) enter();
}
/** Not signed in: the first form, with what there is to say. */
export function show() {
  if (resetting) return;
  step("login-form");
  $("login-said").textContent = sessionStorage.getItem("notice") ?? "";
  sessionStorage.removeItem("notice");
  showProviders(null).catch(() => {});
}
/** Somebody is signing in, or setting a password, whatever login this tab has. */
export const isBusy = () => Boolean(resetting || exchanging || standing);
/** What was typed is not needed any more. */
export function done() { typed = null; }

function back(notice) {
  halfway = resetting = typed = null;
  empty();
  if (standing) { stay(notice); return; }
  session.clear();
  if (notice) sessionStorage.setItem("notice", notice);
  enter();
}
/** Nothing came of the other login: everything is as before. */
function stay(error) {
  standing = false;
  outcome = error ? { error } : null;
  enter();
}
export function takeOutcome() {
  const taken = outcome;
  outcome = null;
  return taken;
}
function empty() {
  forgetEnrolment("enrol");
  $("recovery-codes").textContent = "";
  for (const form of document.querySelectorAll("#login form")) form.reset();
  $("reset-password").type = "password";
}
for (const cancel of document.querySelectorAll("#login [data-back]")) {
  cancel.addEventListener("click", () => {
    // Who does not want another password after all is where they were.
    if (resetting) { resetting = null; empty(); enter(); } else back();
  });
}

/** Somebody else has set the password: nothing else goes before it is changed. */
export function choose() {
  if (!typed) {
    call("/auth/logout", { method: "POST" }).catch(() => {}).finally(() => back("Sign in again to choose a password of your own."));
    return;
  }
  offer("Choose a password of your own", "Somebody else has set the one that you have, and knows it. Nothing else goes before it is changed.");
}
function offer(title, why) {
  $("reset-title").textContent = title;
  $("reset-why").textContent = why;
  // For password managers, which keep a new password with the name that it is for.
  $("reset-form").elements.username.value = $("login-form").elements.email.value;
  step("reset-form");
}

onSubmit($("login-form"), $("login-error"), async (form) => {
  $("login-said").textContent = "";
  typed = form.get("password");
  const named = form.get("organization");
  try {
    await goOn(await post("/auth/login", { email: form.get("email"), password: typed, ...(named && { organization: named }) }));
  } catch (error) {
    typed = null;
    if (error instanceof Refused && error.fields.includes("/organization")) {
      $("login-organization").hidden = false;
      $("login-organization").querySelector("input").focus();
      throw new Error(error.details[0]);
    }
    throw error;
  }
});
/** After the first step: in, or asked for a second factor. */
async function goOn(body) {
  if (!body.mfa_required) { await take(body); await enter(); return; }
  const made = body.must_enrol ? await post("/auth/mfa/enable", { mfa_token: body.mfa_token }) : null;
  halfway = body.mfa_token;
  $("enrol").hidden = !made;
  $("code-hint").hidden = Boolean(made);
  $("code-title").textContent = made ? "Set up a second factor" : "Second factor";
  if (made) showEnrolment("enrol", made);
  step("code-form");
}
/** In; of who was in before, this takes the place of the login that they had. */
async function take(body) {
  const id = async () => (await json("/users/me")).id;
  const was = standing ? await id().catch((error) => { if (error instanceof SignedOut) return null; throw error; }) : null;
  const before = { access: session.access, refresh: session.refresh };
  session.keep(body);
  if (was !== null) {
    if (await id().catch(() => null) !== was) {
      await call("/auth/logout", { method: "POST" }).catch(() => {});
      session.keep(before);
      throw new Error("At your provider you are somebody else: you are signed in here as before.");
    }
    await post("/auth/logout", { refresh: before.refresh }).catch(() => {});
    outcome = { said: "You have shown that it is you: for ten minutes from now you can do what asks for it." };
  }
  standing = false;
}
/** What an authenticator is to learn: as a picture, as text, and as a link for who reads this on the device that has it. */
export function showEnrolment(prefix, made) {
  $(`${prefix}-secret`).textContent = made.secret.replace(/(.{4})(?=.)/g, "$1 ");
  $(`${prefix}-link`).href = made.otpauth_uri;
  $(`${prefix}-code`).replaceChildren(document.importNode(new DOMParser().parseFromString(made.qr_svg, "image/svg+xml").documentElement, true));
}
/** What is shown once does not stay on the page. */
export function forgetEnrolment(prefix) {
  $(`${prefix}-secret`).textContent = "";
  $(`${prefix}-link`).removeAttribute("href");
  $(`${prefix}-code`).replaceChildren();
}
onSubmit($("code-form"), $("code-error"), async (form) => {
  try {
    const body = await post("/auth/mfa/verify", { mfa_token: halfway, code: form.get("code").trim() });
    halfway = null;
    $("code-form").reset();
    forgetEnrolment("enrol");
    await take(body);
    if (!body.recovery_codes) { await enter(); return; }
    $("recovery-codes").textContent = body.recovery_codes.join("\n");
    step("recovery");
  } catch (error) {
    $("code-form").reset();
    // The first step is too long ago; or the second showed somebody else.
    if (error.status === 401 || !halfway) { back(error.message); return; }
    $("code-form").querySelector("input").focus();
    throw error;
  }
});
$("recovery-kept").addEventListener("click", () => { $("recovery-codes").textContent = ""; enter(); });
$("forgotten").addEventListener("click", async () => {
  const email = $("login-form").elements.email;
  $("login-error").textContent = $("login-said").textContent = "";
  if (!email.value || !email.checkValidity()) {
    $("login-error").textContent = "Type your e-mail address first.";
    email.focus();
    return;
  }
  try {
    await post("/auth/password-reset", { email: email.value });
    $("login-said").textContent = "If the address is known, a mail with a link is on its way. The link is good for half an hour.";
  } catch (error) { $("login-error").textContent = said(error); }
});
onSubmit($("reset-form"), $("reset-error"), async (form) => {
  const chosen = form.get("password");
  if (resetting) {
    await post("/auth/password-confirm", { token: resetting, new_password: chosen });
    back("The password is set: sign in with it.");
    return;
  }
  await call("/auth/change-password", { method: "POST", body: { current_password: typed, new_password: chosen } });
  empty();
  await enter();
});
$("reset-show").addEventListener("change", (change) => { $("reset-password").type = change.target.checked ? "text" : "password"; });

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
  not_asked_again: "Your provider has not asked you again who you are.",
  auth_time_missing: "Your provider does not say when it asked you who you are. Ask an administrator: its ID tokens need “auth_time”.",
};
const kept = {
  get organization() { return localStorage.getItem("organization"); },
  set organization(slug) { localStorage.setItem("organization", slug); },
};
/** Buttons for the organization that is named, that the address names (`/?organization=acme`), or that had some the last time; else for the only one. */
async function showProviders(asked) {
  const named = asked ?? new URLSearchParams(location.search).get("organization");
  const choices = async (slug) => {
    const answer = await fetch(`${api}/auth/oidc${slug ? `?organization=${encodeURIComponent(slug)}` : ""}`);
    return answer.ok ? (await answer.json()).items : [];
  };
  const slug = named ?? kept.organization;
  let found = slug ? await choices(slug) : [];
  if (found.length) kept.organization = slug;
  else if (!named) found = await choices(null);
  // A name that was mistyped takes no button away.
  if (asked && !found.length) return false;
  $("providers").replaceChildren(...found.map(({ name, start }) => goTo(`Sign in with ${name}`, start)));
  $("providers").hidden = found.length === 0;
  return found.length > 0;
}
/** A button and no link: what it begins goes on in this tab. `again`: also who is logged in there is to show who they are. */
export function goTo(words, start, again) {
  const made = element("button", words);
  made.type = "button";
  made.addEventListener("click", () => {
    // The tab keeps a word, and what comes back has to know it: a link from elsewhere can begin a login, too.
    const word = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const to = new URL(location.href);
    to.searchParams.set("begun", word);
    sessionStorage.setItem("begun", word);
    location.assign(`${start}?${new URLSearchParams({ return_to: to.pathname + to.search, ...(again && { reauthenticate: true }) })}`);
  });
  return made;
}
onSubmit($("organization-form"), $("organization-error"), async (form) => {
  const slug = form.get("organization").trim();
  if (await showProviders(slug)) $("providers").querySelector("button").focus();
  else $("organization-error").textContent = `There is no such sign-in for “${slug}”. Ask an administrator what your organization is called here.`;
});

let exchanging = false;
const behind = /^#(reset|sign_in|sign_in_error)=([\w-]+)$/;
/** What stands behind `#`: the token of a mail's link, or how a login at a provider ended. It does not stay in the address bar. */
function readAddress() {
  const found = location.hash.match(behind);
  if (!found) return false;
  const here = new URL(location.href), word = sessionStorage.getItem("begun");
  const isOurs = word !== null && here.searchParams.get("begun") === word;
  if (here.searchParams.has("begun")) here.searchParams.delete("begun");
  history.replaceState(null, "", here.pathname + here.search);
  const [, what, given] = found;
  if (what !== "reset") sessionStorage.removeItem("begun");
  if (what === "reset") {
    resetting = given;
    enter();
    offer("New password", "Choose one for your account. All your logins end, and you sign in with it.");
  } else if (what === "sign_in" && isOurs) {
    standing = Boolean(session.access);
    exchanging = true;
    enter();
    $("login-said").textContent = "Signing in …";
    post("/auth/oidc/token", { code: given }).then((body) => { exchanging = false; return goOn(body); }).catch((error) => {
      exchanging = false;
      if (standing) { stay(said(error)); return; }
      back();
      $("login-error").textContent = said(error);
    });
  } else {
    // Nobody is signed out by a link, nor in by one that was begun elsewhere.
    const why = what === "sign_in" ? "That sign-in was not begun in this tab, so nothing came of it. Begin it here."
      : Object.hasOwn(refusals, given) ? refusals[given] : "Signing in failed.";
    if (isOurs && session.access) outcome = { error: why };
    enter();
    if (!session.access) $("login-error").textContent = why;
  }
  return true;
}
