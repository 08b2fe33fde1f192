import fc from "fast-check";
import t from "tap";
import { parseJson } from "../../src/api/json-body.ts";
import { goSyntaxProblem } from "../../src/api/json-syntax.ts";
import { filtersParam, strictBoolParam, versionParam } from "../../src/api/query.ts";
import { specOfVersion } from "../../src/api/service-fields.ts";
import { toSwarmError } from "../../src/base/errors.ts";
import { validateServiceSpec } from "../../src/model/validate-service.ts";

/** Golden texts are those of Engine 20.10.24. */

function refusal(work: () => unknown): string {
  try {
    work();
    return "accepted";
  } catch (error) {
    const { message, details } = toSwarmError(error);
    return details["http"] === undefined ? message : `${details["http"]} ${message}`;
  }
}

t.test("what is no JSON is said in Go's words", async t => {
  const cases = [
    ['{"Name":"a",}', "invalid character '}' looking for beginning of object key string"],
    ['{Name:"a"}', "invalid character 'N' looking for beginning of object key string"],
    ["{'Name':1}", "invalid character '\\'' looking for beginning of object key string"],
    ['{"Name":"a" "b"}', "invalid character '\"' after object key:value pair"],
    ['{"Name" "b"}', "invalid character '\"' after object key"],
    ['{"Name":"a\\q"}', "invalid character 'q' in string escape code"],
    ['{"Name":"\\u00g0"}', "invalid character 'g' in \\u hexadecimal character escape"],
    ['{"Name":"a\nb"}', "invalid character '\\n' in string literal"],
    ['{"Name":01}', "invalid character '1' after object key:value pair"],
    ['{"Name":1.}', "invalid character '}' after decimal point in numeric literal"],
    ['{"Name":1e}', "invalid character '}' in exponent of numeric literal"],
    ['{"Name":-}', "invalid character '}' in numeric literal"],
    ["[1 2]", "invalid character '2' after array element"],
    ["[trux]", "invalid character 'x' in literal true (expecting 'e')"],
    ["ü", "invalid character 'Ã' looking for beginning of value"],
    ['{"a":1} x', "unexpected content after JSON"],
    ["tru", "unexpected EOF"],
    ['{"a":', "unexpected EOF"],
    ["", "got EOF while reading request body"],
  ] as const;
  for (const [text, expected] of cases)
    t.equal(
      refusal(() => parseJson(text)),
      expected,
      text,
    );
  t.equal(
    refusal(() => parseJson("{", "parameter")),
    "unexpected end of JSON input",
  );
  const after = "invalid character 'x' after top-level value";
  t.equal(
    refusal(() => parseJson("1 x", "parameter")),
    after,
  );
});

t.test("the scanner finds fault with just what JSON.parse refuses", async t => {
  const piece = fc.constantFrom(..."{}[]:,\"\\/-+.eE0129 \n\ttrufalsn'x\u0001u");
  const text = fc.array(piece, { maxLength: 12 }).map(parts => parts.join(""));
  fc.assert(
    fc.property(text, fc.jsonValue(), (noise, value) => {
      const valid = JSON.stringify(value);
      if (goSyntaxProblem(valid) !== null) return false;
      try {
        JSON.parse(noise);
        return goSyntaxProblem(noise) === null;
      } catch {
        // A text that ends too early has no wrong character.
        return goSyntaxProblem(noise) !== null || isPrefixOfJson(noise);
      }
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});

/** No character makes it wrong: the end does. */
function isPrefixOfJson(text: string): boolean {
  return goSyntaxProblem(`${text}\u0000`)?.includes("\\u0000") ?? false;
}

t.test("parameters", async t => {
  const query = (text: string): URLSearchParams => new URLSearchParams(text);
  const filters = (raw: string, strict = true): string =>
    refusal(() => filtersParam(query(`filters=${encodeURIComponent(raw)}`), strict));
  t.same(filtersParam(query("filters=null")), {});
  t.same(filtersParam(query('filters={"a":{"x":true},"b":["y"],"c":null}')), {
    a: ["x"],
    b: ["y"],
    c: [],
  });
  t.equal(filters("{"), "unexpected end of JSON input");
  t.equal(filters("x", false), "500 invalid character 'x' looking for beginning of value");
  t.equal(
    filters("1"),
    "json: cannot unmarshal number into Go value of type map[string]map[string]bool",
  );
  t.equal(
    filters('{"a":[1]}'),
    "json: cannot unmarshal array into Go value of type map[string]bool",
  );
  t.equal(filters('{"a":{"x":1}}'), "json: cannot unmarshal number into Go value of type bool");
  const version = (raw: string): string =>
    refusal(() => versionParam(query(`version=${raw}`), (_raw, problem) => problem));
  t.equal(version("99999999999999999999"), "value out of range");
  t.equal(version("-1"), "invalid syntax");
  t.equal(version("18446744073709551615"), "accepted");
  t.equal(strictBoolParam(query("status=T"), "status"), true);
  t.equal(strictBoolParam(query(""), "status"), false);
  t.equal(
    refusal(() => strictBoolParam(query("status=x"), "status")),
    'invalid value for status: x: strconv.ParseBool: parsing "x": invalid syntax',
  );
});

t.test("fields that a client's version does not have", async t => {
  const spec = {
    Mode: { replicatedJob: {} },
    TaskTemplate: {
      ContainerSpec: {
        Image: "app",
        Sysctls: { a: "b" },
        CapabilityAdd: ["CAP_CHOWN"],
        Privileges: { NoNewPrivileges: true },
        Configs: [{ ConfigID: "c", Runtime: {} }],
        Mounts: [{ Target: "/t", TmpfsOptions: { Options: [["x"]], Mode: 1 } }],
      },
      Resources: { Limits: { Pids: 7 } },
      Placement: { MaxReplicas: 4 },
    },
  };
  const at = (minor: number, newest = 56): object =>
    specOfVersion(spec, { major: 1, minor }, { major: 1, minor: newest });
  t.same(at(56), spec, "a new client");
  t.same(at(41, 41), spec, "the newest that the Engine speaks");
  t.match(at(41), { TaskTemplate: { ContainerSpec: { Sysctls: { a: "b" } } } });
  t.same(at(40), {
    Mode: {},
    TaskTemplate: {
      ContainerSpec: {
        Image: "app",
        Sysctls: { a: "b" },
        Privileges: {},
        Configs: [{ ConfigID: "c", Runtime: {} }],
        Mounts: [{ Target: "/t", TmpfsOptions: { Mode: 1 } }],
      },
      Resources: { Limits: {} },
      Placement: { MaxReplicas: 4 },
    },
  });
  t.same(at(39, 41), {
    Mode: {},
    TaskTemplate: {
      ContainerSpec: {
        Image: "app",
        Privileges: { NoNewPrivileges: true },
        Configs: [{ ConfigID: "c" }],
        Mounts: spec.TaskTemplate.ContainerSpec.Mounts,
      },
      Resources: { Limits: {} },
      Placement: {},
    },
  });
});

t.test("placeholders that no node could fill are refused at once", async t => {
  const check = (container: object, labels = {}): string =>
    refusal(() =>
      validateServiceSpec({
        Name: "a",
        Labels: labels,
        Mode: { Replicated: {} },
        TaskTemplate: { ContainerSpec: { Image: "a", ...container } },
      }),
    );
  const field = "can't evaluate field Bogus in type *template.Context";
  t.equal(
    check({ Hostname: "{{.Bogus}}" }),
    `expanding hostname failed: template: expansion:1:2: executing "expansion" at <.Bogus>: ${field}`,
  );
  const platform = "can't evaluate field Bogus in type template.Platform";
  t.equal(
    check({ Hostname: "a{{.Node.Platform.Bogus}}" }),
    "expanding hostname failed: template: expansion:1:8: executing " +
      `"expansion" at <.Node.Platform.Bogus>: ${platform}`,
  );
  t.match(
    check({ Hostname: "{{.Service.Labels.a}}" }),
    /:1:10: executing "expansion" at <.Service.Labels.a>: map has no entry for key "a"$/,
  );
  t.equal(
    check({ Env: ["X={{"] }),
    'expanding env failed: expanding env "X={{": template: expansion:1: unclosed action',
  );
  t.match(
    check({ Mounts: [{ Type: "volume", Source: "{{.Node.Bogus}}", Target: "/t" }] }),
    /^expanding mounts failed: expanding mount source "{{.Node.Bogus}}": template/,
  );
  t.equal(check({ Env: ["X={{.Service.Labels.team}}"] }, { team: "blue" }), "accepted");
  t.equal(check({ Env: ["X={{.Task.Slot}}{{.Node.Platform.OS}}"], Hostname: "h" }), "accepted");
});
