import { SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { familyOf } from "../model/ip.ts";
import type { AuditLog } from "./audit-log.ts";
import { judgeRules, type RuleBase } from "./core/listing.ts";
import { namespaceOf } from "./core/names.ts";
import { type NetworkPlan, type PlanFacts, planNetwork, type TunnelConfig } from "./core/plan.ts";
import { diffNetwork, isEmpty, nothingYet, type Programmed } from "./core/program.ts";
import type { OverlayTable } from "./core/table.ts";
import type { OverlayCounters } from "./counters.ts";
import type { DnsServer } from "./dns-server.ts";
import type { Flows } from "./flows.ts";
import { Lane, type LaneDeps } from "./lane.ts";
import type { LocalEndpoint } from "./local-state.ts";
import type { Namespaces } from "./namespaces.ts";

export interface NetworkProgramsDeps extends LaneDeps {
  readonly namespaces: Namespaces;
  readonly flows: Flows;
  readonly table: OverlayTable;
  readonly facts: () => PlanFacts;
  /** Whether a container of this node is on the network. */
  readonly inUse: (networkId: string) => boolean;
  readonly openDns: (networkId: string, gateway: string) => Promise<DnsServer>;
  /** Looks after the containers of a namespace that was found, or made: theirs may be lost. */
  readonly onAdopted: (plan: NetworkPlan) => Promise<void>;
  /** What is programmed of a network has changed. */
  readonly onProgrammed: (networkId: string) => void;
  readonly audits: AuditLog;
  readonly counters: OverlayCounters;
  readonly logger: Logger;
}

interface Program {
  readonly plan: NetworkPlan;
  readonly programmed: Programmed;
  /** What its tables had besides elements when they were loaded. */
  readonly base: RuleBase;
}

/** Keeps the namespace of each network as its plan says. */
export class NetworkPrograms {
  readonly #deps: NetworkProgramsDeps;
  readonly #lanes = new Map<string, Lane>();
  readonly #programs = new Map<string, Program>();
  /** What is there of them is not known: a run is under way, or has failed. */
  readonly #unsure = new Set<string>();
  readonly #dns = new Map<string, DnsServer>();

  constructor(deps: NetworkProgramsDeps) {
    this.#deps = deps;
  }

  /** Networks with a namespace here. */
  ids(): string[] {
    return [...this.#programs.keys()];
  }

  get programmedCount(): number {
    return this.#programs.size;
  }

  planOf(networkId: string): NetworkPlan | null {
    return this.#programs.get(networkId)?.plan ?? null;
  }

  /** What is there as far as it is known; null: no namespace, or what is in it is not known. */
  programmedOf(
    networkId: string,
  ): { readonly plan: NetworkPlan; readonly programmed: Programmed } | null {
    return this.#unsure.has(networkId) ? null : (this.#programs.get(networkId) ?? null);
  }

  /** Resolves when the namespace is as the tables, as of now, want it. */
  sync(networkId: string): Promise<void> {
    let lane = this.#lanes.get(networkId);
    if (lane === undefined) {
      lane = new Lane(networkId, () => this.#counted(networkId), this.#deps);
      this.#lanes.set(networkId, lane);
    }
    return lane.request();
  }

  /** Connects a container with its network. Throws unavailable when the network cannot be made. */
  async plug(endpoint: LocalEndpoint): Promise<void> {
    const { networkId } = endpoint;
    if (this.planOf(networkId) === null) await this.sync(networkId);
    const plan = this.planOf(networkId);
    if (plan === null) {
      throw new SwarmError("unavailable", `network ${networkId} is not ready on this node`);
    }
    await this.#deps.namespaces.plug(plan, endpoint);
  }

  /** Resolves when everything asked for so far is programmed. */
  async settled(): Promise<void> {
    await Promise.all([...this.#lanes.values()].map(lane => lane.settled()));
    await this.#deps.flows.settled();
  }

  /** Why networks are not as they should be, by network. */
  problems(): ReadonlyMap<string, string> {
    const bad = [...this.#lanes].filter(([, lane]) => lane.problem !== "");
    return new Map(bad.map(([id, lane]) => [id, lane.problem]));
  }

  close(): void {
    for (const server of this.#dns.values()) server.close();
    this.#dns.clear();
  }

  /**
   * Compares what is there with what was put there, and puts right what differs. What it cannot
   * read it makes anew. True when something was wrong.
   */
  async audit(networkId: string): Promise<boolean> {
    const program = this.#programs.get(networkId);
    if (program === undefined || this.#unsure.has(networkId)) return false;
    const wrong = await this.#differs(networkId, program);
    // It may have been programmed meanwhile, or be just now: then what was read says nothing.
    const untouched = this.#programs.get(networkId) === program && !this.#unsure.has(networkId);
    if (!untouched) return false;
    this.#deps.audits.looked(networkId, wrong);
    if (wrong === null) return false;
    this.#deps.logger.warn("the data path was changed by other hands: repairing it", {
      network: networkId,
      what: wrong,
    });
    this.#unsure.add(networkId);
    await this.sync(networkId);
    return true;
  }

  async #differs(networkId: string, program: Program): Promise<string | null> {
    const { namespaces } = this.#deps;
    const found = await namespaces.read(program.plan);
    if (found === null) {
      if (!(await namespaces.exists(networkId))) return "its namespace is gone";
      return program.plan.ingress ? "its tunnel or its uplink is gone" : "its tunnel is gone";
    }
    if (!sameTunnel(found.tunnel, program.programmed.tunnel)) return "its tunnel is another";
    const { ipAdd, bridgeAdd, ipDelete } = diffNetwork(
      { ...withoutGateways(found, program.plan), rules: program.programmed.rules },
      program.plan,
      false,
    ).batch;
    if (ipAdd.length + bridgeAdd.length + ipDelete.length > 0) return "routes or neighbours";
    const text = await namespaces.rules(program.plan).catch(() => "");
    if (text === "") return "its rules are gone";
    const { plan, programmed, base } = program;
    return judgeRules(text, programmed.rules, plan.families, base).wrong;
  }

  async #counted(networkId: string): Promise<void> {
    try {
      await this.#sync(networkId);
    } catch (error) {
      this.#deps.counters.failures += 1;
      throw error;
    }
  }

  async #sync(networkId: string): Promise<void> {
    const { table, facts } = this.#deps;
    const plan = planNetwork(table, networkId, facts());
    if (plan === null) return this.#remove(networkId);
    const known = this.#unsure.has(networkId) ? undefined : this.#programs.get(networkId);
    const adopted = known === undefined;
    let programmed = known?.programmed ?? (await this.#adopt(plan));
    this.#unsure.add(networkId);
    if (!sameTunnel(programmed.tunnel, plan.tunnel)) {
      await this.#deps.namespaces.makeTunnel(plan);
      programmed = { ...nothingYet(plan.tunnel), vips: programmed.vips, rules: programmed.rules };
    }
    if (adopted) await this.#deps.onAdopted(plan);
    const { batch, next } = diffNetwork(programmed, plan, adopted);
    if (!isEmpty(batch)) {
      await this.#deps.namespaces.apply(networkId, batch);
      this.#deps.counters.changes += 1;
    }
    this.#deps.flows.forget(networkId, batch.stale);
    const base = known?.base ?? (await this.#baseOf(plan, next));
    this.#programs.set(networkId, { plan, programmed: next, base });
    this.#unsure.delete(networkId);
    await this.#serveNames(plan);
    this.#deps.onProgrammed(networkId);
  }

  /** Right after they were loaded the tables are what they should be. */
  async #baseOf(plan: NetworkPlan, { rules }: Programmed): Promise<RuleBase> {
    const text = await this.#deps.namespaces.rules(plan);
    return judgeRules(text, rules, plan.families, null).base;
  }

  /** What is there, or a namespace just made. */
  async #adopt(plan: NetworkPlan): Promise<Programmed> {
    const { namespaces } = this.#deps;
    const { networkId } = plan;
    if (!(await namespaces.exists(networkId))) {
      this.#closeDns(networkId);
      await namespaces.create(plan);
      if (plan.ingress) await namespaces.makeUplink(plan);
      return nothingYet(plan.tunnel);
    }
    await namespaces.prepare(plan);
    if (plan.ingress && !(await namespaces.hasUplink(networkId))) {
      await namespaces.makeUplink(plan);
    }
    const found = await namespaces.read(plan);
    if (found !== null) return withoutGateways(found, plan);
    await namespaces.makeTunnel(plan);
    return nothingYet(plan.tunnel);
  }

  async #remove(networkId: string): Promise<void> {
    if (this.#deps.inUse(networkId)) return;
    this.#closeDns(networkId);
    this.#programs.delete(networkId);
    this.#deps.audits.forget(networkId);
    await this.#deps.namespaces.remove(networkId);
    this.#deps.onProgrammed(networkId);
  }

  async #serveNames({ networkId, ingress, gateways }: NetworkPlan): Promise<void> {
    const gateway = gateways.find(one => familyOf(one) === "ipv4");
    if (ingress || gateway === undefined || this.#dns.has(networkId)) return;
    this.#dns.set(networkId, await this.#deps.openDns(networkId, gateway));
    this.#deps.logger.info("network is here", { network: namespaceOf(networkId) });
  }

  #closeDns(networkId: string): void {
    this.#dns.get(networkId)?.close();
    this.#dns.delete(networkId);
  }
}

function sameTunnel(a: TunnelConfig, b: TunnelConfig): boolean {
  return (
    a.vni === b.vni &&
    a.index === b.index &&
    a.localAddr === b.localAddr &&
    a.port === b.port &&
    a.mtu === b.mtu
  );
}

function withoutGateways(found: Programmed, { gateways }: NetworkPlan): Programmed {
  return { ...found, vips: new Set([...found.vips].filter(vip => !gateways.includes(vip))) };
}
