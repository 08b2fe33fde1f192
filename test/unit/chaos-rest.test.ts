import t from "tap";
import {
  type ClusterSeen,
  type ContainerSeen,
  differences,
  type NodeSeen,
  type ServiceSeen,
  type TaskSeen,
  unrest,
} from "../chaos/core/converged.ts";

/** A cluster at rest, and what each thing that is not right makes of it. */

const HOSTS = { managers: ["m1", "m2", "m3"], workers: ["w1", "w2"] };

const NODES: readonly NodeSeen[] = [...HOSTS.managers, ...HOSTS.workers].map(hostname => ({
  hostname,
  id: `id-${hostname}`,
  state: "ready",
  isManager: hostname.startsWith("m"),
  isLeader: hostname === "m2",
  reachable: hostname.startsWith("m"),
}));

const SERVICE: ServiceSeen = {
  id: "s1",
  name: "app",
  mode: "replicated",
  replicas: 2,
  workersOnly: false,
  generation: 3,
  updateState: "completed",
};

function task(id: string, given: Partial<TaskSeen> = {}): TaskSeen {
  return {
    id,
    serviceId: "s1",
    nodeId: "id-w1",
    slot: Number(id.slice(1)),
    desired: "running",
    state: "running",
    generation: 3,
    containerId: `c-${id}`,
    ...given,
  };
}

function containerOf(id: string, given: Partial<ContainerSeen> = {}): ContainerSeen {
  return { host: "w1", id: `c-${id}`, taskId: id, running: true, ...given };
}

const TASKS = [task("t1"), task("t2")];
const CONTAINERS = [containerOf("t1"), containerOf("t2")];

function seen(given: Partial<ClusterSeen> = {}): ClusterSeen {
  return {
    nodes: new Map(HOSTS.managers.map(host => [host, NODES])),
    services: [SERVICE],
    tasks: TASKS,
    containers: CONTAINERS,
    ...given,
  };
}

function nodesWith(hostname: string, change: Partial<NodeSeen>): ClusterSeen["nodes"] {
  const nodes = NODES.map(node => (node.hostname === hostname ? { ...node, ...change } : node));
  return new Map(HOSTS.managers.map(host => [host, nodes]));
}

t.test("rest", async t => {
  t.same(unrest(seen(), HOSTS), []);
  const history = [...TASKS, task("t0", { desired: "shutdown", state: "failed", slot: 1 })];
  const left = [...CONTAINERS, containerOf("t0", { running: false })];
  t.same(unrest(seen({ tasks: history, containers: left }), HOSTS), [], "with history");
});

const UNREST: readonly (readonly [string, Partial<ClusterSeen>, RegExp])[] = [
  ["a node is down", { nodes: nodesWith("w2", { state: "down" }) }, /w2 is down/],
  ["a manager is away", { nodes: nodesWith("m3", { reachable: false }) }, /m3 is unreachable/],
  ["nobody leads", { nodes: nodesWith("m2", { isLeader: false }) }, /leaders:/],
  ["two lead", { nodes: nodesWith("m1", { isLeader: true }) }, /leaders:/],
  [
    "managers name different leaders",
    {
      nodes: new Map([
        ["m1", NODES],
        ["m2", nodesWith("m2", { isLeader: false }).get("m1") ?? null],
      ]),
    },
    /leaders:/,
  ],
  ["a manager is mute", { nodes: new Map([["m1", null]]) }, /m1 does not list/],
  ["a node is missing", { nodes: new Map([["m1", NODES.slice(0, 4)]]) }, /w2 is not in/],
  ["a replica is missing", { tasks: [task("t1")], containers: [containerOf("t1")] }, /app: 1 run/],
  ["a replica starts", { tasks: [task("t1"), task("t2", { state: "starting" })] }, /app: 1 run/],
  ["one is too many", { tasks: [...TASKS, task("t3")] }, /3 running, 3 wanted, not 2/],
  ["two in a slot", { tasks: [task("t1"), task("t2", { slot: 1 })] }, /two tasks in one slot/],
  ["an update goes on", { services: [{ ...SERVICE, updateState: "updating" }] }, /being updated/],
  ["an old generation runs", { services: [{ ...SERVICE, generation: 4 }] }, /older generation/],
  [
    "a task does not end",
    { tasks: [...TASKS, task("t3", { desired: "shutdown" })] },
    /app: not ended: t3/,
  ],
  [
    "a task of no service",
    { tasks: [...TASKS, task("t3", { serviceId: "s9" })] },
    /no service: t3/,
  ],
  [
    "an orphan container",
    { containers: [...CONTAINERS, containerOf("t9")] },
    /its task t9 is gone/,
  ],
  [
    "an unwanted container runs",
    {
      tasks: [...TASKS, task("t3", { desired: "shutdown", state: "shutdown" })],
      containers: [...CONTAINERS, containerOf("t3")],
    },
    /runs, and its task is desired shutdown/,
  ],
  [
    "a task has two containers",
    { containers: [...CONTAINERS, containerOf("t2", { host: "w2", id: "other" })] },
    /on w2: a second one of task t2/,
  ],
  [
    "a task has none",
    { containers: [containerOf("t1")] },
    /t2 is said to run and has no container/,
  ],
];

for (const [what, change, text] of UNREST) {
  t.test(what, async t => t.match(unrest(seen(change), HOSTS).join("\n"), text));
}

t.test("global services run once a node", async t => {
  const nodes = ["w1", "w2"];
  const tasks = nodes.map((host, i) => task(`t${i + 1}`, { slot: 0, nodeId: `id-${host}` }));
  const service = { ...SERVICE, mode: "global", replicas: 0, workersOnly: true } as const;
  t.same(unrest(seen({ services: [service], tasks }), HOSTS), []);
  const everywhere = { ...service, workersOnly: false };
  t.match(unrest(seen({ services: [everywhere], tasks }), HOSTS), [/2 wanted, not 5/]);
  const same = tasks.map(one => ({ ...one, nodeId: "id-w1" }));
  t.match(unrest(seen({ services: [service], tasks: same }), HOSTS), [/two tasks in one slot/]);
});

t.test("managers are compared object by object", async t => {
  const a = new Map([
    ["x", "1"],
    ["y", "2"],
  ]);
  t.same(
    differences(
      "/tasks",
      new Map([
        ["m1", a],
        ["m2", new Map(a)],
      ]),
    ),
    [],
  );
  const b = new Map([
    ["x", "1"],
    ["y", "3"],
    ["z", "4"],
  ]);
  t.match(
    differences(
      "/tasks",
      new Map([
        ["m1", a],
        ["m2", a],
        ["m3", b],
      ]),
    ),
    [/\/tasks y: m1 and m3 do not agree/, /\/tasks z: m1 and m3/],
  );
  const less = new Map([["x", "1"]]);
  t.match(
    differences(
      "/tasks",
      new Map([
        ["m1", a],
        ["m2", less],
      ]),
    ),
    [/y: m1 and m2/],
  );
});
