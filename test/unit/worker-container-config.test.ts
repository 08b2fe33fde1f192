import fc from "fast-check";
import t from "tap";
import { isSwarmError } from "../../src/base/errors.ts";
import type { Config, Secret } from "../../src/model/rows.ts";
import type { Mount } from "../../src/model/service-spec.ts";
import { expandTemplate } from "../../src/model/template.ts";
import {
  type ContainerCreateBody,
  containerConfig,
} from "../../src/worker/core/container-config.ts";
import { type NodeFacts, taskName } from "../../src/worker/core/task-context.ts";
import { type TaskWork, taskFiles } from "../../src/worker/core/task-work.ts";
import { aTask, type TaskParts } from "../support/tasks.ts";

const NODE: NodeFacts = {
  nodeId: "node1",
  clusterId: "cluster1",
  hostname: "host-a",
  os: "linux",
  architecture: "x86_64",
};

function aWork(parts: TaskParts = {}): TaskWork {
  return { assigned: aTask(parts), node: NODE, files: [], registryAuth: "" };
}

function build(parts: TaskParts = {}): ContainerCreateBody {
  return containerConfig(aWork(parts), []);
}

const SYSTEM_LABELS = {
  "com.docker.swarm.task": "",
  "com.docker.swarm.task.id": "task1",
  "com.docker.swarm.task.name": "web.1.task1",
  "com.docker.swarm.node.id": "node1",
  "com.docker.swarm.service.id": "service1",
  "com.docker.swarm.service.name": "web",
  "swarmd.cluster.id": "cluster1",
};

t.test("a plain task", async t => {
  t.strictSame(build(), {
    Image: "busybox:latest",
    Labels: SYSTEM_LABELS,
    Cmd: ["sleep", "1000"],
    HostConfig: { RestartPolicy: { Name: "no" }, Init: true },
  });
  t.equal(taskName(aTask()), "web.1.task1");
  t.equal(taskName(aTask({ task: { slot: 0 } })), "web.node1.task1", "global: the node's id");
});

t.test("what the process is", async t => {
  const body = build({
    container: {
      Command: ["/bin/app"],
      Args: ["--serve"],
      Env: ["A=1", "ON={{.Node.Hostname}}"],
      Dir: "/srv",
      User: "70:70",
      Groups: ["wheel", "audio"],
      TTY: true,
      OpenStdin: true,
      Hostname: "{{.Service.Name}}-{{.Task.Slot}}",
      StopSignal: "SIGINT",
      StopGracePeriod: 1_500_000_000,
      Labels: { tier: "front", "com.docker.swarm.task.id": "forged" },
      Healthcheck: { Test: ["CMD", "true"], Interval: 1_000_000_000, Retries: 2 },
    },
    task: {
      assignedGeneric: [
        { NamedResourceSpec: { Kind: "gpu", Value: "uuid1" } },
        { NamedResourceSpec: { Kind: "gpu", Value: "uuid2" } },
        { DiscreteResourceSpec: { Kind: "fpga", Value: 3 } },
      ],
    },
  });
  t.strictSame(body, {
    Image: "busybox:latest",
    Labels: { tier: "front", ...SYSTEM_LABELS },
    Entrypoint: ["/bin/app"],
    Cmd: ["--serve"],
    WorkingDir: "/srv",
    User: "70:70",
    Tty: true,
    OpenStdin: true,
    StopSignal: "SIGINT",
    StopTimeout: 2,
    Healthcheck: { Test: ["CMD", "true"], Interval: 1_000_000_000, Retries: 2 },
    Env: ["A=1", "ON=host-a", "DOCKER_RESOURCE_FPGA=3", "DOCKER_RESOURCE_GPU=uuid1,uuid2"],
    Hostname: "web-1",
    HostConfig: { RestartPolicy: { Name: "no" }, GroupAdd: ["wheel", "audio"], Init: true },
  });
});

t.test("what the process may use and see", async t => {
  const { HostConfig } = build({
    container: {
      Init: false,
      ReadOnly: true,
      Sysctls: { "net.core.somaxconn": "1024" },
      CapabilityAdd: ["CAP_NET_ADMIN"],
      CapabilityDrop: ["ALL"],
      Ulimits: [{ Name: "nofile", Soft: 10, Hard: 20 }],
      OomScoreAdj: 500,
      Hosts: ["10.0.0.9 db database", "10.0.0.8 cache"],
      DNSConfig: { Nameservers: ["1.1.1.1"], Search: ["lan"], Options: ["ndots:1"] },
      Privileges: {
        NoNewPrivileges: true,
        SELinuxContext: { Type: "svirt_t", Level: "s0" },
        Seccomp: { Mode: "unconfined" },
        AppArmor: { Mode: "disabled" },
      },
    },
    spec: {
      TaskTemplate: {
        Resources: {
          Limits: { NanoCPUs: 500_000_000, MemoryBytes: 64_000_000, Pids: 50 },
          Reservations: { NanoCPUs: 1 },
          SwapBytes: 1_000_000,
          MemorySwappiness: 10,
        },
        LogDriver: { Name: "json-file", Options: { "max-size": "1m" } },
      },
    },
  });
  t.strictSame(HostConfig, {
    RestartPolicy: { Name: "no" },
    NanoCpus: 500_000_000,
    Memory: 64_000_000,
    PidsLimit: 50,
    MemorySwap: 65_000_000,
    MemorySwappiness: 10,
    Ulimits: [{ Name: "nofile", Soft: 10, Hard: 20 }],
    OomScoreAdj: 500,
    ReadonlyRootfs: true,
    Init: false,
    Sysctls: { "net.core.somaxconn": "1024" },
    CapAdd: ["CAP_NET_ADMIN"],
    CapDrop: ["ALL"],
    SecurityOpt: [
      "label=type:svirt_t",
      "label=level:s0",
      "seccomp=unconfined",
      "apparmor=unconfined",
      "no-new-privileges=true",
    ],
    ExtraHosts: ["db:10.0.0.9", "database:10.0.0.9", "cache:10.0.0.8"],
    Dns: ["1.1.1.1"],
    DnsSearch: ["lan"],
    DnsOptions: ["ndots:1"],
    LogConfig: { Type: "json-file", Config: { "max-size": "1m" } },
  });
  const unlimited = build({ spec: { TaskTemplate: { Resources: { SwapBytes: -1 } } } });
  t.equal(unlimited.HostConfig["MemorySwap"], -1, "swap without a limit");
});

t.test("mounts, with placeholders", async t => {
  const { HostConfig } = build({
    container: {
      Mounts: [
        { Type: "bind", Source: "/srv/{{.Task.Slot}}", Target: "/data", ReadOnly: true },
        {
          Source: "vol-{{.Service.Name}}",
          Target: "/{{.Node.ID}}",
          VolumeOptions: {
            NoCopy: true,
            Labels: { of: "{{.Task.Name}}" },
            DriverConfig: { Name: "local", Options: { device: ":/{{.Node.Hostname}}" } },
          },
        },
        { Type: "tmpfs", Target: "/tmp", TmpfsOptions: { SizeBytes: 1024, Mode: 0o1777 } },
      ],
    },
  });
  t.strictSame(HostConfig["Mounts"], [
    { Type: "bind", Source: "/srv/1", Target: "/data", ReadOnly: true },
    {
      Source: "vol-web",
      Target: "/node1",
      VolumeOptions: {
        NoCopy: true,
        Labels: { of: "web.1.task1" },
        DriverConfig: { Name: "local", Options: { device: ":/host-a" } },
      },
      Type: "volume",
    },
    { Type: "tmpfs", Target: "/tmp", TmpfsOptions: { SizeBytes: 1024, Mode: 0o1777 } },
  ]);
});

t.test("ports that the node publishes", async t => {
  const body = build({
    spec: {
      EndpointSpec: {
        Ports: [
          { TargetPort: 80, PublishedPort: 8080, PublishMode: "host" },
          { TargetPort: 53, Protocol: "udp", PublishMode: "host" },
          { TargetPort: 443, PublishedPort: 8443, PublishMode: "ingress" },
        ],
      },
    },
  });
  t.strictSame(body.ExposedPorts, { "80/tcp": {}, "53/udp": {} });
  t.strictSame(body.HostConfig["PortBindings"], {
    "80/tcp": [{ HostPort: "8080" }],
    "53/udp": [{ HostPort: "" }],
  });
});

t.test("networks", async t => {
  const host = build({ spec: { TaskTemplate: { Networks: [{ Target: "host" }] } } });
  t.equal(host.HostConfig["NetworkMode"], "host");
  const work = aWork({});
  const body = containerConfig(work, [], {
    endpoints: [
      { networkId: "e1", endpoint: { IPAMConfig: { IPv4Address: "10.0.1.5" } } },
      { networkId: "e2", endpoint: { IPAMConfig: { IPv4Address: "10.0.2.5" } } },
    ],
    nameservers: ["10.0.1.1"],
  });
  t.match(body.HostConfig, { NetworkMode: "e1", Dns: ["10.0.1.1"] });
  t.strictSame(body.NetworkingConfig, {
    EndpointsConfig: { e1: { IPAMConfig: { IPv4Address: "10.0.1.5" } } },
  });
});

function meta(id: string): {
  id: string;
  version: number;
  createdAtMs: number;
  updatedAtMs: number;
} {
  return { id, version: 1, createdAtMs: 1, updatedAtMs: 1 };
}

t.test("secrets and configs become files", async t => {
  const secret: Secret = { ...meta("s1"), spec: { Name: "key", Data: "aGk=" } };
  const config: Config = { ...meta("c1"), spec: { Name: "conf", Data: "eW8=" } };
  const decode = (base64: string): Uint8Array => Buffer.from(base64, "base64");
  const known = { secrets: new Map([["s1", secret]]), configs: new Map([["c1", config]]) };
  const assigned = aTask({
    container: {
      Secrets: [
        { SecretID: "s1", SecretName: "key", File: { Name: "key.pem", UID: "70", Mode: 0o400 } },
      ],
      Configs: [
        { ConfigID: "c1", ConfigName: "conf", File: { Name: "/etc/app.conf", GID: "5" } },
        { ConfigID: "c2", Runtime: {} },
      ],
    },
  });
  t.strictSame(
    taskFiles({ assigned, node: NODE }, known, decode).map(file => ({
      ...file,
      data: String(file.data),
    })),
    [
      {
        kind: "secret",
        id: "s1",
        target: "/run/secrets/key.pem",
        uid: 70,
        gid: 0,
        mode: 0o400,
        data: "hi",
      },
      {
        kind: "config",
        id: "c1",
        target: "/etc/app.conf",
        uid: 0,
        gid: 5,
        mode: 0o444,
        data: "yo",
      },
    ],
  );
  const body = containerConfig(aWork(), [{ hostPath: "/run/x/0", target: "/run/secrets/key.pem" }]);
  t.strictSame(body.HostConfig["Mounts"], [
    { Type: "bind", Source: "/run/x/0", Target: "/run/secrets/key.pem", ReadOnly: true },
  ]);
  const none = { secrets: new Map<string, Secret>(), configs: new Map<string, Config>() };
  t.throws(() => taskFiles({ assigned, node: NODE }, none, decode), {
    message: "secret reference key not found",
  });
  const bad = aTask({
    container: { Secrets: [{ SecretID: "s1", File: { Name: "../../etc/x" } }] },
  });
  t.throws(() => taskFiles({ assigned: bad, node: NODE }, known, decode), {
    message: /not a file name/,
  });
  const owner = aTask({
    container: { Secrets: [{ SecretID: "s1", File: { Name: "a", UID: "bob" } }] },
  });
  t.throws(() => taskFiles({ assigned: owner, node: NODE }, known, decode), {
    message: /not a numeric id/,
  });
});

t.test("templates in secrets and configs see the task, its variables and its files", async t => {
  const Templating = { Name: "golang" };
  const text = (value: string): string => Buffer.from(value).toString("base64");
  const key: Secret = { ...meta("s1"), spec: { Name: "key", Data: text("{{hi}}") } };
  const conf = (Data: string, driver: Config["spec"]["Templating"] = Templating): Config => ({
    ...meta("c1"),
    spec: { Name: "conf", Data: text(Data), ...(driver && { Templating: driver }) },
  });
  const decode = (base64: string): Uint8Array => Buffer.from(base64, "base64");
  const assigned = aTask({
    container: {
      Env: ["SLOT={{.Task.Slot}}", "EMPTY="],
      Secrets: [{ SecretID: "s1", SecretName: "key", File: { Name: "key.pem" } }],
      Configs: [{ ConfigID: "c1", ConfigName: "conf", File: { Name: "/app.conf" } }],
    },
  });
  const expand = (config: Config): string => {
    const known = { secrets: new Map([["s1", key]]), configs: new Map([["c1", config]]) };
    const files = taskFiles({ assigned, node: NODE }, known, decode);
    return Buffer.from(files.find(file => file.kind === "config")?.data ?? []).toString();
  };
  t.equal(
    expand(
      conf('{{.Service.Name}} {{env "SLOT"}}{{env "EMPTY"}}{{env "none"}} {{secret "key.pem"}}'),
    ),
    "web 1 {{hi}}",
    "what a function gives is not read again",
  );
  t.equal(expand({ ...conf(""), spec: { Name: "conf", Data: text("{{x}}") } }), "{{x}}");
  t.throws(() => expand(conf('{{secret "key"}}')), { message: "secret target key not found" });
  t.throws(() => expand(conf("{{env}}")), { message: /needs one name/ });
  t.throws(() => expand(conf("x", { Name: "jinja" })), {
    message: "unrecognized template driver: jinja",
  });
});

t.test("mounts that only the node can refuse", async t => {
  const cases: readonly (readonly [Mount, string])[] = [
    [{ Type: "volume", Source: "v" }, "invalid mount target, must be an absolute path: "],
    [{ Target: "v" }, "invalid mount target, must be an absolute path: v"],
    [
      { Type: "bind", Source: "v", Target: "/x" },
      "invalid bind mount source, must be an absolute path: v",
    ],
    [
      { Type: "volume", Source: "/v", Target: "/x" },
      "invalid volume mount source, must not be an absolute path: /v",
    ],
    [{ Type: "tmpfs", Source: "v", Target: "/x" }, "invalid tmpfs source, source must be empty"],
  ];
  for (const [mount, message] of cases) {
    t.throws(() => build({ container: { Mounts: [mount] } }), { message });
  }
  t.doesNotThrow(() =>
    build({ container: { Mounts: [{ Source: "v", Target: "/{{.Task.Slot}}" }] } }),
  );
});

t.test("placeholders", async t => {
  const context = {
    Service: { Name: "web", Labels: { tier: "front", "com.example.x": "y" } },
    Task: { Slot: "3" },
  };
  const good: readonly (readonly [string, string])[] = [
    ["plain", "plain"],
    ["{{.Service.Name}}-{{ .Task.Slot }}", "web-3"],
    ["{{.Service.Labels.tier}}", "front"],
    ['{{index .Service.Labels "com.example.x"}}', "y"],
    ['{{index .Service.Labels "absent"}}', ""],
    ['{{join "-" .Service.Name .Task.Slot "z"}}', "web-3-z"],
    ["a {{- .Task.Slot -}} b", "a3b"],
    ["{{/* why */}}x", "x"],
    ['{{"quoted \\"text\\""}}{{`raw`}}', 'quoted "text"raw'],
  ];
  for (const [template, expected] of good) t.equal(expandTemplate(template, context), expected);
  const bad: readonly (readonly [string, RegExp])[] = [
    ["{{.Service.Nmae}}", /at <.Service.Nmae>: can't evaluate field Nmae in type struct /],
    ["{{.Service.Labels.absent}}", /map has no entry for key "absent"/],
    ["{{.Service}}", /does not name a text/],
    ["{{.Service.Name", /^template: expansion:1: unclosed action$/],
    ["{{constructor}}", /no function here/],
    ["{{.constructor}}", /can't evaluate field constructor in type \*template.Context/],
    ["{{__proto__}}", /no function here/],
    ["{{}}", /empty action/],
    ["{{if .Task}}x{{end}}", /not a single value/],
    ["{{.Service.Name | printf}}", /cannot be read/],
    ["{{index .Service.Labels}}", /needs a map and a key/],
  ];
  for (const [template, error] of bad) {
    t.throws(() => expandTemplate(template, context), { message: error }, template);
  }
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 60 }), text => {
      try {
        return typeof expandTemplate(`{{${text}`, context) === "string";
      } catch (error) {
        return isSwarmError(error, "invalid_argument");
      }
    }),
  );
});
