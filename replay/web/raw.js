// Values as the exact text that was written. `JSON.parse` would round 12345678901234567890 and turn 1.10 into 1.1, so this
// finds the positions of values in the document's text, and the page shows that text.

const QUOTE = 34;
const BACKSLASH = 92;
const OPEN = new Set([91, 123]);
const CLOSE = new Set([93, 125]);
const SPACE = new Set([32, 9, 10, 13]);

function afterSpace(text, at) {
  while (SPACE.has(text.charCodeAt(at))) at += 1;
  return at;
}

function afterString(text, at) {
  for (let end = text.indexOf('"', at + 1); ; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === BACKSLASH) slashes += 1;
    if (slashes % 2 === 0) return end + 1;
  }
}

/** The end of the value that begins at `at`. */
export function afterValue(text, at) {
  let depth = 0;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = afterString(text, at);
    else if (OPEN.has(code)) {
      depth += 1;
      at += 1;
      continue;
    } else if (CLOSE.has(code)) {
      depth -= 1;
      at += 1;
    } else if (depth > 0) {
      at += 1;
      continue;
    } else {
      // A number or a literal.
      while (at < text.length && !/[\s,\]}]/.test(text[at])) at += 1;
    }
    if (depth === 0) return at;
  }
}

/** The positions of the elements of the list that begins at `at`, as pairs of begin and end. */
export function elementsOf(text, at) {
  const places = [];
  for (at = afterSpace(text, at + 1); text[at] !== "]"; at = afterSpace(text, at)) {
    if (text[at] === ",") at = afterSpace(text, at + 1);
    const end = afterValue(text, at);
    places.push([at, end]);
    at = end;
  }
  return places;
}

/** The positions of the members of the object that begins at `at`, by name. */
export function membersOf(text, at) {
  const places = new Map();
  for (at = afterSpace(text, at + 1); text[at] !== "}"; at = afterSpace(text, at)) {
    if (text[at] === ",") at = afterSpace(text, at + 1);
    const nameEnd = afterString(text, at);
    const name = JSON.parse(text.slice(at, nameEnd));
    const begin = afterSpace(text, afterSpace(text, nameEnd) + 1);
    const end = afterValue(text, begin);
    places.set(name, [begin, end]);
    at = end;
  }
  return places;
}

/** The exact text of the value at a path of an embedded document, or undefined. */
export function textAt(text, path) {
  let at = afterSpace(text, 0);
  let end = text.length;
  for (const name of path) {
    const place = membersOf(text, at).get(name);
    if (!place) return undefined;
    [at, end] = place;
  }
  // The page escapes `<` in this way, so that no text of a task can close the element that contains it.
  return text.slice(at, end).replaceAll("\\u003c", "<");
}

/** A JSON text with line breaks and indents; numbers and strings stay unchanged. */
export function indented(text) {
  let out = "";
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (SPACE.has(code)) continue;
    if (code === QUOTE) {
      const end = afterString(text, at);
      out += text.slice(at, end);
      at = end - 1;
    } else if (OPEN.has(code)) {
      const next = afterSpace(text, at + 1);
      if (CLOSE.has(text.charCodeAt(next))) {
        out += text[at] + text[next];
        at = next;
        continue;
      }
      depth += 1;
      out += `${text[at]}\n${"  ".repeat(depth)}`;
    } else if (CLOSE.has(code)) {
      depth -= 1;
      out += `\n${"  ".repeat(depth)}${text[at]}`;
    } else if (text[at] === ",") out += `,\n${"  ".repeat(depth)}`;
    else if (text[at] === ":") out += ": ";
    else out += text[at];
  }
  return out;
}
