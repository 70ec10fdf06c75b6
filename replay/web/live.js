// What the server pushes: new events of an execution that runs, and executions that come and go.

import { announce, byId } from "./dom.js";

/** How long to wait before the server is asked again, in milliseconds. */
const AGAIN = 1_000;

/**
 * Listens to a stream of the server. `address` gives where it goes on from what the page has; `on` has a function for
 * each kind of message, which gets its text, and `standing`, which gets whether what is shown moves. A page that nobody sees does not listen: a browser has few connections to
 * one server, and tabs share them.
 */
export function listen(address, { standing, ...on }) {
  let source;
  function stop() {
    source?.close();
    source = undefined;
  }
  function begin() {
    if (source || document.hidden) return;
    source = new EventSource(address());
    for (const [kind, take] of Object.entries(on)) {
      source.addEventListener(kind, (message) => take(message.data));
    }
    source.addEventListener("standing", (message) => standing(JSON.parse(message.data)));
    source.addEventListener("error", () => {
      stop();
      standing({ live: false, why: "the server does not answer; trying again" });
      setTimeout(begin, AGAIN);
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : begin()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", begin);
  begin();
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
