import { SwarmError } from "../base/errors.ts";
import {
  type NetworkReport,
  type NodeQuestion,
  type ProgramSummary,
  summarize,
} from "../model/data-path.ts";
import { type AuditLog, HOST_SCOPE } from "./audit-log.ts";
import { type NetworkPlan, type PlanFacts, planNetwork } from "./core/plan.ts";
import type { Programmed } from "./core/program.ts";
import type { OverlayTable } from "./core/table.ts";
import type { Mesh } from "./mesh.ts";
import type { NetworkPrograms } from "./network-programs.ts";
import type { Prober } from "./prober.ts";

export interface ReportsDeps {
  readonly table: OverlayTable;
  readonly programs: NetworkPrograms;
  readonly mesh: Mesh;
  readonly prober: Prober;
  readonly audits: AuditLog;
  readonly facts: () => PlanFacts;
  /** Why there are no overlay networks here; empty: there are. */
  readonly problem: () => string;
}

/** Answers managers' questions about this node's data path. */
export class Reports {
  readonly #deps: ReportsDeps;

  constructor(deps: ReportsDeps) {
    this.#deps = deps;
  }

  /** Throws failed_precondition when the node has no data path. */
  async answer(question: NodeQuestion, signal: AbortSignal): Promise<object> {
    const problem = this.#deps.problem();
    if (problem !== "") throw new SwarmError("failed_precondition", problem);
    const { prober } = this.#deps;
    switch (question.kind) {
      case "network":
        return this.#network(question.networkId);
      case "probe-open":
        return prober.open(question.plan);
      case "probe-run":
        return prober.run(signal);
      case "probe-close":
        return prober.close();
    }
  }

  /** Looks now, instead of telling what the last audit saw. */
  async #network(networkId: string): Promise<NetworkReport> {
    const { table, programs, audits, facts } = this.#deps;
    await programs.audit(networkId);
    const rows = table.network(networkId);
    const wanted = planNetwork(table, networkId, facts());
    const now = programs.programmedOf(networkId);
    const own = audits.of(networkId);
    const host = wanted?.ingress === true ? audits.of(HOST_SCOPE) : { repairs: 0, findings: [] };
    return {
      problem: this.#problemOf(networkId),
      told: rows === undefined ? null : summarize(rows.services.values(), rows.endpoints.values()),
      wanted: wanted === null ? null : ofPlan(wanted),
      programmed: now === null ? null : ofProgrammed(now.plan, now.programmed),
      auditedAtMs: own.auditedAtMs,
      repairs: own.repairs + host.repairs,
      findings: [...own.findings, ...host.findings].sort((a, b) => a.atMs - b.atMs),
    };
  }

  #problemOf(networkId: string): string {
    const { table, programs, mesh } = this.#deps;
    const encrypted = table.network(networkId)?.network.encrypted === true;
    if (encrypted && mesh.problem !== "") return `this node cannot encrypt: ${mesh.problem}`;
    return programs.problems().get(networkId) ?? "";
  }
}

function ofPlan(plan: NetworkPlan): ProgramSummary {
  const ports = [...plan.ports.values()].map(({ backends }) => backends);
  const served = [...plan.vips.values(), ...ports];
  return {
    hosts: plan.peers.size,
    routes: plan.routes.size,
    locals: plan.locals.size,
    vips: plan.vips.size,
    ports: plan.ports.size,
    backends: served.reduce((sum, backends) => sum + backends.length, 0),
  };
}

function ofProgrammed(plan: NetworkPlan, now: Programmed): ProgramSummary {
  const { ipv4, ipv6 } = now.rules;
  const slots = [...ipv4.slots.values(), ...ipv6.slots.values()];
  return {
    hosts: now.peers.size,
    routes: now.routes.size,
    locals: plan.ingress ? plan.locals.size : ipv4.self.size + ipv6.self.size,
    vips: now.vips.size,
    ports: plan.ingress ? ipv4.slots.size : 0,
    backends: slots.reduce((sum, list) => sum + list.length, 0),
  };
}
