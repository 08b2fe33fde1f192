import type { Rng } from "../../src/base/rng.ts";
import { decodeConfChange } from "../../src/raft/core/conf-change-codec.ts";
import { newMessage, RESPONSE_KINDS } from "../../src/raft/core/message.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import {
  type ConfChange,
  type ConfState,
  EMPTY_CONF_STATE,
  type Entry,
  type HardState,
  type Message,
  type MessageKind,
  type RaftConfig,
  type RaftId,
  type Ready,
  type SnapshotMeta,
} from "../../src/raft/core/types.ts";
import { type Directive, plainNumbers, valuesOf } from "./datadriven.ts";
import {
  describeEntries,
  describeMessage,
  describeProgress,
  describeReady,
  kindOf,
  parseChanges,
  ROLE_NAMES,
  upstreamOrder,
  V1_CONTEXT,
} from "./etcd-describe.ts";

const ELECTION_TICKS = 3;
const HEARTBEAT_TICKS = 1;
const UNLIMITED = Number.POSITIVE_INFINITY;
const TRANSITIONS: Readonly<Record<string, ConfChange["transition"]>> = {
  auto: "auto",
  implicit: "joint-implicit",
  explicit: "joint-explicit",
};

/** A script asks for something the core does not have, by design. */
export class NotOffered extends Error {}

/** Draws the longest election timeout, unless the script has set one. */
class ScriptedRng implements Rng {
  #timeoutTicks: number | null = null;

  set(timeoutTicks: number): void {
    this.#timeoutTicks = timeoutTicks;
  }

  uint32(): number {
    const extra = (this.#timeoutTicks ?? 2 * ELECTION_TICKS - 1) - ELECTION_TICKS;
    this.#timeoutTicks = null;
    return Math.floor(((extra + 0.5) / ELECTION_TICKS) * 0x1_0000_0000);
  }
}

interface NodeOptions {
  readonly config: RaftConfig;
  readonly snapshot: SnapshotMeta | null;
  readonly leaseReads: boolean;
}

/** A node, its disk, and the snapshot of its newest state, which is always at hand. */
class ScriptNode {
  readonly id: RaftId;
  readonly core: RaftCore;
  readonly rng = new ScriptedRng();
  readonly leaseReads: boolean;
  latest: SnapshotMeta;
  #firstIndex: number;
  #entries: readonly Entry[] = [];

  constructor({ config, snapshot, leaseReads }: NodeOptions) {
    this.id = config.id;
    this.leaseReads = leaseReads;
    this.latest = snapshot ?? { index: 0, term: 0, conf: EMPTY_CONF_STATE };
    this.#firstIndex = this.latest.index + 1;
    const hardState: HardState = { term: 0, vote: 0, commit: this.latest.index };
    const { conf, index } = this.latest;
    this.core = new RaftCore(config, {
      rng: this.rng,
      initial: { hardState, conf, snapshot, entries: [], applied: index },
    });
  }

  write({ snapshot, entries }: Ready): void {
    if (snapshot !== null) {
      this.latest = snapshot;
      this.#firstIndex = snapshot.index + 1;
      this.#entries = [];
    }
    const first = entries[0];
    if (first === undefined) return;
    this.#entries = [...this.#entries.filter(({ index }) => index < first.index), ...entries];
  }

  apply(entries: readonly Entry[]): void {
    for (const { index, term, kind, data } of entries) {
      let { conf } = this.latest;
      if (kind === "conf-change") conf = this.core.applyConfChange(decodeConfChange(data));
      this.latest = { index, term, conf };
      this.core.compact(this.latest, this.#firstIndex);
    }
  }

  compact(index: number): void {
    this.#entries = this.#entries.filter(entry => entry.index > index);
    this.#firstIndex = index + 1;
    this.core.compact(this.latest, this.#firstIndex);
  }

  describeLog(): readonly string[] {
    const last = this.#entries.at(-1)?.index ?? this.#firstIndex - 1;
    if (this.#entries.length > 0) return describeEntries(this.#entries);
    return [`log is empty: first index=${this.#firstIndex}, last index=${last}`];
  }

  isMember(id: RaftId): boolean {
    const { voters, votersOutgoing, learners } = this.core.status().conf;
    return [voters, votersOutgoing, learners].some(ids => ids.includes(id));
  }
}

interface Recipient {
  readonly id: RaftId;
  readonly drop: boolean;
}

type Run = (directive: Directive) => readonly string[];

/** A cluster that a script moves by hand: nothing is delivered, written or ticked by itself. */
export class InteractionScript {
  readonly #nodes: ScriptNode[] = [];
  #messages: Message[] = [];
  #quiet = false;
  readonly #commands: Readonly<Record<string, Run>> = {
    "add-nodes": directive => this.#addNodes(directive),
    campaign: directive => this.#do(directive, node => node.core.campaign()),
    compact: directive => this.#compact(directive),
    "deliver-msgs": directive => this.#deliverMsgs(directive),
    "process-ready": directive => this.#processReadies(directive),
    "log-level": directive => this.#logLevel(directive.args[0]?.key ?? ""),
    "raft-log": directive => this.#first(directive).describeLog(),
    "raft-state": () => this.#nodes.map(describeState),
    "set-randomized-election-timeout": directive =>
      this.#do(directive, node => node.rng.set(Number(valuesOf(directive, "timeout")[0]))),
    stabilize: directive => this.#stabilizeAll(directive),
    status: directive => this.#first(directive).core.status().progress.map(describeProgress),
    "tick-election": directive => this.#do(directive, node => tick(node, ELECTION_TICKS)),
    "tick-heartbeat": directive => this.#do(directive, node => tick(node, HEARTBEAT_TICKS)),
    "transfer-leadership": directive => this.#transfer(directive),
    "forget-leader": directive => this.#do(directive, forgetLeader),
    "send-snapshot": directive => this.#sendSnapshot(directive),
    propose: directive => this.#propose(directive),
    "propose-conf-change": directive => this.#proposeConfChange(directive),
    "report-unreachable": directive => {
      const [on = 0, peer = 0] = plainNumbers(directive);
      this.#node(on).core.reportUnreachable(peer);
      return [];
    },
    _breakpoint: () => [],
  };

  /** What the directive prints, without log lines. Throws NotOffered. */
  run(directive: Directive): string {
    const run = this.#commands[directive.command];
    if (run === undefined) return "unknown command";
    const lines = run(directive);
    return this.#quiet ? "" : lines.join("\n");
  }

  #node(id: RaftId): ScriptNode {
    const node = this.#nodes[id - 1];
    if (node === undefined) throw new Error(`no node ${id}`);
    return node;
  }

  #first(directive: Directive): ScriptNode {
    return this.#node(Number(directive.args[0]?.key));
  }

  #do(directive: Directive, action: (node: ScriptNode) => void): readonly string[] {
    action(this.#first(directive));
    return [];
  }

  #logLevel(level: string): readonly string[] {
    this.#quiet = level.toLowerCase() === "none";
    return [];
  }

  #addNodes(directive: Directive): readonly string[] {
    const flag = (key: string): boolean => valuesOf(directive, key)[0] === "true";
    if (flag("async-storage-writes")) {
      throw new NotOffered("the core hands out one Ready at a time; its disk is never a message");
    }
    const count = Number(directive.args[0]?.key);
    const ids = (key: string): readonly RaftId[] => valuesOf(directive, key).map(Number);
    const conf: ConfState = {
      ...EMPTY_CONF_STATE,
      voters: ids("voters"),
      learners: ids("learners"),
    };
    const index = Number(valuesOf(directive, "index")[0] ?? 0);
    const snapshot: SnapshotMeta | null = index === 0 ? null : { index, term: 1, conf };
    const leaseReads = valuesOf(directive, "read-only")[0] === "lease-based";
    for (let i = 0; i < count; i += 1) {
      const config = this.#config(directive, this.#nodes.length + 1);
      this.#nodes.push(new ScriptNode({ config, snapshot, leaseReads }));
    }
    return [];
  }

  #config(directive: Directive, id: RaftId): RaftConfig {
    const flag = (key: string): boolean => valuesOf(directive, key)[0] === "true";
    const limit = (key: string): number => {
      const value = Number(valuesOf(directive, key)[0] ?? 0);
      return value === 0 ? UNLIMITED : value;
    };
    return {
      id,
      electionTicks: ELECTION_TICKS,
      heartbeatTicks: HEARTBEAT_TICKS,
      preVote: flag("prevote"),
      checkQuorum: flag("checkquorum"),
      maxMessageBytes: UNLIMITED,
      maxInflightMessages: limit("inflight"),
      maxInflightBytes: UNLIMITED,
      maxUncommittedBytes: UNLIMITED,
      maxCommittedBytes: limit("max-committed-size-per-ready"),
      maxEntryBytes: UNLIMITED,
      stepDownOnRemoval: flag("step-down-on-removal"),
      validateConfChanges: !flag("disable-conf-change-validation"),
    };
  }

  #compact(directive: Directive): readonly string[] {
    const [id = 0, index = 0] = plainNumbers(directive);
    const node = this.#node(id);
    node.compact(index);
    return node.describeLog();
  }

  #transfer(directive: Directive): readonly string[] {
    const from = Number(valuesOf(directive, "from")[0]);
    const to = Number(valuesOf(directive, "to")[0]);
    this.#node(from).core.transferLeadership(to);
    return [];
  }

  #sendSnapshot(directive: Directive): readonly string[] {
    const [from = 0, to = 0] = plainNumbers(directive);
    const node = this.#node(from);
    const { term } = node.core.status();
    const message = newMessage("snap", { from, to, term, snapshot: node.latest });
    this.#messages.push(message);
    return describeMessage(message);
  }

  #propose(directive: Directive): readonly string[] {
    const data = new TextEncoder().encode(directive.args[1]?.key ?? "");
    const result = this.#first(directive).core.propose([data]);
    return result.ok ? [] : ["raft proposal dropped"];
  }

  /** Upstream puts an empty entry in the log instead of a change that it refuses. */
  #proposeConfChange(directive: Directive): readonly string[] {
    const v1 = valuesOf(directive, "v1")[0] === "true";
    const transition = TRANSITIONS[valuesOf(directive, "transition")[0] ?? "auto"];
    if (transition === undefined) throw new Error("unknown transition");
    const changes = parseChanges(directive.input);
    const { core } = this.#first(directive);
    const context = v1 ? V1_CONTEXT : new Uint8Array();
    const result = core.proposeConfChange({ transition, changes, context });
    if (result.ok) return [];
    const refused =
      result.reason === "conf-change-pending" || result.reason === "conf-change-invalid";
    if (refused && core.propose([new Uint8Array()]).ok) return [];
    return ["raft proposal dropped"];
  }

  #processReadies(directive: Directive): readonly string[] {
    const ids = plainNumbers(directive);
    return ids.flatMap(id => {
      const lines = this.#processReady(this.#node(id));
      return ids.length > 1 ? titled(`> ${id} handling Ready`, lines) : lines;
    });
  }

  #processReady(node: ScriptNode): readonly string[] {
    const ready = node.core.ready();
    const lines = describeReady(ready);
    if (ready === null) return lines;
    node.write(ready);
    node.apply(ready.committed);
    this.#messages.push(...upstreamOrder(ready));
    node.core.advance(ready);
    const last = ready.committed.at(-1);
    if (last !== undefined) node.core.applied(last.index);
    return lines;
  }

  #deliverMsgs(directive: Directive): readonly string[] {
    const recipients: Recipient[] = [];
    for (const { key, values } of directive.args) {
      if (values.length === 0) recipients.push({ id: Number(key), drop: false });
      if (key === "drop") recipients.push(...values.map(id => ({ id: Number(id), drop: true })));
    }
    const type = valuesOf(directive, "type")[0];
    const kind = type === undefined ? null : kindOf(type);
    const lines = recipients.flatMap(recipient => this.#deliver(recipient, kind));
    return lines.length === 0 ? ["no messages"] : lines;
  }

  #deliver({ id, drop }: Recipient, kind: MessageKind | null): readonly string[] {
    const chosen = (message: Message): boolean =>
      message.to === id && (kind === null || message.kind === kind);
    const messages = this.#messages.filter(chosen);
    this.#messages = this.#messages.filter(message => !chosen(message));
    return messages.flatMap(message => {
      const [head = "", ...rest] = describeMessage(message);
      if (drop) return [`dropped: ${head}`, ...rest];
      const node = this.#node(id);
      const stranger = RESPONSE_KINDS.has(message.kind) && !node.isMember(message.from);
      node.core.step(message);
      return [head, ...rest, ...(stranger ? ["raft: cannot step as peer not found"] : [])];
    });
  }

  #stabilizeAll(directive: Directive): readonly string[] {
    const quiet = this.#quiet;
    const level = valuesOf(directive, "log-level")[0];
    if (level !== undefined) this.#logLevel(level);
    const ids = plainNumbers(directive);
    const nodes = ids.length === 0 ? this.#nodes : ids.map(id => this.#node(id));
    const lines = this.#stabilize(nodes);
    const shown = this.#quiet ? [] : lines;
    this.#quiet = quiet;
    return shown;
  }

  #stabilize(nodes: readonly ScriptNode[]): readonly string[] {
    const all: string[] = [];
    for (;;) {
      const round: string[] = [];
      for (const node of nodes) {
        const lines = this.#processReady(node);
        if (lines[0] === "<empty Ready>") continue;
        round.push(...titled(`> ${node.id} handling Ready`, lines));
      }
      for (const node of nodes) {
        const lines = this.#deliver({ id: node.id, drop: false }, null);
        if (lines.length > 0) round.push(...titled(`> ${node.id} receiving messages`, lines));
      }
      if (round.length === 0) return all;
      all.push(...round);
    }
  }
}

function titled(title: string, lines: readonly string[]): readonly string[] {
  return [title, ...lines.map(line => `  ${line}`)];
}

function tick(node: ScriptNode, ticks: number): void {
  for (let i = 0; i < ticks; i += 1) node.core.tick();
}

function forgetLeader(node: ScriptNode): void {
  if (node.leaseReads) {
    throw new NotOffered("reads by lease are not offered: they trust clocks (ReadIndex does not)");
  }
  node.core.step(newMessage("forget-leader", {}));
}

function describeState(node: ScriptNode): string {
  const { id, role, conf, term, leaderId } = node.core.status();
  const voter = conf.voters.includes(id) || conf.votersOutgoing.includes(id);
  const kind = voter ? "(Voter)" : "(Non-Voter)";
  return `${id}: ${ROLE_NAMES[role]} ${kind} Term:${term} Lead:${leaderId}`;
}
