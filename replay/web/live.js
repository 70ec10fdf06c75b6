// What the server pushes: new events of an execution that runs, and executions that come and go.

import { announce, byId } from "./dom.js";

/** How long to wait before the server is asked again, in milliseconds. */
const AGAIN = 1_000;

/**
 * Listens to a stream of the server. `address` gives where it goes on from what the page has; `on` has a function for
 * each kind of message, which gets its text. A page that nobody sees does not listen: a browser has few connections to
 * one server, and tabs share them.
 */
export function listen(address, on) {
  let source;
  let over = false;
  function stop() {
    source?.close();
    source = undefined;
  }
  function begin() {
    if (source || over || document.hidden) return;
    source = new EventSource(address());
    for (const [kind, take] of Object.entries(on)) {
      source.addEventListener(kind, (message) => take(message.data));
    }
    source.addEventListener("standing", (message) => showStanding(JSON.parse(message.data)));
    source.addEventListener("error", () => {
      stop();
      showStanding({ live: false, why: "the server does not answer; trying again" });
      setTimeout(begin, AGAIN);
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : begin()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", begin);
  begin();
  return {
    close() {
      over = true;
      stop();
    },
  };
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
