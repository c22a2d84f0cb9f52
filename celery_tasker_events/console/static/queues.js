// Takes the charts of a new copy of this page every few seconds, unless somebody is inside of them or has paused.
"use strict";

const state = document.getElementById("state");
const pause = document.getElementById("pause");
let isPaused = false;

function refresh() {
  const charts = document.getElementById("charts");
  const isInside = charts.contains(document.activeElement) || !document.getSelection().isCollapsed;
  if (isPaused || isInside || document.hidden) return;
  // Parsed as a document of its own: nothing in it runs.
  const request = new XMLHttpRequest();
  request.responseType = "document";
  request.open("GET", location.href);
  request.addEventListener("load", () => {
    const fresh = request.response && request.response.getElementById("charts");
    if (request.status !== 200 || !fresh) return failed();
    const open = Array.from(charts.querySelectorAll("details"), (details) => details.open);
    fresh.querySelectorAll("details").forEach((details, at) => { details.open = open[at] || false; });
    charts.replaceWith(document.adoptNode(fresh));
    if (state.textContent !== "Live") state.textContent = "Live";
    state.dataset.state = "live";
  });
  request.addEventListener("error", failed);
  request.send();
}

function failed() {
  state.dataset.state = "trouble";
  state.textContent = "The console does not answer; trying again";
}

pause.hidden = false;
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  state.dataset.state = isPaused ? "paused" : "live";
  state.textContent = isPaused ? "Paused" : "Live";
});
setInterval(refresh, 1000 * Math.max(1, Number(document.getElementById("charts").dataset.interval)));
