import { newMessage, RESPONSE_KINDS } from "../../src/raft/core/message.ts";
import {
  type ConfChange,
  type ConfState,
  EMPTY_CONF_STATE,
  type Message,
  type MessageKind,
  type RaftConfig,
  type RaftId,
  type SnapshotMeta,
} from "../../src/raft/core/types.ts";
import { type Directive, plainNumbers, valuesOf } from "./datadriven.ts";
import {
  describeMessage,
  describeProgress,
  describeReady,
  kindOf,
  parseChanges,
  ROLE_NAMES,
  upstreamOrder,
  V1_CONTEXT,
} from "./etcd-describe.ts";
import { ELECTION_TICKS, ScriptNode } from "./etcd-script-node.ts";

const HEARTBEAT_TICKS = 1;
const UNLIMITED = Number.POSITIVE_INFINITY;
const TRANSITIONS: Readonly<Record<string, ConfChange["transition"]>> = {
  auto: "auto",
  implicit: "joint-implicit",
  explicit: "joint-explicit",
};

/** What scripts may ask for and the core does not have, by design; such directives are skipped. */
const NOT_OFFERED = {
  "async-storage-writes":
    "the core hands out one Ready at a time and is told of its write by advance(); a queue of " +
    "storage messages with several writes in flight cannot be scheduled by hand",
  "read-only=lease-based":
    "reads by lease trust clocks, which a paused process cannot; all reads go through ReadIndex",
} as const;

/** A directive needs something that is not offered; the message says why it is not. */
export class NotOffered extends Error {
  constructor(what: keyof typeof NOT_OFFERED) {
    super(`${what}: ${NOT_OFFERED[what]}`);
  }
}

export class UnknownDirective extends Error {
  constructor(command: string) {
    super(`unknown directive ${command}`);
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
    // The rest is not upstream's.
    "read-index": directive =>
      this.#do(directive, node => node.core.readIndex(directive.args[1]?.key ?? "")),
    "report-snapshot": directive => this.#reportSnapshot(directive),
    _breakpoint: () => [],
  };

  /** What the directive prints, without log lines. Throws NotOffered. */
  run(directive: Directive): string {
    const run = this.#commands[directive.command];
    if (run === undefined) throw new UnknownDirective(directive.command);
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
    if (flag("async-storage-writes")) throw new NotOffered("async-storage-writes");
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
      // Not upstream's.
      maxMessageBytes: limit("max-size-per-msg"),
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

  #reportSnapshot(directive: Directive): readonly string[] {
    const [on = 0, peer = 0] = plainNumbers(directive);
    this.#node(on).core.reportSnapshot(peer, valuesOf(directive, "ok")[0] === "true");
    return [];
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
    return this.#first(directive).core.propose([data]).ok ? [] : ["raft proposal dropped"];
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
  if (node.leaseReads) throw new NotOffered("read-only=lease-based");
  node.core.step(newMessage("forget-leader", {}));
}

function describeState(node: ScriptNode): string {
  const { id, role, conf, term, leaderId } = node.core.status();
  const voter = conf.voters.includes(id) || conf.votersOutgoing.includes(id);
  const kind = voter ? "(Voter)" : "(Non-Voter)";
  return `${id}: ${ROLE_NAMES[role]} ${kind} Term:${term} Lead:${leaderId}`;
}
