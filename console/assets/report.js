// Where the link in a report's mail leads. Its token stands behind `#`, which no browser sends: it goes in the body of a request, where
// neither a proxy nor a log looks, and does not stay in the address bar.
const $ = (id) => document.getElementById(id);

function show({ state = "", error = "", again = false }) {
  $("report-state").textContent = state;
  $("report-error").textContent = error;
  $("report-again").hidden = !again;
}

/** What to say of an answer that is no file. */
async function trouble(answer) {
  const problem = await answer.json().catch(() => ({}));
  const said = problem.detail ? `${problem.detail[0].toUpperCase()}${problem.detail.slice(1)}.` : "The report could not be fetched.";
  // What a moment may mend: too many requests, or the server is not there for now.
  return { error: said, again: answer.status === 429 || answer.status >= 500 };
}

let kept = null;
async function fetchFile() {
  show({ state: "The report is being fetched …" });
  $("report-file").hidden = true;
  let answer, bytes;
  try {
    answer = await fetch("/downloads/reports", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token: kept }), credentials: "omit",
    });
    if (!answer.ok) { show(await trouble(answer)); return; }
    bytes = await answer.blob();
  } catch {
    show({ error: "The server cannot be reached, or the connection broke off.", again: true });
    return;
  }
  const link = $("report-file");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(bytes);
  link.download = answer.headers.get("content-disposition")?.match(/filename="([^"]+)"/)?.[1] ?? "report.csv";
  link.textContent = `Save ${link.download} once more`;
  link.hidden = false;
  show({ state: `${link.download} (${Math.max(1, Math.round(bytes.size / 1024)).toLocaleString()} kB) was handed to your browser, which saves it.` });
  link.click();
}

/** Also for a second link that is opened where the first one was: then only what stands behind `#` changes. */
function open() {
  const token = location.hash.slice(1);
  if (token) { kept = token; history.replaceState(null, "", location.pathname); }
  if (kept) fetchFile();
  else show({ error: "This link is not complete: open it from the mail once more. Its last part, behind #, is missing; it does not stay in the address bar." });
}
addEventListener("hashchange", () => { if (location.hash) open(); });
$("report-again").addEventListener("click", fetchFile);
open();
