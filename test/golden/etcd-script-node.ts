import type { Rng } from "../../src/base/rng.ts";
import { decodeConfChange } from "../../src/raft/core/conf-change-codec.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import {
  EMPTY_CONF_STATE,
  type Entry,
  type HardState,
  type RaftConfig,
  type RaftId,
  type Ready,
  type SnapshotMeta,
} from "../../src/raft/core/types.ts";
import { describeEntries } from "./etcd-describe.ts";

/** What the scripts take for granted. */
export const ELECTION_TICKS = 3;

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
export class ScriptNode {
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
