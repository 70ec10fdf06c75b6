// What the server pushes: new events of an execution that runs, and executions that come and go.

import { announce, byId } from "./dom.js";

/** Listens to a stream of the server. `on` has a function for each kind of message, which gets its text. */
export function listen(address, on) {
  const source = new EventSource(address);
  for (const [kind, take] of Object.entries(on)) {
    source.addEventListener(kind, (message) => take(message.data));
  }
  source.addEventListener("standing", (message) => showStanding(JSON.parse(message.data)));
  // The browser connects again by itself. A server that is gone, or refuses, is told meanwhile.
  source.addEventListener("error", () => showStanding({ live: false, why: "the server does not answer; trying again" }));
  addEventListener("pagehide", () => source.close());
  return source;
}

/** Whether what is shown moves, and if not, why. */
export function showStanding({ live, why }) {
  const badge = byId("live");
  badge.hidden = false;
  badge.className = `badge ${live ? "running" : "retry"}`;
  badge.textContent = live ? "● live" : `○ not live: ${why}`;
  if (badge.dataset.said !== String(live)) announce(badge.textContent);
  badge.dataset.said = String(live);
}
