// Finding the values in a JSON text, compared with `JSON.parse` on random texts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { afterValue, elementsOf, indented, membersOf, textAt } from "../../replay/web/raw.js";

/** A deterministic generator of pseudo-random numbers. */
function* dice(seed) {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    yield state >> 8;
  }
}

const SPACES = ["", " ", "\n", "\t", "\r\n", "  "];
const STRINGS = ['""', '"a"', '"\\""', '"\\\\"', '"\\\\\\""', '"]}"', '",\\"value\\":"', '"\\u003c"', '"é\u2028"', '"__proto__"', '"[{"'];
const PLAIN = ["1", "-0.0", "12345678901234567890", "1.10", "1e2", "true", "false", "null", ...STRINGS];

/** A random JSON text with white space wherever it is allowed. */
function text(roll, depth = 0) {
  const pick = (list) => list[roll.next().value % list.length];
  const space = () => pick(SPACES);
  const kind = depth > 4 ? 0 : roll.next().value % 4;
  if (kind < 2) return pick(PLAIN);
  const parts = Array.from({ length: roll.next().value % 4 }, (_, at) => {
    const value = space() + text(roll, depth + 1) + space();
    return kind === 2 ? value : `${space()}"k${at}${depth}"${space()}:${value}`;
  });
  const inside = parts.length ? parts.join(",") : space();
  return kind === 2 ? `[${inside}]` : `{${inside}}`;
}

test("every value is found where it begins and ends", () => {
  const roll = dice(7);
  for (let at = 0; at < 3_000; at += 1) {
    const json = text(roll);
    const value = JSON.parse(json);
    assert.equal(afterValue(`${json},1`, 0), json.length, json);
    assert.deepEqual(JSON.parse(indented(json)), value, json);
    if (Array.isArray(value)) {
      const found = elementsOf(json, 0).map(([begin, end]) => JSON.parse(json.slice(begin, end)));
      assert.deepEqual(found, value, json);
    } else if (typeof value === "object" && value !== null) {
      const found = [...membersOf(json, 0)].map(([name, [begin, end]]) => [name, JSON.parse(json.slice(begin, end))]);
      assert.deepEqual(found, Object.entries(value), json);
    }
  }
});

test("a value is returned as its original text, and a missing one is not found", () => {
  const json = '{"body": {"key": "\\",\\"value\\":1", "value": [12345678901234567890, 1.10 , "\\u003c/script>"]}}';
  assert.equal(textAt(json, ["body", "value"]), '[12345678901234567890, 1.10 , "</script>"]');
  assert.equal(textAt(json, ["body", "nothing"]), undefined);
  assert.equal(indented('{"a":[],"b":{ },"c":[1.10,{"d":"x, y: z"}]}'), '{\n  "a": [],\n  "b": {},\n  "c": [\n    1.10,\n    {\n      "d": "x, y: z"\n    }\n  ]\n}');
});
