// The page a person looks at. The token lives in this module's memory and nowhere else: no storage, no cookie, no URL.
// Whatever the server answers is data written by others: it is put on the page as text, never as markup.

const at = (id) => document.getElementById(id);
const state = { token: null, event: null, round: 0 };

class Refused extends Error {
  constructor(status, problem) {
    super(problem.error ?? `The server answered ${status}.`);
    this.status = status;
  }
}

async function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  const answer = await fetch(query ? `${path}?${query}` : path, {
    headers: { Authorization: `Bearer ${state.token}` },
    credentials: "omit",
    cache: "no-store",
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

function cell(content) {
  const made = document.createElement("td");
  made.append(content ?? "");
  return made;
}

function chip(text) {
  const made = document.createElement("span");
  made.className = "chip";
  made.textContent = text;
  return made;
}

function chips(texts) {
  const all = document.createDocumentFragment();
  all.append(...texts.map(chip));
  return all;
}

// In the reader's own zone, which is named: the words beside it are in the event's.
const MOMENT = {
  weekday: "short",
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  timeZoneName: "short",
};

function moment(text) {
  if (!text) return "";
  const made = document.createElement("time");
  made.dateTime = text;
  made.textContent = new Date(text).toLocaleString(undefined, MOMENT);
  made.title = text;
  return made;
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", () => guarded(act));
  return made;
}

function say(text, bad = false) {
  at("notice").textContent = text;
  at("notice").classList.toggle("bad", bad);
}

// One place for whatever goes wrong: a refused token brings the form back, the rest is said.
async function guarded(act) {
  const round = ++state.round;
  try {
    say("");
    await act(() => round === state.round);
  } catch (problem) {
    if (problem instanceof Refused && problem.status === 401) leave("That token is not accepted.");
    else say(problem instanceof Refused ? problem.message : "The server cannot be reached.", true);
  }
}

async function showEvents(current, cursor = "") {
  const found = await ask("/events", { cursor, limit: 50, q: at("q").value || null, status: at("status").value || null });
  if (!current()) return;
  if (!cursor) at("event-rows").replaceChildren();
  for (const event of found.data) {
    const row = document.createElement("tr");
    row.append(
      cell(button(event.name, (still) => showOccurrences(still, event, row))),
      cell(event.meaning),
      cell(moment(event.next_run_at)),
      cell(event.status),
      cell(chips(event.tags)),
    );
    row.setAttribute("aria-current", String(state.event?.id === event.id));
    at("event-rows").append(row);
  }
  if (!at("event-rows").children.length) say("No events within this token's reach.");
  more("more-events", found.next_cursor, (still) => showEvents(still, found.next_cursor));
}

async function showOccurrences(current, event, row, cursor = "") {
  const found = await ask(`/events/${encodeURIComponent(event.id)}/occurrences`, { cursor, limit: 50 });
  if (!current()) return;
  state.event = event;
  for (const other of at("event-rows").children) other.setAttribute("aria-current", String(other === row));
  at("occurrences").hidden = false;
  at("of-event").replaceChildren(event.name, chip(event.status), chip(event.action.type));
  if (!cursor) at("occurrence-rows").replaceChildren();
  for (const occurrence of found.data) {
    const line = document.createElement("tr");
    const attempts = String(occurrence.attempts_made);
    line.append(
      cell(moment(occurrence.scheduled_at)),
      cell(occurrence.reason ? `${occurrence.status} (${occurrence.reason})` : occurrence.status),
      cell(occurrence.attempts_made ? button(attempts, (still) => showAttempts(still, occurrence, line)) : attempts),
      cell(moment(occurrence.due_at)),
      cell(occurrence.note),
    );
    at("occurrence-rows").append(line);
  }
  more("more-occurrences", found.next_cursor, (still) => showOccurrences(still, event, row, found.next_cursor));
}

async function showAttempts(current, occurrence, line) {
  if (line.nextElementSibling?.dataset.of === occurrence.id) {
    line.nextElementSibling.remove();
    return;
  }
  const attempts = await ask(`/occurrences/${encodeURIComponent(occurrence.id)}/attempts`);
  if (!current()) return;
  const list = document.createElement("ol");
  for (const attempt of attempts) {
    const item = document.createElement("li");
    const told = [attempt.outcome, attempt.status_code, attempt.error, attempt.destination].filter(Boolean).join(" · ");
    item.append(moment(attempt.started_at), ` ${told}`);
    list.append(item);
  }
  const wide = cell(list);
  wide.colSpan = line.children.length;
  const detail = document.createElement("tr");
  detail.dataset.of = occurrence.id;
  detail.append(wide);
  line.after(detail);
}

function more(id, cursor, act) {
  const fresh = at(id).cloneNode(true);
  fresh.hidden = !cursor;
  fresh.addEventListener("click", () => guarded(act));
  at(id).replaceWith(fresh);
}

async function enter(current) {
  const status = await ask("/status");
  if (!current()) return;
  at("who").textContent = `${status.token_info.sub} (${status.token_info.access})`;
  await showEvents(current);
  for (const id of ["who", "leave", "events"]) at(id).hidden = false;
  at("enter").hidden = true;
}

function leave(why = "") {
  state.token = null;
  state.event = null;
  state.round += 1;
  for (const id of ["event-rows", "occurrence-rows", "of-event", "who"]) at(id).replaceChildren();
  for (const id of ["who", "leave", "events", "occurrences"]) at(id).hidden = true;
  at("enter").hidden = false;
  say(why, Boolean(why));
  at("token").focus();
}

at("enter").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  state.token = at("token").value.trim();
  at("token").value = "";
  guarded(enter);
});
at("filter").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  guarded(showEvents);
});
at("leave").addEventListener("click", () => leave());
