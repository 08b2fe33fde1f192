import {
  type HeardReport,
  MAX_PROBE_HOSTS,
  type ProbePlan,
  type ProbeReport,
  type ProbeTarget,
  type WayReport,
} from "../../model/data-path.ts";
import type { DoctorFinding, DoctorReport, ProbedThing } from "../../model/data-path-status.ts";

/** Judges what nodes found when they probed the ways to each other. Pure. */

export const MAX_FINDINGS = 500;
/** UDP ports of the encrypted mesh: generations of its keys take turns. */
const MESH_PORTS = "51820 and 51821";

export interface ProbedHost extends ProbeTarget {
  readonly hostname: string;
}

export interface ProbeSetup {
  readonly hosts: readonly ProbedHost[];
  readonly managers: ProbePlan["managers"];
  readonly dataPathPort: number;
  readonly encrypted: boolean;
}

/** Each host's part: the others in the order of the ring, since it may send to the first only. */
export function planProbes(setup: ProbeSetup): ReadonlyMap<string, ProbePlan> {
  const { managers, dataPathPort, encrypted } = setup;
  const sorted = [...setup.hosts].sort((a, b) => a.index - b.index);
  const ring = sorted.slice(0, MAX_PROBE_HOSTS).map(targetOf);
  return new Map(
    ring.map((self, at) => {
      const others = [...ring.slice(at + 1), ...ring.slice(0, at)];
      return [self.nodeId, { self, others, managers, dataPathPort, encrypted }];
    }),
  );
}

function targetOf({ nodeId, index, addr }: ProbedHost): ProbeTarget {
  return { nodeId, index, addr };
}

/** What one host said; strings say why it said nothing. */
export interface HostAnswers {
  readonly probe: ProbeReport | string;
  readonly heard: HeardReport | null;
}

interface Verdicts {
  readonly findings: DoctorFinding[];
  readonly ways: Map<ProbedThing, { tried: number; open: number }>;
}

/** One line for each way that is not as it should be, with what to do about it. */
export function diagnose(
  setup: ProbeSetup,
  answers: ReadonlyMap<string, HostAnswers>,
  left: readonly DoctorFinding[],
): DoctorReport {
  const verdicts: Verdicts = { findings: [...left], ways: new Map() };
  const plans = planProbes(setup);
  for (const host of setup.hosts) {
    const answer = answers.get(host.nodeId);
    const plan = plans.get(host.nodeId);
    if (answer === undefined || plan === undefined) continue;
    if (typeof answer.probe === "string") {
      verdicts.findings.push({
        what: "node",
        from: host.hostname,
        to: "",
        problem: `it could not probe: ${answer.probe}`,
        advice: "look at the daemon's log on that host",
      });
      continue;
    }
    judgeControl(setup, host, answer.probe, verdicts);
    judgeWays(setup, host, answer.probe, answers, verdicts);
  }
  const isProbed = (nodeId: string): boolean => typeof answers.get(nodeId)?.probe === "object";
  return {
    hosts: setup.hosts.map(({ nodeId, hostname, addr }) => ({
      ...{ nodeId, hostname, addr },
      probed: isProbed(nodeId),
    })),
    ways: [...verdicts.ways].map(([what, counts]) => ({ what, ...counts })),
    findings: verdicts.findings.slice(0, MAX_FINDINGS),
    moreFindings: Math.max(0, verdicts.findings.length - MAX_FINDINGS),
  };
}

function tried({ ways }: Verdicts, what: ProbedThing, isOpen: boolean): void {
  const counts = ways.get(what) ?? { tried: 0, open: 0 };
  ways.set(what, { tried: counts.tried + 1, open: counts.open + Number(isOpen) });
}

function judgeControl(
  setup: ProbeSetup,
  host: ProbedHost,
  probe: ProbeReport,
  verdicts: Verdicts,
): void {
  for (const { nodeId, addr } of setup.managers) {
    const found = probe.control.find(one => one.nodeId === nodeId);
    if (found === undefined) continue;
    tried(verdicts, "control", found.problem === "");
    if (found.problem === "") continue;
    const manager = setup.hosts.find(one => one.nodeId === nodeId);
    verdicts.findings.push({
      what: "control",
      from: host.hostname,
      to: manager?.hostname ?? addr,
      problem: `no connection to ${addr}: ${found.problem}`,
      advice: `open TCP port ${addr.slice(addr.lastIndexOf(":") + 1)} of the manager for all nodes`,
    });
  }
}

function judgeWays(
  setup: ProbeSetup,
  host: ProbedHost,
  probe: ProbeReport,
  answers: ReadonlyMap<string, HostAnswers>,
  verdicts: Verdicts,
): void {
  if (probe.sealedProblem !== "") {
    verdicts.findings.push({
      what: "wireguard",
      from: host.hostname,
      to: "",
      problem: `it takes no part in encrypted networks: ${probe.sealedProblem}`,
      advice: "install wireguard-tools and a kernel with WireGuard, or wireguard-go",
    });
  }
  const way = (ways: readonly WayReport[], index: number): number =>
    ways.find(one => one.index === index)?.reachedBytes ?? 0;
  for (const other of setup.hosts) {
    const there = answers.get(other.nodeId);
    // One that took no part was not listening.
    if (other.nodeId === host.nodeId || typeof there?.probe !== "object") continue;
    if (!probe.plain.some(({ index }) => index === other.index)) continue;
    const reached = way(probe.plain, other.index);
    const arrived = reached > 0 || (there.heard?.plain.includes(host.index) ?? false);
    tried(verdicts, "vxlan", arrived);
    if (!arrived) verdicts.findings.push(blocked(setup.dataPathPort, host, other));
    if (reached > 0) judgeSize(host, other, reached, probe, verdicts);
    if (probe.sealed === null || there.probe.sealed === null) continue;
    const sealed = way(probe.sealed, other.index) > 0;
    const heard = there.heard?.sealed.includes(host.index) ?? false;
    tried(verdicts, "wireguard", sealed || heard);
    if (!sealed && !heard) verdicts.findings.push(unsealed(host, other));
  }
}

function blocked(port: number, from: ProbedHost, to: ProbedHost): DoctorFinding {
  return {
    what: "vxlan",
    from: from.hostname,
    to: to.hostname,
    problem: `no packet to ${to.addr} UDP port ${port} arrives`,
    advice:
      `let UDP port ${port} pass from ${from.addr} to ${to.addr} in the firewalls of both hosts ` +
      "and of the network between them (RFC 7348)",
  };
}

function unsealed(from: ProbedHost, to: ProbedHost): DoctorFinding {
  return {
    what: "wireguard",
    from: from.hostname,
    to: to.hostname,
    problem: `no packet to ${to.addr} by the encrypted mesh arrives`,
    advice:
      `let UDP ports ${MESH_PORTS} pass between ${from.addr} and ${to.addr}, both ways, ` +
      "and look at `wg show` on both hosts",
  };
}

function judgeSize(
  from: ProbedHost,
  to: ProbedHost,
  reached: number,
  { triedBytes, underlayMtu }: ProbeReport,
  verdicts: Verdicts,
): void {
  tried(verdicts, "mtu", reached >= triedBytes);
  if (reached >= triedBytes) return;
  verdicts.findings.push({
    what: "mtu",
    from: from.hostname,
    to: to.hostname,
    problem:
      `packets of up to ${reached} bytes pass to ${to.addr}, ` +
      `but the interface with ${from.addr} sends up to ${underlayMtu}`,
    advice:
      `set the MTU of that interface to ${reached} and restart swarmd there ` +
      `(ip link set dev INTERFACE mtu ${reached}), or mend the path`,
  });
}
