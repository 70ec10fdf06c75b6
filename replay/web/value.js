// A value as the exact text that was written: indented, and cut if it is long, with its size and a button for the rest.

import { clean, element } from "./dom.js";
import { indented } from "./raw.js";
import { size } from "./words.js";

const SHOWN = 1_500;
const STEP = 50_000;

/** A block for a text that may be long. */
export function longText(text, { most = SHOWN, className = "" } = {}) {
  const block = element("pre", { className: `value ${className}`, dir: "auto", tabIndex: 0 });
  if (text.length <= most * 1.2) {
    block.append(clean(text));
    return block;
  }
  let shown = most;
  const rest = element("button", { className: "more", onclick: grow });
  const note = element("span", { className: "muted" });
  function show() {
    block.replaceChildren(clean(text.slice(0, shown)), shown < text.length ? "…" : "");
    note.textContent = shown < text.length ? `${size(shown)} of ${size(text.length)} shown ` : `all ${size(text.length)} shown`;
    rest.textContent = text.length - shown > STEP ? `Show ${size(STEP)} more` : "Show the rest";
    rest.hidden = shown >= text.length;
  }
  function grow() {
    shown = Math.min(text.length, shown + STEP);
    show();
  }
  show();
  return element("div", {}, block, element("p", { className: "below" }, note, rest));
}

/** A block for a value of the context. */
export function valueBlock(text) {
  if (text === undefined) return element("p", { className: "muted" }, "There is no value.");
  // Indenting megabytes takes too long.
  return longText(text.length > 200_000 ? text : indented(text));
}
