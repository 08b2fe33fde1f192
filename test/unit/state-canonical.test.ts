import fc from "fast-check";
import t from "tap";
import { canonicalJson } from "../../src/state/core/canonical.ts";

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The same value with the fields of every object set in another order. */
function reversed(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(reversed);
  const fields = Object.entries(value).reverse();
  return Object.fromEntries(fields.map(([key, field]) => [key, reversed(field)]));
}

t.test("equal values have equal text, which is their JSON", async t => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), value => {
      const text = canonicalJson(value);
      t.same(JSON.parse(text), JSON.parse(JSON.stringify(value)));
      t.equal(canonicalJson(reversed(value)), text);
    }),
  );
});

t.test("different values have different texts", async t => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
      const equal = JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
      return (canonicalJson(a) === canonicalJson(b)) === equal;
    }),
  );
  t.pass("for all");
});

function sorted(value: unknown): Json {
  if (typeof value !== "object" || value === null) return value as Json;
  if (Array.isArray(value)) return value.map(sorted);
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(fields.map(([key, field]) => [key, sorted(field)]));
}

t.test("fields that are undefined are left out, as in JSON", async t => {
  t.equal(canonicalJson({ b: 1, a: undefined, c: [undefined, null] }), '{"b":1,"c":[null,null]}');
  t.equal(canonicalJson(undefined), "null");
  t.equal(canonicalJson({}), "{}");
  t.equal(canonicalJson('a"b'), '"a\\"b"');
});
