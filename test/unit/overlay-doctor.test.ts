import fc from "fast-check";
import t from "tap";
import { doctorText } from "../../cli/commands/network-doctor.ts";
import { prettyNetwork } from "../../cli/format/pretty-network.ts";
import { newDeferred } from "../../src/base/async.ts";
import { SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import {
  diagnose,
  type HostAnswers,
  type ProbeSetup,
  planProbes,
} from "../../src/control/core/doctor.ts";
import { problemsOf } from "../../src/control/core/network-status.ts";
import { decodeNetworkReport, decodeProbeReport } from "../../src/control/core/node-answers.ts";
import type { NodeAsker } from "../../src/control/ports.ts";
import {
  type NetworkReport,
  type NodeQuestion,
  type ProbeReport,
  summarize,
} from "../../src/model/data-path.ts";
import type { NetworkStatus } from "../../src/model/data-path-status.ts";
import { decodeProbe, encodeProbe, SizeSearch } from "../../src/overlay/core/probe.ts";
import { Prober } from "../../src/overlay/prober.ts";
import { Answers } from "../../src/worker/answers.ts";
import { managerRig } from "../support/manager-rig.ts";
import { aNetwork, aNode, aStatus, aTask } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** What nodes have of a network, and the ways between hosts: asked, judged and shown. */

const SETUP: ProbeSetup = {
  hosts: [1, 2, 3].map(index => ({
    ...{ nodeId: `n${index}`, hostname: `h${index}`, index },
    addr: `10.77.0.${index}`,
  })),
  managers: [{ nodeId: "n1", addr: "10.77.0.1:2377" }],
  dataPathPort: 4_789,
  encrypted: true,
};
const ALL = [1, 2, 3];

/** A host that reaches all others, but for what is said. */
function probeOf(self: number, fields: Partial<ProbeReport> = {}): ProbeReport {
  const ways = ALL.filter(index => index !== self).map(index => ({ index, reachedBytes: 1_500 }));
  return {
    ...{ problem: "", underlayMtu: 1_500, triedBytes: 1_500, plain: ways, sealed: ways },
    sealedProblem: "",
    control: [{ nodeId: "n1", problem: "" }],
    ...fields,
  };
}

function answersOf(
  change: Readonly<Record<number, Partial<ProbeReport>>>,
  deaf: (from: number, to: number) => boolean = () => false,
): Map<string, HostAnswers> {
  return new Map(
    ALL.map(index => {
      const heard = ALL.filter(from => from !== index && !deaf(from, index));
      return [
        `n${index}`,
        { probe: probeOf(index, change[index]), heard: { plain: heard, sealed: heard } },
      ];
    }),
  );
}

t.test("a size that passes is found to the byte", async t => {
  const passing = fc.integer({ min: 64, max: 9_000 });
  fc.assert(
    fc.property(passing, fc.integer({ min: 64, max: 9_000 }), (limit, full) => {
      const search = new SizeSearch(full);
      for (let round = 0; round < 6; round += 1) {
        for (const size of search.sizes) if (size <= limit) search.acked(size);
        search.nextRound();
      }
      t.equal(search.reached, Math.min(limit, full));
      t.same(search.sizes, []);
    }),
  );
  const blocked = new SizeSearch(1_422);
  t.same(blocked.sizes, [64, 1_422]);
  blocked.nextRound();
  t.match(blocked, { reached: 0, sizes: [] }, "nothing passes: no more is sent");
});

t.test("test packets", async t => {
  for (const packet of [
    { kind: "probe", index: 300, size: 1_422 },
    { kind: "ack", index: 2, size: 64 },
  ] as const) {
    const bytes = encodeProbe(packet);
    t.equal(bytes.length, packet.kind === "probe" ? packet.size : 9);
    t.same(decodeProbe(bytes), packet);
  }
  const cut = encodeProbe({ kind: "probe", index: 1, size: 100 }).subarray(0, 99);
  t.equal(decodeProbe(cut), null, "not as long as it says");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), bytes => void decodeProbe(bytes)));
});

t.test("every host probes the others", async t => {
  const plans = planProbes(SETUP);
  t.same(
    plans.get("n2")?.others.map(({ nodeId }) => nodeId),
    ["n3", "n1"],
    "in the order of the ring",
  );
});

t.test("open ways are counted, and nothing is found", async t => {
  const report = diagnose(SETUP, answersOf({}), []);
  t.same(report.findings, []);
  t.same(
    report.ways.map(({ what, tried, open }) => [what, tried, open]),
    [
      ["control", 3, 3],
      ["vxlan", 6, 6],
      ["mtu", 6, 6],
      ["wireguard", 6, 6],
    ],
  );
  t.match(doctorText(report), /3 of 3 hosts.*\nok {3}control port: 3 of 3 ways\n/);
  t.match(doctorText(report), /nothing is blocked\n$/);
});

t.test("a port blocked one way is told from one blocked both ways", async t => {
  const unheard = [{ index: 2, reachedBytes: 0 }];
  const lost = { 1: { plain: [...unheard, { index: 3, reachedBytes: 1_500 }] } };
  const oneWay = diagnose(
    SETUP,
    answersOf(lost, (from, to) => from === 1 && to === 2),
    [],
  );
  t.match(oneWay.findings, [{ what: "vxlan", from: "h1", to: "h2" }]);
  t.match(oneWay.findings[0]?.problem, /UDP port 4789/);
  t.match(oneWay.findings[0]?.advice, /from 10\.77\.0\.1 to 10\.77\.0\.2/);
  const onlyAnswers = diagnose(SETUP, answersOf(lost), []);
  t.same(onlyAnswers.findings, [], "what was lost are the answers: that is h2's finding");
  t.match(doctorText(oneWay), /FAIL VXLAN: 5 of 6 ways[\s\S]*h1 -> h2 \(VXLAN\)/);
});

t.test("a small MTU, a closed control port, a mesh that carries nothing", async t => {
  const small = {
    plain: [2, 3].map(index => ({ index, reachedBytes: index === 3 ? 1_304 : 1_500 })),
  };
  const mtu = diagnose(SETUP, answersOf({ 1: small }), []);
  t.match(mtu.findings, [{ what: "mtu", from: "h1", to: "h3", problem: /up to 1304 bytes/ }]);
  const closed = { control: [{ nodeId: "n1", problem: "connect ECONNREFUSED" }] };
  t.match(diagnose(SETUP, answersOf({ 2: closed }), []).findings, [
    { what: "control", from: "h2", to: "h1", problem: /ECONNREFUSED/, advice: /TCP port 2377/ },
  ]);
  const sealed = {
    sealed: [2, 3].map(index => ({ index, reachedBytes: index === 3 ? 0 : 1_500 })),
  };
  const mesh = diagnose(
    SETUP,
    answersOf({ 1: sealed }, (from, to) => from === 1 && to === 3),
    [],
  );
  t.match(
    mesh.findings.filter(({ what }) => what === "wireguard"),
    [{ from: "h1", to: "h3", advice: /UDP ports 51820 and 51821/ }],
  );
});

t.test("a host that takes no part is one finding, not one for each way", async t => {
  const answers = answersOf({});
  answers.set("n3", { probe: "the node did not answer within 8000 ms", heard: null });
  const report = diagnose(SETUP, answers, []);
  t.match(report.findings, [{ what: "node", from: "h3", to: "" }]);
  t.same(
    report.hosts.map(({ probed }) => probed),
    [true, true, false],
  );
});

t.test("answers of nodes are made safe", async t => {
  fc.assert(
    fc.property(fc.jsonValue(), value => {
      decodeNetworkReport(value);
      decodeProbeReport(value);
    }),
  );
  t.match(decodeNetworkReport({ repairs: "many", told: { services: -1, digest: 4 } }), {
    repairs: 0,
    told: { services: 0, digest: "" },
    wanted: null,
  });
});

const PROGRAM = { hosts: 2, routes: 2, locals: 1, vips: 1, ports: 0, backends: 3 };
const TOLD = summarize([], []);
const REPORT: NetworkReport = {
  ...{ problem: "", told: TOLD, wanted: PROGRAM, programmed: PROGRAM },
  ...{ auditedAtMs: 1_000, repairs: 0, findings: [] },
};

t.test("what a node has is compared with what it should have", async t => {
  const even = { sent: 7, programmed: 7 };
  t.same(problemsOf(even, TOLD, REPORT), []);
  t.match(problemsOf(null, TOLD, "the node has no session"), [/no session/]);
  t.match(problemsOf({ sent: 7, programmed: 5 }, TOLD, REPORT), [/up to 5 of 7/]);
  const other = { ...TOLD, digest: "0", endpoints: 4 };
  t.match(problemsOf(even, other, REPORT), [/0 endpoints, 0 serving instead of 0 services, 4 /]);
  const behind = { ...REPORT, programmed: { ...PROGRAM, backends: 2 } };
  t.match(problemsOf(even, TOLD, behind), ["2 backends are programmed instead of 3"]);
  t.match(problemsOf(even, TOLD, { ...REPORT, programmed: null }), [/not programmed/]);
  t.match(problemsOf(even, TOLD, { ...REPORT, told: null }), [/was not told/]);
});

t.test("summaries tell rows apart, not their order", async t => {
  const rows = [1, 2, 3].map(i => ({
    ...{ id: `net/t${i}`, networkId: "net", taskId: `t${i}`, serviceId: "s", name: `web.${i}` },
    ...{ nodeId: "n1", addr: `10.0.1.${i}`, serving: i > 1 },
  }));
  const all = summarize([], rows);
  t.match(all, { services: 0, endpoints: 3, serving: 2 });
  t.same(summarize([], [...rows].reverse()), all);
  for (const row of rows) {
    const changed = rows.map(one => (one === row ? { ...one, addr: "10.0.9.9" } : one));
    t.not(summarize([], changed).digest, all.digest);
  }
});

class ScriptedNodes implements NodeAsker {
  readonly asked: (readonly [string, NodeQuestion["kind"]])[] = [];
  readonly answers: (nodeId: string, question: NodeQuestion) => unknown;

  constructor(answers: ScriptedNodes["answers"]) {
    this.answers = answers;
  }

  async ask(nodeId: string, question: NodeQuestion): Promise<unknown> {
    this.asked.push([nodeId, question.kind]);
    return this.answers(nodeId, question);
  }

  progress(nodeId: string): { sent: number; programmed: number } | null {
    return nodeId === "n3" ? null : { sent: 7, programmed: 7 };
  }

  expected(): typeof TOLD {
    return TOLD;
  }
}

function nodeRow(index: number, state: "ready" | "down" = "ready"): object {
  const node = aNode({ id: `n${index}` });
  const overlay = { addr: `10.77.0.${index}`, publicKey: "", problem: "" };
  return {
    ...node,
    overlayIndex: index,
    description: { ...node.description, hostname: `h${index}`, overlay },
    status: { ...node.status, state },
  };
}

t.test("the API asks the nodes of a network", async t => {
  const asker = new ScriptedNodes(nodeId => {
    if (nodeId === "n3") throw new SwarmError("unavailable", "the node has no session");
    return REPORT;
  });
  const rig = await managerRig(t, { asker });
  const onNet = (index: number): object => ({
    ...aTask({ id: `t${index}`, nodeId: `n${index}`, serviceId: "web", serviceName: "web" }),
    status: aStatus("running"),
    networks: [{ networkId: "net1", addresses: [`10.0.1.${index}/24`], aliases: [] }],
  });
  rig.store.put(
    { op: "create", table: "networks", row: aNetwork({ id: "net1" }) },
    ...[1, 2, 3].map(i => ({ op: "create", table: "nodes", row: nodeRow(i) }) as never),
    ...[1, 3].map(i => ({ op: "create", table: "tasks", row: onNet(i) }) as never),
  );
  const reply = await rig.ask("GET", "/swarmd/v1/networks/net1");
  t.equal(reply.status, 200);
  const status = reply.body as NetworkStatus;
  t.equal(status.inStep, false);
  t.same(
    status.nodes.map(({ hostname, problems }) => [hostname, problems.length]),
    [
      ["h1", 0],
      ["h3", 1],
    ],
    "only those that have tasks there",
  );
  t.same(asker.asked, [
    ["n1", "network"],
    ["n3", "network"],
  ]);
  const shown = { Id: "net1", Name: "net1", Driver: "overlay", Scope: "swarm" };
  const text = prettyNetwork({ ...shown, Internal: false, Labels: null, DataPath: status }, 2_000);
  t.match(text, /h1 +7\/7 +0 services, 0 endpoints +1 locals, 2 routes, 1 vips, 3 backends/);
  t.match(text, /h3: the node has no session/);
  t.equal((await rig.ask("GET", "/swarmd/v1/networks/nowhere")).status, 404);
});

t.test("the API probes all hosts in three phases", async t => {
  const asker = new ScriptedNodes((nodeId, question) => {
    const self = Number(nodeId.slice(1));
    if (question.kind === "probe-open") return {};
    if (question.kind === "probe-run") return probeOf(self, { sealed: null, control: [] });
    return { plain: ALL.filter(index => index !== self), sealed: [] };
  });
  const rig = await managerRig(t, { asker });
  rig.store.put(
    ...[1, 2, 3].map(i => ({ op: "create", table: "nodes", row: nodeRow(i) }) as never),
    { op: "create", table: "nodes", row: nodeRow(4, "down") } as never,
  );
  const reply = await rig.ask("POST", "/swarmd/v1/network-doctor");
  t.equal(reply.status, 200);
  t.match(reply.body, { findings: [{ what: "node" }, { what: "node", from: "h4" }] });
  const kinds = asker.asked.map(([, kind]) => kind);
  t.same(
    kinds,
    [...kinds].sort((a, b) => phase(a) - phase(b)),
    "one after the other",
  );
  t.equal(kinds.length, 9);
});

function phase(kind: NodeQuestion["kind"]): number {
  return ["probe-open", "probe-run", "probe-close"].indexOf(kind);
}

t.test("a node that cannot answer says why", async t => {
  const answers = new Answers(async () => {
    throw new SwarmError("failed_precondition", "no nft");
  });
  const ask = { id: "q1", questionJson: JSON.stringify({ kind: "probe-run" }) };
  t.same(await answers.to(ask), { id: "q1", answerJson: "", error: "no nft" });
  const broken = await answers.to({ id: "q2", questionJson: "{" });
  t.match(broken, { id: "q2", answerJson: "", error: /JSON/ });
  const { promise, resolve } = newDeferred<object>();
  const slow = new Answers(() => promise);
  const held = Array.from({ length: 17 }, (_, i) => slow.to({ ...ask, id: `q${i}` }));
  t.match(await held[16], { id: "q16", error: /too much at once/ });
  resolve({ fine: true });
  t.match(await held[0], { id: "q0", answerJson: '{"fine":true}', error: "" });
});

t.test("a probe that cannot be opened leaves nothing on the host", async t => {
  const ran: string[] = [];
  const commands = {
    run: (command: readonly string[]): Promise<string> => {
      ran.push(command.join(" "));
      return Promise.resolve("");
    },
  };
  const prober = new Prober({
    commands,
    clock: new VirtualClock(),
    logger: silentLogger,
    mesh: () => Promise.resolve(null),
    meshProblem: () => "",
  });
  const self = { nodeId: "n1", index: 1, addr: "10.0.0.1" };
  const plan = { self, others: [], managers: [], encrypted: false, dataPathPort: 4789 };
  // Its commands only pretend, so there is no namespace to open a socket in.
  await t.rejects(prober.open(plan), { message: /cannot open a socket in swdoctor/ });
  t.ok(ran.lastIndexOf("ip netns del swdoctor") > ran.indexOf("ip netns add swdoctor"));
});
