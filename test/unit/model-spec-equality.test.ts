import fc from "fast-check";
import t from "tap";
import type { ServiceSpec } from "../../src/model/service-spec.ts";
import { sameSpec, taskEssence } from "../../src/model/spec-equality.ts";

t.test("what a round trip through a client adds is no change", async t => {
  const created = { ContainerSpec: { Image: "a:1" } };
  const returned = {
    ContainerSpec: { Image: "a:1", Isolation: "default", Mounts: [], Env: null, TTY: false },
    Resources: { Limits: {}, Reservations: {} },
    ForceUpdate: 0,
    Runtime: "container",
  };
  t.ok(sameSpec(created, returned));
  t.ok(sameSpec(returned, created));
});

t.test("what a user says is one", async t => {
  const base = { ContainerSpec: { Image: "a:1", Env: ["A=1"] } };
  t.notOk(sameSpec(base, { ContainerSpec: { Image: "a:2", Env: ["A=1"] } }));
  t.notOk(sameSpec(base, { ContainerSpec: { Image: "a:1", Env: ["A=2"] } }));
  t.notOk(sameSpec(base, { ContainerSpec: { Image: "a:1" } }));
  t.notOk(sameSpec(base, { ...base, ForceUpdate: 1 }));
  t.notOk(sameSpec({ Init: false }, {}), "not asking for an init is not the Engine's default");
  t.notOk(sameSpec({ RestartPolicy: { Delay: 0 } }, {}), "no delay is not the default delay");
  t.notOk(sameSpec({ Args: ["a", ""] }, { Args: ["a"] }), "an empty argument is an argument");
});

t.test("symmetric, and equal to itself", async t => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
      t.ok(sameSpec(a, structuredClone(a)));
      return sameSpec(a, b) === sameSpec(b, a);
    }),
    { numRuns: 300 },
  );
});

t.test("placement and image credentials do not make a task wrong", async t => {
  const spec = (image: string, auth: string, constraint: string): ServiceSpec => ({
    TaskTemplate: {
      ContainerSpec: { Image: image, PullOptions: { RegistryAuth: auth } },
      Placement: { Constraints: [constraint] },
    },
  });
  const base = taskEssence(spec("a:1", "old", "node.role==worker"));
  t.ok(sameSpec(base, taskEssence(spec("a:1", "new", "node.role==manager"))));
  t.notOk(sameSpec(base, taskEssence(spec("a:2", "old", "node.role==worker"))));
  t.notOk(
    sameSpec(base, taskEssence({ ...spec("a:1", "old", "x"), EndpointSpec: { Mode: "dnsrr" } })),
  );
});
