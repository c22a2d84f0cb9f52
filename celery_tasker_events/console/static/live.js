// Adds events to the table as they come. All text goes in as text; the page's policy forbids anything else.
"use strict";

const LONGEST = 200;
const body = document.getElementById("events");
const template = document.getElementById("row");
const state = document.getElementById("state");
const pause = document.getElementById("pause");
const empty = document.getElementById("empty");

const seen = new Set(Array.from(body.rows, (row) => row.dataset.key));
// What the page came with: of before that, the stream's beginning adds nothing above it.
const newest = body.rows.length ? body.rows[0].dataset.order : "";
const oldest = body.rows.length >= Number(body.dataset.shown) ? body.rows[body.rows.length - 1].dataset.order : "";
let waiting = [];
let added = 0;
let isPaused = false;
let told = 0;

function tell(kind, text) {
  state.dataset.state = kind;
  if (state.textContent !== text) state.textContent = text;
}

function summary() {
  if (isPaused) return ["paused", waiting.length === 1 ? "Paused, 1 new event" : `Paused, ${waiting.length} new events`];
  return ["live", added === 0 ? "Live" : added === 1 ? "Live, 1 new event" : `Live, ${added} new events`];
}

// A screen reader reads each change: not more than one a second.
function tellSoon() {
  if (told) return;
  told = setTimeout(() => {
    told = 0;
    tell(...summary());
  }, 1000);
}

function tellNow() {
  clearTimeout(told);
  told = 0;
  tell(...summary());
}

function rowOf(event) {
  const row = template.content.firstElementChild.cloneNode(true);
  row.dataset.key = event.key;
  row.dataset.order = event.order;
  for (const field of row.querySelectorAll("[data-field]")) field.textContent = event[field.dataset.field];
  const time = row.querySelector("time");
  time.dateTime = time.title = event.moment;
  row.querySelector("[data-field=event]").href = event.message_url;
  const workflow = row.querySelector("[data-field=correlation_id]");
  workflow.title = event.correlation_id;
  if (event.workflow_url) workflow.href = event.workflow_url;
  row.querySelector(".badge").classList.add(event.tone);
  row.classList.toggle("new", isNew(event));
  return row;
}

function isNew(event) {
  return !event.is_recent || event.order > newest;
}

function isWanted(event) {
  return !seen.has(event.key) && (isNew(event) || event.order > oldest);
}

function add(events) {
  for (const event of events.filter(isWanted)) {
    seen.add(event.key);
    // Queues are told one after the other: the newest of one may be older than what another has brought.
    const below = Array.from(body.rows).find((row) => row.dataset.order < event.order);
    body.insertBefore(rowOf(event), below || null);
    added += isNew(event) ? 1 : 0;
  }
  empty.hidden = body.rows.length > 0;
  while (body.rows.length > LONGEST) {
    // The row in which somebody is stays until they have left it.
    const last = Array.from(body.rows).findLast((row) => !row.contains(document.activeElement));
    seen.delete(last.dataset.key);
    last.remove();
  }
}

pause.hidden = false;
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  if (!isPaused) {
    add(waiting);
    waiting = [];
  }
  tellNow();
});

const stream = new EventSource(body.dataset.stream);
stream.addEventListener("open", tellNow);
stream.addEventListener("events", (message) => {
  const events = JSON.parse(message.data);
  if (isPaused) {
    const known = new Set(waiting.map((event) => event.key));
    waiting = waiting.concat(events.filter((event) => isWanted(event) && !known.has(event.key))).slice(-LONGEST);
  } else {
    add(events);
  }
  tellSoon();
});
stream.addEventListener("missed", (message) => tell("trouble", `Too many at once: ${message.data} events are not shown`));
stream.addEventListener("trouble", (message) => {
  const trouble = JSON.parse(message.data);
  if (trouble) tell("trouble", `The database can't be used: ${trouble}`);
  else tellNow();
});
stream.addEventListener("error", () => {
  // It is closed for good where the answer was a refusal: by one that was started anew, and has another token.
  const isOver = stream.readyState === EventSource.CLOSED;
  tell("trouble", isOver ? "The stream was refused: open the address that the console printed" : "The console does not answer; trying again");
});
window.addEventListener("pagehide", () => stream.close());
