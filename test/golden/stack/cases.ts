import type { SwarmWorld } from "../../support/recording-swarm.ts";

/** What `docker stack` is asked, and swarmd after it. Paths are below files/. */
export interface StackCase {
  readonly name: string;
  /** One run after the other on one swarm. */
  readonly runs: readonly (readonly string[])[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly world?: SwarmWorld;
  /** Docker finds the fault when it has made something; we make nothing. */
  readonly foundBefore?: boolean;
}

const deploy = (...words: string[]): readonly string[] => ["deploy", ...words, "st"];
const config = (...words: string[]): readonly string[] => ["config", ...words];

const DIGEST = `sha256:${"ab".repeat(32)}`;
const IMAGES = {
  "registry.example:5000/x/y:1": {
    Descriptor: { digest: DIGEST, size: 1, mediaType: "m" },
    Platforms: [
      { architecture: "amd64", os: "linux" },
      { architecture: "arm", os: "linux", variant: "v7" },
      { architecture: "", os: "windows" },
    ],
  },
  "busybox:latest": { Descriptor: { digest: DIGEST, size: 1, mediaType: "m" } },
};

const KEYS_ENV = { SET_OUTSIDE: "outside", HOME: "/home/me" };
const WEB_ENV = { COUNT: "3", PORT: "81", RO: "yes", EMPTY: "", TAG: "t" };
const OBJECTS: SwarmWorld = {
  secrets: ["ext", "old-name"],
  configs: ["c-ext"],
};

/** A file of one service `a`, whose further keys are `yaml` in flow style. */
function service(yaml: string, more = ""): string {
  return `services: {a: {image: a, ${yaml}}}\n${more}`;
}

/** Faulty files, said on standard input, by what is wrong. */
const FAULTS: Readonly<Record<string, string>> = {
  "not a mapping": "[]",
  empty: "",
  "a scalar": "x",
  "version 2": "version: '2.4'\nservices: {}",
  "version 3.14": "version: '3.14'\nservices: {}",
  "version as a number": "version: 3.8\nservices: {}",
  "version 3.99 key": "version: '3.0'\nservices: {a: {image: a, configs: [x]}}",
  "init before 3.7": "version: '3.6'\nservices: {a: {image: a, init: true}}",
  "unknown top": "bogus: 1\nservices: {}",
  "services a list": "services: []",
  "services null": "services:",
  "service null": "services: {a: }",
  "service name": "services: {'a b': {image: a}}",
  "image a number": "services: {a: {image: 1}}",
  "no image": "services: {a: {command: x}}",
  "bad image": "services: {a: {image: 'A:B'}}",
  "upper image": "services: {a: {image: 'docker.io/Foo/bar'}}",
  "command a number": service("command: 1"),
  "command a mapping": service("command: {a: b}"),
  "command list of numbers": service("command: [1]"),
  "command quote": service(`command: "echo 'x"`),
  "ports a mapping": service("ports: {a: b}"),
  "ports bad": service("ports: ['x:y']"),
  "ports range": service("ports: ['1-2:3-5']"),
  "ports protocol": service("ports: ['80/xyz']"),
  "ports address": service("ports: ['1.2.3:80:80']"),
  "ports too big": service("ports: [70000]"),
  "ports twice": service("ports: [80, 80]"),
  "ports long unknown": service("ports: [{target: 80, name: x}]"),
  "ports long text": service("ports: [{target: '80'}]"),
  "environment boolean": service("environment: {A: true}"),
  "environment list": service("environment: [{A: b}]"),
  "environment text": service("environment: x"),
  "environment twice": service("environment: [A=1, A=1]"),
  "labels null": service("labels: "),
  "replicas text": service("deploy: {replicas: two}"),
  "replicas negative": service("deploy: {replicas: -1}"),
  "replicas float": service("deploy: {replicas: 1.5}"),
  "replicas of global": service("deploy: {mode: global, replicas: 1}"),
  "mode unknown": service("deploy: {mode: foo}"),
  "deploy key": service("deploy: {bogus: 1}"),
  "update order": service("deploy: {update_config: {order: sideways}}"),
  "update delay": service("deploy: {update_config: {delay: soon}}"),
  "memory bad": service("deploy: {resources: {limits: {memory: lots}}}"),
  "memory suffix": service("deploy: {resources: {limits: {memory: 5x}}}"),
  "cpus bad": service("deploy: {resources: {limits: {cpus: many}}}"),
  "cpus precise": service("deploy: {resources: {limits: {cpus: '0.0000000001'}}}"),
  "cpus a number": service("deploy: {resources: {limits: {cpus: 0.5}}}"),
  "reservation pids": service("deploy: {resources: {reservations: {pids: 1}}}"),
  "restart unknown": service("restart: perhaps"),
  "restart count": service("restart: 'on-failure:x'"),
  "grace bad": service("stop_grace_period: 5"),
  "healthcheck both": service("healthcheck: {disable: true, test: x}"),
  "healthcheck test": service("healthcheck: {test: {a: b}}"),
  "healthcheck old time": "version: '3.3'\nservices: {a: {image: a, healthcheck: {interval: x}}}",
  "ulimit half": service("ulimits: {nofile: {soft: 1}}"),
  "ulimit text": service("ulimits: {nofile: x}"),
  "network undefined": service("networks: [x]"),
  "network key": service("networks: {x: {bogus: 1}}", "networks: {x: }"),
  "network external twice": service(
    "networks: [x]",
    "networks: {x: {name: a, external: {name: b}}}",
  ),
  "secret undefined": service("secrets: [x]"),
  "secret no file": service("secrets: [x]", "secrets: {x: {file: ./nosuch}}"),
  "secret null": service("secrets: [x]", "secrets: {x: }"),
  "secret target twice": service(
    "secrets: [x, {source: y, target: x}]",
    "secrets: {x: {file: conf.txt}, y: {file: conf.txt}}",
  ),
  "secret driver and file": service("tty: true", "secrets: {x: {driver: d, file: conf.txt}}"),
  "config undefined": service("configs: [x]"),
  "config driver": service("tty: true", "configs: {x: {driver: d, file: conf.txt}}"),
  "config content": service("tty: true", "configs: {x: {content: y}}"),
  "volume undefined": service("volumes: ['vol:/x']"),
  "volume empty": service("volumes: ['']"),
  "volume colons": service("volumes: ['vol:/b:ro:x']"),
  "volume section": service("volumes: ['vol::/b']"),
  "volume type": service("volumes: [{type: foo, target: /x}]"),
  "volume no type": service("volumes: [{target: /x}]"),
  "volume options": service("volumes: [{type: bind, source: /x, target: /x, tmpfs: {}}]"),
  "volume tmpfs source": service("volumes: [{type: tmpfs, source: x, target: /x}]"),
  "volume bind source": service("volumes: [{type: bind, target: /x}]"),
  "volume size": service("volumes: [{type: tmpfs, target: /x, tmpfs: {size: -1}}]"),
  "volume external driver": service("tty: true", "volumes: {x: {external: true, driver: d}}"),
  "volume external name": service("tty: true", "volumes: {x: {name: a, external: {name: b}}}"),
  "credential both": service("credential_spec: {file: a, registry: b}"),
  "credential three": service(
    "credential_spec: {file: a, registry: b, config: c}",
    "configs: {c: {file: conf.txt}}",
  ),
  "credential config": service("credential_spec: {config: c}"),
  "env_file none": service("env_file: nosuch"),
  "env_file bad": service("env_file: [conf.txt, bad.env]"),
  extends: service("extends: x"),
  "forbidden keys": service("mem_limit: 5, volume_driver: x, volumes_from: [y]"),
  "shm_size a number": service("shm_size: 5"),
  "variable invalid": service(`hostname: '\${'`),
  "variable bare dollar": service("hostname: 'a$ b'"),
  "variable required": service(`hostname: '\${NONE:?must be set}'`),
  "variable required 2": service(`hostname: '\${NONE?}'`),
  "variable cast": service(`deploy: {replicas: '\${WORD}'}`),
  "variable boolean": service(`tty: '\${WORD}'`),
  "variable float": service(`deploy: {update_config: {max_failure_ratio: '\${WORD}'}}`),
  "duplicate key": "services:\n  a:\n    image: a\n    image: b\n",
  "unknown anchor": "services:\n  a: *x\n",
  "merge of a list": "services:\n  a:\n    <<: x\n    image: a\n",
};

/** Fields of a spec that docker refuses only when it has made networks. */
const FOUND_LATE =
  /^(volume (undefined|type|options|tmpfs source)|network undefined|secret (undefined|no file|null|target)|config undefined|mode unknown|replicas of|restart|cpus (bad|precise)|healthcheck both|credential)/;

const faults: StackCase[] = Object.entries(FAULTS).map(([name, input]) => ({
  name: `fault ${name}`,
  runs: [deploy("-c", "-")],
  input,
  environment: { WORD: "word" },
  ...(FOUND_LATE.test(name) ? { foundBefore: true } : {}),
}));

const FIXTURES = [
  "simple",
  "two",
  "onlyone",
  "web2",
  "configs",
  "named",
  "netalias",
  "unsupported",
];

export const STACK_CASES: readonly StackCase[] = [
  ...FIXTURES.map(name => ({ name, runs: [deploy("-c", `${name}.yml`)] })),
  ...["full", "simple", "configs", "external", "named", "unsupported"].map(name => ({
    name: `config ${name}`,
    runs: [config("-c", `${name}.yml`)],
  })),
  { name: "full", runs: [deploy("-c", "full.yml")], environment: { CVAR: "cv", B: "b" } },
  { name: "badfield", runs: [deploy("-c", "badfield.yml")] },
  { name: "badref", runs: [deploy("-c", "badref.yml")], foundBefore: true },
  {
    name: "badport",
    runs: [deploy("-c", "badport.yml")],
    world: { refused: { "POST /services/create": "port published with ingress mode" } },
  },
  { name: "no such file", runs: [deploy("-c", "nosuch.yml")] },
  { name: "a folder", runs: [deploy("-c", ".")] },
  { name: "no file", runs: [deploy()] },
  { name: "config no file", runs: [config()] },
  { name: "no stack name", runs: [["deploy", "-c", "simple.yml", " "]] },
  { name: "bad resolve", runs: [deploy("-c", "simple.yml", "--resolve-image", "maybe")] },
  { name: "not a manager", runs: [deploy("-c", "simple.yml")], world: { isManager: false } },
  { name: "keys", runs: [deploy("-c", "keys.yml")], environment: KEYS_ENV },
  { name: "config keys", runs: [config("-c", "keys.yml")], environment: KEYS_ENV },
  {
    name: "config keys raw",
    runs: [config("-c", "keys.yml", "--skip-interpolation")],
    environment: KEYS_ENV,
  },
  { name: "config printing", runs: [config("-c", "printing.yml")] },
  { name: "printing", runs: [deploy("-c", "printing.yml")] },
  { name: "mounts", runs: [deploy("-c", "mounts.yml")] },
  { name: "config mounts", runs: [config("-c", "mounts.yml")] },
  { name: "numbers", runs: [deploy("-c", "numbers.yml")] },
  { name: "config numbers", runs: [config("-c", "numbers.yml")] },
  { name: "objects", runs: [deploy("-c", "objects.yml")], world: OBJECTS },
  { name: "config objects", runs: [config("-c", "objects.yml")] },
  { name: "objects missing", runs: [deploy("-c", "objects.yml")] },
  { name: "variables", runs: [deploy("-c", "objects-env.yml")], environment: WEB_ENV },
  { name: "config variables", runs: [config("-c", "objects-env.yml")], environment: WEB_ENV },
  {
    name: "merged",
    runs: [deploy("-c", "base.yml", "-c", "over.yml")],
    world: { secrets: ["s2"] },
  },
  { name: "config merged", runs: [config("-c", "base.yml", "-c", "over.yml")] },
  { name: "config base", runs: [config("-c", "base.yml")] },
  { name: "config merged by comma", runs: [config("-c", "simple.yml,override.yml,web2.yml")] },
  { name: "config versions", runs: [config("-c", "base.yml", "-c", "named.yml")] },
  { name: "external", runs: [deploy("-c", "external.yml")] },
  {
    name: "external local",
    runs: [deploy("-c", "external.yml")],
    world: { networks: { realnet: "local" } },
  },
  {
    name: "external there",
    runs: [deploy("-c", "external.yml")],
    world: { networks: { realnet: "swarm" }, secrets: ["realsec"] },
  },
  { name: "again", runs: [deploy("-c", "configs.yml"), deploy("-c", "configs.yml")] },
  {
    name: "other image",
    runs: [deploy("-c", "simple.yml"), deploy("-c", "web2.yml", "--resolve-image", "changed")],
  },
  {
    name: "resolved",
    runs: [deploy("-c", "auth.yml"), deploy("-c", "auth.yml")],
    world: { images: IMAGES },
  },
  {
    name: "resolved when changed",
    runs: [deploy("-c", "auth.yml"), deploy("-c", "auth.yml", "--resolve-image", "changed")],
    world: { images: IMAGES },
  },
  {
    name: "resolved never",
    runs: [
      deploy("-c", "auth.yml", "--resolve-image=never"),
      deploy("-c", "auth.yml", "--resolve-image=never"),
    ],
    world: { images: IMAGES },
  },
  {
    name: "credentials",
    runs: [
      deploy("-c", "auth.yml", "--with-registry-auth"),
      deploy("-c", "auth.yml", "--with-registry-auth"),
    ],
  },
  { name: "pruned", runs: [deploy("-c", "two.yml"), deploy("--prune", "-c", "onlyone.yml")] },
  {
    name: "refused network",
    runs: [deploy("-c", "simple.yml")],
    world: { refused: { "POST /networks/create": "no more subnets" } },
  },
  {
    name: "refused secret",
    runs: [deploy("-c", "configs.yml")],
    world: { refused: { "POST /secrets/create": "no more secrets" } },
  },
  ...faults,
];
