import fc from "fast-check";
import t from "tap";
import { isSwarmError } from "../../src/base/errors.ts";
import type { ServiceSpec } from "../../src/model/service-spec.ts";
import { JSON_ENTRIES_MAX } from "../../src/model/validate-decode.ts";
import {
  normalizeServiceSpec,
  validateServiceSpec,
  validateServiceUpdate,
} from "../../src/model/validate-service.ts";
import { refusalOf } from "../support/refusal.ts";

type Json = Record<string, unknown>;

/** A valid service, with parts replaced. */
function service(parts: { task?: Json; container?: Json; spec?: Json } = {}): Json {
  return {
    Name: "web",
    TaskTemplate: { ContainerSpec: { Image: "app:1", ...parts.container }, ...parts.task },
    ...parts.spec,
  };
}

function create(input: unknown): ServiceSpec {
  const spec = normalizeServiceSpec(input);
  validateServiceSpec(spec);
  return spec;
}

const INVALID = "InvalidArgument: ";
const resources = (part: Json): Json => service({ task: { Resources: part } });
const placement = (part: Json): Json => service({ task: { Placement: part } });
const ports = (...list: Json[]): Json => service({ spec: { EndpointSpec: { Ports: list } } });
const mounts = (...list: Json[]): Json => service({ container: { Mounts: list } });
const labelled = (Labels: Json): Json => service({ spec: { Labels } });
const file = { Name: "x", UID: "0", GID: "0", Mode: 292 };

t.test("a wrong service is refused in Docker's words", async t => {
  const cases: readonly (readonly [string, unknown, string])[] = [
    ["no runtime", {}, "mismatched Runtime and *Spec fields"],
    ["null", null, "mismatched Runtime and *Spec fields"],
    [
      "no image",
      { Name: "web", TaskTemplate: { ContainerSpec: {} } },
      `${INVALID}ContainerSpec: image reference must be provided`,
    ],
    [
      "two modes",
      service({ spec: { Mode: { Replicated: {}, Global: {} } } }),
      "must specify only one service mode",
    ],
    ["no name", service({ spec: { Name: "" } }), `${INVALID}meta: name must be provided`],
    ...["bad/name", "-web", "web_", "we b", "we\nb", "wéb"].map(
      name =>
        [
          name,
          service({ spec: { Name: name } }),
          `${INVALID}name must be valid as a DNS name component`,
        ] as const,
    ),
    [
      "64 characters",
      service({ spec: { Name: "a".repeat(64) } }),
      `${INVALID}name must be 63 characters or fewer`,
    ],
    [
      "image with a space",
      service({ container: { Image: "Bad Image" } }),
      `${INVALID}ContainerSpec: "Bad Image" is not a valid repository/tag`,
    ],
    [
      "image with capitals",
      service({ container: { Image: "UPPER:1" } }),
      `${INVALID}ContainerSpec: "UPPER:1" is not a valid repository/tag`,
    ],
    ...["node.role=manager", "foo", "node.role>=manager"].map(
      text =>
        [
          text,
          placement({ Constraints: [text] }),
          "Unknown: constraint expected one operator from ==, !=",
        ] as const,
    ),
    [
      "constraint without value",
      placement({ Constraints: ["node.labels.zone=="] }),
      "Unknown: value '' is invalid",
    ],
    [
      "constraint with a bad key",
      placement({ Constraints: ["node.labels.zone==a", "1x!=b"] }),
      "Unknown: key '1x' is invalid",
    ],
    [
      "too little memory",
      resources({ Limits: { MemoryBytes: 1024 } }),
      `${INVALID}invalid memory value 1024: Must be at least 4MiB`,
    ],
    [
      "negative memory",
      resources({ Reservations: { MemoryBytes: -1 } }),
      `${INVALID}invalid memory value -1: Must be at least 4MiB`,
    ],
    [
      "too little CPU",
      resources({ Limits: { NanoCPUs: 100_000 } }),
      `${INVALID}invalid cpu value 0.0001: Must be at least 0.001`,
    ],
    [
      "least CPU",
      resources({ Reservations: { NanoCPUs: 1 } }),
      `${INVALID}invalid cpu value 1e-09: Must be at least 0.001`,
    ],
    [
      "memory no number holds",
      resources({ Limits: { MemoryBytes: 2 ** 60 } }),
      `${INVALID}invalid memory value ${2 ** 60}: too large`,
    ],
    [
      "memory beyond 64 bits",
      resources({ Limits: { MemoryBytes: 1e30 } }),
      "json: cannot unmarshal number 1e+30 into Go struct field " +
        "Limit.TaskTemplate.Resources.Limits.MemoryBytes of type int64",
    ],
    [
      "more reserved than allowed",
      resources({ Limits: { MemoryBytes: 2 ** 23 }, Reservations: { MemoryBytes: 2 ** 24 } }),
      `${INVALID}Minimum memory limit can not be less than memory reservation limit, see usage`,
    ],
    [
      "named generic resource without a name",
      resources({
        Reservations: { GenericResources: [{ NamedResourceSpec: { Kind: "gpu" } }] },
      }),
      `${INVALID}invalid argument for resource gpu`,
    ],
    [
      "negative generic resource",
      resources({
        Reservations: { GenericResources: [{ DiscreteResourceSpec: { Kind: "gpu", Value: -1 } }] },
      }),
      `${INVALID}invalid argument for resource gpu`,
    ],
    [
      "swap without a limit",
      resources({ SwapBytes: 1 }),
      "memory swap provided, but no memory-limit was set",
    ],
    [
      "restart condition",
      service({ task: { RestartPolicy: { Condition: "maybe" } } }),
      'invalid RestartCondition: "maybe"',
    ],
    [
      "restart delay",
      service({ task: { RestartPolicy: { Delay: -1 } } }),
      `${INVALID}TaskSpec: restart-delay cannot be negative`,
    ],
    [
      "restart window",
      service({ task: { RestartPolicy: { Window: -1 } } }),
      `${INVALID}TaskSpec: restart-window cannot be negative`,
    ],
    [
      "failure action",
      service({ spec: { UpdateConfig: { FailureAction: "explode" } } }),
      "unrecognized update failure action explode",
    ],
    [
      "update order",
      service({ spec: { RollbackConfig: { Order: "sideways" } } }),
      "unrecognized update order sideways",
    ],
    [
      "failure ratio",
      service({ spec: { UpdateConfig: { MaxFailureRatio: 1.5 } } }),
      `${INVALID}TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1`,
    ],
    [
      "rollback is checked too",
      service({ spec: { RollbackConfig: { Delay: -1 } } }),
      `${INVALID}TaskSpec: rollback-delay cannot be negative`,
    ],
    [
      "a job has no update",
      service({ spec: { Mode: { GlobalJob: {} }, UpdateConfig: {} } }),
      `${INVALID}Jobs may not have an update config`,
    ],
    [
      "resolution mode",
      service({ spec: { EndpointSpec: { Mode: "bogus" } } }),
      'invalid resolution mode: "bogus"',
    ],
    [
      "dnsrr and ingress",
      service({ spec: { EndpointSpec: { Mode: "dnsrr", Ports: [{ TargetPort: 80 }] } } }),
      `${INVALID}EndpointSpec: port published with ingress mode can't be used with dnsrr mode`,
    ],
    [
      "a port twice",
      ports({ TargetPort: 80, PublishedPort: 8081 }, { TargetPort: 81, PublishedPort: 8081 }),
      `${INVALID}EndpointSpec: duplicate published ports provided`,
    ],
    [
      "port out of range",
      ports({ TargetPort: 80, PublishedPort: 99_999 }),
      `${INVALID}EndpointSpec: invalid published port 99999: must be at most 65535`,
    ],
    ["mount type", mounts({ Type: "bogus", Target: "/x" }), 'invalid MountType: "bogus"'],
    [
      "mount propagation",
      mounts({ Type: "bind", Source: "/a", Target: "/x", BindOptions: { Propagation: "x" } }),
      'invalid MountPropagation: "x"',
    ],
    [
      "a mount point twice",
      mounts(
        { Type: "volume", Source: "v", Target: "/x" },
        { Type: "volume", Source: "w", Target: "/x" },
      ),
      `${INVALID}ContainerSpec: duplicate mount point: /x`,
    ],
    [
      "health interval",
      service({ container: { Healthcheck: { Interval: 10 } } }),
      `${INVALID}ContainerSpec: Interval in HealthConfig cannot be less than 1ms`,
    ],
    [
      "health retries",
      service({ container: { Healthcheck: { Retries: -1 } } }),
      `${INVALID}ContainerSpec: Retries in HealthConfig cannot be negative`,
    ],
    [
      "environment",
      service({ container: { Env: ["A=1", "=x"] } }),
      `${INVALID}invalid environment variable: =x`,
    ],
    [
      "secret without id",
      service({ container: { Secrets: [{ SecretName: "s", File: file }] } }),
      `${INVALID}malformed secret reference`,
    ],
    [
      "secret without target",
      service({ container: { Secrets: [{ SecretID: "i", SecretName: "s" }] } }),
      `${INVALID}malformed secret reference, no target provided`,
    ],
    [
      "two secrets, one target",
      service({
        container: {
          Secrets: ["s1", "s2"].map(id => ({ SecretID: id, SecretName: id, File: file })),
        },
      }),
      `${INVALID}secret references 's1' and 's2' have a conflicting target: 'x'`,
    ],
    [
      "config without target",
      service({ container: { Configs: [{ ConfigID: "i", ConfigName: "c" }] } }),
      "invalid Config: either File or Runtime should be set",
    ],
    [
      "config with an empty file name",
      service({ container: { Configs: [{ ConfigID: "i", ConfigName: "c", File: {} }] } }),
      `${INVALID}malformed file config reference, invalid target file name provided`,
    ],
    [
      "credential spec of nowhere",
      service({ container: { Privileges: { CredentialSpec: { Config: "c" } } } }),
      `${INVALID}CredentialSpec references config 'c', but that config isn't in config ` +
        "references with RuntimeTarget",
    ],
    [
      "three credential specs",
      service({
        container: {
          Privileges: { CredentialSpec: { Config: "c", File: "f", Registry: "r" } },
        },
      }),
      'invalid CredentialSpec: cannot specify both "config", "file", and "registry" ' +
        "credential specs",
    ],
    [
      "replicas below zero",
      service({ spec: { Mode: { Replicated: { Replicas: -1 } } } }),
      "json: cannot unmarshal number -1 into Go struct field " +
        "ReplicatedService.Mode.Replicated.Replicas of type uint64",
    ],
    [
      "replicas that are negative to Go",
      service({ spec: { Mode: { Replicated: { Replicas: 2 ** 64 } } } }),
      `${INVALID}Number of replicas must be non-negative`,
    ],
    [
      "more replicas than any cluster",
      service({ spec: { Mode: { Replicated: { Replicas: 1e9 } } } }),
      `${INVALID}too many replicas: 1000000000, at most 1000000 are allowed`,
    ],
    [
      "a label misspelt",
      labelled({ "swarmd.placement.stratgy": "binpack" }),
      `${INVALID}unknown label swarmd.placement.stratgy: did you mean swarmd.placement.strategy?`,
    ],
    [
      "a label that does not exist",
      labelled({ "swarmd.frobnicate": "1" }),
      `${INVALID}unknown label swarmd.frobnicate: swarmd's labels are ` +
        "swarmd.placement.strategy, swarmd.publish.address, swarmd.restart.backoff, " +
        "swarmd.update.deadline, swarmd.network.NETWORK.ipv4",
    ],
    [
      "a label with a wrong value",
      labelled({ "swarmd.placement.strategy": "sprad" }),
      `${INVALID}invalid value 'sprad' of label swarmd.placement.strategy: ` +
        "it must be one of spread, binpack, random",
    ],
    [
      "a label with no switch",
      labelled({ "swarmd.restart.backoff": "yes" }),
      `${INVALID}invalid value 'yes' of label swarmd.restart.backoff: ` +
        "it must be on, off, or the longest delay as a duration such as 90s or 10m",
    ],
    [
      "a label with no duration",
      labelled({ "swarmd.update.deadline": "10" }),
      `${INVALID}invalid value '10' of label swarmd.update.deadline: ` +
        "it must be a duration such as 90s, 10m or 1h30m, or 0 for none",
    ],
    [
      "a service's label on the container",
      service({ container: { Labels: { "swarmd.update.deadline": "10m" } } }),
      `${INVALID}label swarmd.update.deadline is set on the container, where it has no effect: ` +
        "set it on the service (--label, or deploy.labels in a compose file)",
    ],
    [
      "too many labels",
      labelled(Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`l${i}`, ""]))),
      `${INVALID}too many labels: 1001, at most 1000 are allowed`,
    ],
  ];
  for (const [name, input, expected] of cases) {
    t.equal(
      refusalOf(() => create(input)),
      expected,
      name,
    );
  }
});

t.test("a wrong JSON type is refused in Go's words", async t => {
  const cases: readonly (readonly [unknown, string])[] = [
    [[], "cannot unmarshal array into Go value of type swarm.ServiceSpec"],
    ["x", "cannot unmarshal string into Go value of type swarm.ServiceSpec"],
    [{ Name: 5 }, "cannot unmarshal number into Go struct field ServiceSpec.Name of type string"],
    [
      { Labels: { a: true } },
      "cannot unmarshal bool into Go struct field ServiceSpec.Labels of type string",
    ],
    [
      { Labels: [] },
      "cannot unmarshal array into Go struct field ServiceSpec.Labels of type map[string]string",
    ],
    [
      service({ container: { Image: {} } }),
      "cannot unmarshal object into Go struct field " +
        "ContainerSpec.TaskTemplate.ContainerSpec.Image of type string",
    ],
    [
      service({ container: { Env: "A=1" } }),
      "cannot unmarshal string into Go struct field " +
        "ContainerSpec.TaskTemplate.ContainerSpec.Env of type []string",
    ],
    [
      service({ container: { StopGracePeriod: "10s" } }),
      "cannot unmarshal string into Go struct field " +
        "ContainerSpec.TaskTemplate.ContainerSpec.StopGracePeriod of type time.Duration",
    ],
    [
      ports({ TargetPort: 1.5 }),
      "cannot unmarshal number 1.5 into Go struct field " +
        "PortConfig.EndpointSpec.Ports.TargetPort of type uint32",
    ],
    [
      service({ container: { TTY: "yes" } }),
      "cannot unmarshal string into Go struct field " +
        "ContainerSpec.TaskTemplate.ContainerSpec.TTY of type bool",
    ],
  ];
  for (const [input, expected] of cases) {
    t.equal(
      refusalOf(() => normalizeServiceSpec(input)),
      `json: ${expected}`,
    );
  }
  const long = service({ container: { Env: Array(JSON_ENTRIES_MAX + 1).fill("A=1") } });
  t.equal(
    refusalOf(() => normalizeServiceSpec(long)),
    "TaskTemplate.ContainerSpec.Env has 10001 entries, at most 10000 are allowed",
  );
});

t.test("a service is read as moby reads it", async t => {
  t.same(create({ name: "web", tasktemplate: { CONTAINERSPEC: { image: "app", Bogus: 1 } } }), {
    Name: "web",
    TaskTemplate: { ContainerSpec: { Image: "app" } },
    Mode: { Replicated: { Replicas: 1 } },
  });
  t.same(
    create(ports({ Protocol: "bogus", TargetPort: 80, PublishedPort: 7000 })).EndpointSpec,
    {
      Mode: "vip",
      Ports: [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 7000, PublishMode: "ingress" }],
    },
    "an unknown protocol is tcp",
  );
  t.same(create(service({ spec: { Mode: { ReplicatedJob: { MaxConcurrent: 2 } } } })).Mode, {
    ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 2 },
  });
  t.same(create(service({ spec: { Mode: { Replicated: { Replicas: null } } } })).Mode, {
    Replicated: { Replicas: 1 },
  });
  t.same(
    create(mounts({ Type: "VOLUME", Source: "{{.Task.Slot}}", Target: "/x" })).TaskTemplate
      ?.ContainerSpec?.Mounts,
    [{ Type: "volume", Source: "{{.Task.Slot}}", Target: "/x" }],
  );
  const credentials = create(service({ container: { PullOptions: { RegistryAuth: "x" } } }));
  t.notHas(credentials.TaskTemplate?.ContainerSpec, { PullOptions: {} }, "not a client's to set");
});

t.test("no key reaches a prototype", async t => {
  const input: unknown = JSON.parse(
    '{"Name":"web","__proto__":{"Name":"evil"},"constructor":{"prototype":{"bad":1}},' +
      '"Labels":{"__proto__":"p","constructor":"c","toString":"s"},' +
      '"TaskTemplate":{"ContainerSpec":{"Image":"app"}}}',
  );
  const spec = create(input);
  t.equal(spec.Name, "web");
  t.same(Object.keys(spec.Labels ?? {}), ["__proto__", "constructor", "toString"]);
  t.equal(Object.getPrototypeOf(spec.Labels), Object.prototype);
  t.equal(({} as Json)["bad"], undefined);
  t.equal(JSON.parse(JSON.stringify(spec)).Labels["toString"], "s");
});

t.test("whatever JSON is sent, the answer is a spec or a refusal", async t => {
  const known = ["Name", "TaskTemplate", "ContainerSpec", "Image", "Labels", "Mode", "Mounts"];
  const key = fc.oneof(fc.constantFrom(...known), fc.string());
  const value = fc.letrec(tie => ({
    node: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom(null, true, -1, 1.5, "", "x"),
      fc.array(tie("node"), { maxLength: 3 }),
      fc.dictionary(key, tie("node"), { maxKeys: 4 }),
    ),
  })).node;
  const inValid = fc
    .tuple(fc.dictionary(fc.string(), fc.string()), value, value)
    .map(([Labels, Env, Mode]) => service({ container: { Env }, spec: { Labels, Mode } }));
  let [refused, accepted] = [0, 0];
  fc.assert(
    fc.property(fc.oneof(value, inValid), input => {
      let spec: ServiceSpec;
      try {
        spec = create(input);
      } catch (error) {
        refused += 1;
        return isSwarmError(error, "invalid_argument");
      }
      accepted += 1;
      return JSON.stringify(create(spec)) === JSON.stringify(spec);
    }),
    { numRuns: 500 },
  );
  t.ok(refused > 0 && accepted > 0, `${refused} refused, ${accepted} accepted`);
});

t.test("what an update may not change", async t => {
  const web = create(service());
  const global = create(service({ spec: { Mode: { Global: {} } } }));
  const other = create(service({ spec: { Name: "other" } }));
  const refused = (next: ServiceSpec) => refusalOf(() => validateServiceUpdate(web, next));
  t.equal(refused(global), "Unimplemented: service mode change is not allowed");
  t.equal(refused(other), "Unimplemented: renaming services is not supported");
  t.equal(refused(web), "accepted");
});

t.test("secrets and configs are in one order, whatever order they are sent in", async t => {
  const ref = (name: string, file: string): object => ({ SecretName: name, File: { Name: file } });
  const sent = [ref("s1", "other"), ref("s2", "a"), ref("s1", "s1"), ref("s1", "/b")];
  const ordered = [ref("s1", "s1"), ref("s1", "/b"), ref("s1", "other"), ref("s2", "a")];
  const Configs = [
    { ConfigName: "c2", Runtime: {} },
    { ConfigName: "c1", File: { Name: "/c" } },
  ];
  for (const Secrets of [sent, [...sent].reverse()]) {
    const ContainerSpec = { Image: "app:1", Secrets, Configs };
    const { TaskTemplate: task } = normalizeServiceSpec({ TaskTemplate: { ContainerSpec } });
    t.same(task?.ContainerSpec?.Secrets, ordered);
    t.same(
      task?.ContainerSpec?.Configs?.map(config => config.ConfigName),
      ["c1", "c2"],
    );
  }
});
