// Elements, and text that cannot do harm. Everything that comes out of a log becomes a text node; nothing here, or
// anywhere in this page, takes text for markup.

/**
 * Makes an element. Attributes that begin with `on` are listeners; children that are no nodes become text.
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
 * The element with an id; it is there, for the page makes it before anything asks. `kind` says to the checker of types which
 * kind of element the page makes under this id.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} [kind]
 * @returns {Kind}
 */
export function byId(id, kind) {
  return /** @type {Kind} */ (document.getElementById(id));
}

// Control characters, and those that turn the direction of text, which could make a line say something else.
const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const HARMFUL_IN_A_LINE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

function visible(letter) {
  return `‹U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;
}

/** A text of several lines with everything in it visible. */
export function clean(text) {
  return String(text).replace(HARMFUL, visible);
}

/** A text as one line with everything in it visible but how its white space was made. */
export function cleanLine(text) {
  return String(text).replace(/[\r\n\t]+/g, " ").replace(HARMFUL_IN_A_LINE, visible);
}

/** A text as one line of at most so many letters. */
export function cut(text, most) {
  // Cut before it is cleaned, so that a text of megabytes costs no more than a short one.
  const line = cleanLine(text.length > most * 2 ? text.slice(0, most * 2) : text);
  return line.length > most || text.length > most * 2 ? `${line.slice(0, most - 1)}…` : line;
}

/** Says something to those who listen to the page. */
export function announce(text) {
  byId("announcements").textContent = text;
}

/** Calls back once for all calls before the next picture. */
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
