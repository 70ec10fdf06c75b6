// Updates from the server: new events of a running execution, and changes of the list of executions.

import { announce, byId } from "./dom.js";

/** The delay before reconnecting to the server, in milliseconds. */
const AGAIN = 1_000;

/**
 * Listens to an event stream of the server. `address` returns the URL that continues after what the page has. `on` has a
 * handler for each kind of message, which receives its text; `standing` receives whether the page is live. Hidden pages do
 * not listen, since a browser limits the connections to one server, and all tabs share them.
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
      standing({ live: false, why: "the server does not answer; retrying" });
      setTimeout(begin, AGAIN);
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : begin()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", begin);
  begin();
}

/** Shows whether the page is live, and if not, why. */
export function showLiveness({ live, why }) {
  const badge = byId("live");
  badge.hidden = false;
  badge.className = `badge ${live ? "running" : "retry"}`;
  badge.textContent = live ? "● live" : `○ not live: ${why}`;
  if (badge.dataset.said !== String(live)) announce(badge.textContent);
  badge.dataset.said = String(live);
}
