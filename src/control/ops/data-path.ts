import { errorMessage, SwarmError } from "../../base/errors.ts";
import type { NodeQuestion } from "../../model/data-path.ts";
import type { DoctorFinding, NodeOnNetwork } from "../../model/data-path-status.ts";
import { meshOf } from "../../model/mesh.ts";
import { hostnameOf, type Network, type Node } from "../../model/rows.ts";
import type { OperationContext } from "../context.ts";
import {
  diagnose,
  type HostAnswers,
  type ProbedHost,
  type ProbeSetup,
  planProbes,
} from "../core/doctor.ts";
import { findNetwork } from "../core/lookup.ts";
import { meshLaggards } from "../core/mesh-rotation.ts";
import { endpointsOn, nodesOn, problemsOf, servicesOn } from "../core/network-status.ts";
import { decodeHeardReport, decodeNetworkReport, decodeProbeReport } from "../core/node-answers.ts";
import type { OperationArgs, OperationResult } from "../operations.ts";
import type { NodeAsker } from "../ports.ts";
import { clusterOf } from "./swarm.ts";

const REPORT_TIMEOUT_MS = 3_000;
/** Phases of a probe; together below the operation's own limit. */
const OPEN_TIMEOUT_MS = 8_000;
const RUN_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 4_000;

/** A rotation of the mesh's keys takes some seconds. */
const SLOW_ROTATION_MS = 60_000;

export async function networkStatus(
  ctx: OperationContext,
  args: OperationArgs<"network.status">,
): Promise<OperationResult<"network.status">> {
  const network = findNetwork(ctx.view, args.ref);
  const nodes = await Promise.all(
    nodesOn(ctx.view, network).map(node => nodeOnNetwork(ctx, askerOf(ctx), network, node)),
  );
  return {
    id: network.id,
    name: network.spec.Name,
    encrypted: isEncrypted(network),
    subnets: network.subnets.map(({ subnet }) => subnet),
    services: servicesOn(ctx.view, network),
    nodes: nodes.sort((a, b) => (a.hostname < b.hostname ? -1 : 1)),
    inStep: nodes.every(({ problems }) => problems.length === 0),
  };
}

async function nodeOnNetwork(
  ctx: OperationContext,
  asker: NodeAsker,
  network: Network,
  node: Node,
): Promise<NodeOnNetwork> {
  const question: NodeQuestion = { kind: "network", networkId: network.id };
  const answer = await answerOf(ctx, asker, node.id, question, REPORT_TIMEOUT_MS);
  const report = typeof answer === "string" ? answer : decodeNetworkReport(answer.value);
  const sequence = asker.progress(node.id);
  return {
    nodeId: node.id,
    hostname: nameOf(node),
    endpoints: endpointsOn(ctx.view, network, node.id),
    sequence: sequence === null ? null : { sent: sequence.sent, programmed: sequence.programmed },
    report: typeof report === "string" ? null : report,
    problems: problemsOf(sequence, asker.expected(network.id), report),
  };
}

/** A node that does not answer is told of, not waited for: text says why. */
async function answerOf(
  ctx: OperationContext,
  asker: NodeAsker,
  nodeId: string,
  question: NodeQuestion,
  timeoutMs: number,
): Promise<{ readonly value: unknown } | string> {
  try {
    return { value: await asker.ask(nodeId, question, timeoutMs, ctx.signal) };
  } catch (error) {
    ctx.signal.throwIfAborted();
    return errorMessage(error);
  }
}

function askerOf(ctx: OperationContext): NodeAsker {
  if (ctx.asker !== null) return ctx.asker;
  throw new SwarmError("unavailable", "the leader has no sessions with nodes yet; try again");
}

function nameOf(node: Node): string {
  return hostnameOf(node) || node.id;
}

function isEncrypted({ spec }: Network): boolean {
  const options = spec["Options"];
  return typeof options === "object" && options !== null && "encrypted" in options;
}

/** Three phases, each on all hosts: whoever is probed must listen before, and tell after. */
export async function doctor(ctx: OperationContext): Promise<OperationResult<"network.doctor">> {
  const asker = askerOf(ctx);
  return ctx.exclusive(["network doctor"], async () => {
    const { setup, left } = setupOf(ctx);
    const plans = [...planProbes(setup).values()];
    const ask = async (
      nodeId: string,
      question: NodeQuestion,
      timeoutMs: number,
    ): Promise<readonly [string, { readonly value: unknown } | string]> => [
      nodeId,
      await answerOf(ctx, asker, nodeId, question, timeoutMs),
    ];
    const opened = await Promise.all(
      plans.map(plan => ask(plan.self.nodeId, { kind: "probe-open", plan }, OPEN_TIMEOUT_MS)),
    );
    const ready = opened.filter(([, answer]) => typeof answer !== "string");
    const probes = new Map(
      await Promise.all(
        ready.map(([nodeId]) => ask(nodeId, { kind: "probe-run" }, RUN_TIMEOUT_MS)),
      ),
    );
    const heard = new Map(
      await Promise.all(
        ready.map(([nodeId]) => ask(nodeId, { kind: "probe-close" }, CLOSE_TIMEOUT_MS)),
      ),
    );
    const answers = new Map<string, HostAnswers>();
    for (const [nodeId, answer] of opened) {
      const run = typeof answer === "string" ? answer : (probes.get(nodeId) ?? "");
      const closed = heard.get(nodeId);
      answers.set(nodeId, {
        probe: typeof run === "string" ? run : decodeProbeReport(run.value),
        heard: typeof closed === "object" ? decodeHeardReport(closed.value) : null,
      });
    }
    return diagnose(setup, answers, left);
  });
}

/** Who takes part; a node that cannot is a finding of its own. */
function setupOf(ctx: OperationContext): {
  readonly setup: ProbeSetup;
  readonly left: readonly DoctorFinding[];
} {
  const hosts: ProbedHost[] = [];
  const left: DoctorFinding[] = [];
  for (const node of ctx.view.table("nodes").all()) {
    const hostname = nameOf(node);
    const why = absence(node);
    if (why !== null) left.push({ what: "node", from: hostname, to: "", ...why });
    else {
      const addr = node.description?.overlay?.addr ?? "";
      hosts.push({ nodeId: node.id, hostname, index: node.overlayIndex ?? 0, addr });
    }
  }
  left.push(...slowRotation(ctx));
  const members = [...ctx.view.table("members").all()];
  const setup: ProbeSetup = {
    hosts,
    managers: members.map(({ nodeId, addr }) => ({ nodeId, addr })),
    dataPathPort: clusterOf(ctx.view).dataPathPort,
    encrypted: [...ctx.view.table("networks").all()].some(isEncrypted),
  };
  return { setup, left };
}

/** New keys of the mesh that some hosts cannot use. */
function slowRotation(ctx: OperationContext): readonly DoctorFinding[] {
  const mesh = meshOf(clusterOf(ctx.view));
  if (mesh.settled || ctx.nowMs - mesh.startedAtMs < SLOW_ROTATION_MS) return [];
  return meshLaggards(ctx.view, mesh).map(from => ({
    what: "wireguard",
    from,
    to: "",
    problem: `it does not reach every host by generation ${mesh.generation} of the mesh's keys`,
    advice: "let UDP ports 51820 and 51821 pass between all hosts: generations take turns",
  }));
}

function absence(node: Node): Pick<DoctorFinding, "problem" | "advice"> | null {
  if (node.status.state !== "ready") {
    const problem = `the node is ${node.status.state}: ${node.status.message || "no session"}`;
    return { problem, advice: "see that the host and its daemon run and reach the managers" };
  }
  const overlay = node.description?.overlay;
  if (overlay === undefined || overlay.problem !== "") {
    const problem = `overlay networks are off: ${overlay?.problem || "it knows none"}`;
    return { problem, advice: "mend what is named and restart the daemon there" };
  }
  if (node.overlayIndex !== undefined && overlay.addr !== "") return null;
  const problem = "it has no place in the data path yet";
  return { problem, advice: "try again in a moment" };
}
