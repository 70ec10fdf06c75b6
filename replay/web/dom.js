// Creation of elements, and safe text. All text from a log becomes a text node; no code in this page parses text as
// markup.

/**
 * Makes an element. Attributes that begin with `on` are listeners; children other than nodes become text.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function element(name, attributes = {}, ...children) {
  /** @type {any} */
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in DIRECT) made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

const DIRECT = { className: 1, tabIndex: 1, value: 1, hidden: 1, disabled: 1, open: 1 };

/**
 * The element with an id. It always exists, since the page makes it first. `kind` is for the type checker: the class of the
 * element with this id.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} [kind]
 * @returns {Kind}
 */
export function byId(id, kind) {
  return /** @type {Kind} */ (document.getElementById(id));
}

// Control characters, and those that change the direction of text, which could disguise what a line says.
const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const HARMFUL_IN_A_LINE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

function visible(letter) {
  return `‹U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;
}

/** A text of several lines, with invisible characters made visible. */
export function clean(text) {
  return String(text).replace(HARMFUL, visible);
}

/** A text as one line, with invisible characters other than white space made visible. */
export function cleanLine(text) {
  return String(text).replace(/[\r\n\t]+/g, " ").replace(HARMFUL_IN_A_LINE, visible);
}

/** A text as one line of at most `most` characters. */
export function cut(text, most) {
  // Cut before it is cleaned, so that a text of megabytes costs no more than a short one.
  const line = cleanLine(text.length > most * 2 ? text.slice(0, most * 2) : text);
  return line.length > most || text.length > most * 2 ? `${line.slice(0, most - 1)}…` : line;
}

/** Announces a text to screen readers. */
export function announce(text) {
  byId("announcements").textContent = text;
}

/** Wraps a function so that any number of calls runs it once, at the next animation frame. */
export function oncePerFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}
