import { newDeferred } from "../../src/base/async.ts";
import { SwarmError } from "../../src/base/errors.ts";
import type { Chance } from "./chance.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

export interface NetworkFaults {
  readonly latencyMs: number;
  /** Mean of what comes on top. */
  readonly jitterMs: number;
  readonly lossRate: number;
  readonly duplicateRate: number;
  /** Share of messages that others overtake, by up to `reorderMs`. */
  readonly reorderRate: number;
  readonly reorderMs: number;
}

export const GOOD_NETWORK: NetworkFaults = {
  latencyMs: 0.5,
  jitterMs: 0.5,
  lossRate: 0,
  duplicateRate: 0,
  reorderRate: 0,
  reorderMs: 0,
};

/** A connection to a silent host is given up after this. */
const CONNECTION_TIMEOUT_MS = 3000;
/** A message on a stream waits so long before the next try. */
const RETRANSMIT_MS = 200;
const HOSTS = 1024;

/** Number of a host: managers 1.., workers 101.., 0 the outside world. */
export type HostId = number;

/**
 * The links between hosts, each direction for itself: cut, slow, lossy. Datagram-like messages may
 * be lost, doubled and reordered; calls and streams wait for a cut link and break after a while.
 */
export class Network {
  readonly #world: World;
  readonly #chance: Chance;
  readonly #cuts = new Map<number, number>();
  readonly #slow = new Map<number, number>();
  readonly #lastAtMs = new Map<number, number>();
  /** Hosts among which nothing goes wrong, in the liveness phase. */
  #sane: ReadonlySet<HostId> = new Set();
  readonly faults: NetworkFaults;

  constructor(faults: NetworkFaults, deps: { readonly world: World; readonly chance: Chance }) {
    this.faults = faults;
    this.#world = deps.world;
    this.#chance = deps.chance;
  }

  /** Cuts one direction until the returned undo is called. Cuts add up. */
  cut(from: HostId, to: HostId): () => void {
    return this.#hold(this.#cuts, from * HOSTS + to, 1);
  }

  /** Adds a delay to one direction until the returned undo is called. */
  slow(from: HostId, to: HostId, delayMs: number): () => void {
    return this.#hold(this.#slow, from * HOSTS + to, delayMs);
  }

  /** From now on nothing goes wrong between these hosts. */
  heal(hosts: ReadonlySet<HostId>): void {
    this.#sane = hosts;
  }

  isCut(from: HostId, to: HostId): boolean {
    return !this.#isSane(from, to) && (this.#cuts.get(from * HOSTS + to) ?? 0) > 0;
  }

  /** A message that may be lost, doubled, delayed and reordered. False when it surely is lost. */
  datagram(from: HostId, to: HostId, deliver: () => void): boolean {
    if (this.isCut(from, to)) return false;
    const { lossRate, duplicateRate } = this.#faultsOf(from, to);
    if (this.#chance.is(lossRate)) return true;
    this.#world.after(this.#delayMs(from, to), deliver);
    if (this.#chance.is(duplicateRate)) this.#world.after(this.#delayMs(from, to) * 3, deliver);
    return true;
  }

  /** As a stream delivers: in order, when the link carries it; `onBroken` when it does not. */
  segment(from: HostId, to: HostId, deliver: () => void, onBroken: () => void): void {
    const link = from * HOSTS + to;
    const dueMs = this.#world.nowMs + this.#delayMs(from, to);
    const atMs = Math.max(dueMs, this.#lastAtMs.get(link) ?? 0);
    this.#lastAtMs.set(link, atMs);
    const giveUpAtMs = this.#world.nowMs + CONNECTION_TIMEOUT_MS;
    const attempt = (): void => {
      if (!this.isCut(from, to)) deliver();
      else if (this.#world.nowMs >= giveUpAtMs) onBroken();
      else this.#world.after(RETRANSMIT_MS, attempt);
    };
    this.#world.after(atMs - this.#world.nowMs, attempt);
  }

  /**
   * Runs `work` in the process `callee` and brings its result back to `caller` (null: the outside
   * world). Rejects with unavailable when the link or the process is lost before the answer; what
   * was asked may have been done all the same.
   */
  call<T>(
    ends: { readonly from: HostId; readonly to: HostId },
    processes: { readonly caller: SimProcess | null; readonly callee: SimProcess | null },
    work: () => Promise<T>,
  ): Promise<T> {
    const { from, to } = ends;
    const { caller, callee } = processes;
    const answer = newDeferred<T>();
    const inCaller = (fn: () => void): void => (caller === null ? fn() : caller.deliver(fn));
    const lost = (): void => {
      inCaller(() => answer.reject(new SwarmError("unavailable", "the connection was lost")));
    };
    const back = (fn: () => void): void => this.segment(to, from, () => inCaller(fn), lost);
    this.segment(
      from,
      to,
      () => {
        if (callee?.alive !== true) {
          back(lost);
          return;
        }
        const forget = callee.onKill(() => this.#world.after(RETRANSMIT_MS, lost));
        callee.deliver(() => {
          work().then(
            result => {
              forget();
              back(() => answer.resolve(result));
            },
            (error: unknown) => {
              forget();
              back(() => answer.reject(error));
            },
          );
        });
      },
      lost,
    );
    return answer.promise;
  }

  #hold(table: Map<number, number>, link: number, amount: number): () => void {
    table.set(link, (table.get(link) ?? 0) + amount);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      table.set(link, (table.get(link) ?? 0) - amount);
    };
  }

  #isSane(from: HostId, to: HostId): boolean {
    return this.#sane.has(from) && this.#sane.has(to);
  }

  #faultsOf(from: HostId, to: HostId): NetworkFaults {
    return this.#isSane(from, to) ? GOOD_NETWORK : this.faults;
  }

  #delayMs(from: HostId, to: HostId): number {
    const { latencyMs, jitterMs, reorderRate, reorderMs } = this.#faultsOf(from, to);
    const overtaken = this.#chance.is(reorderRate) ? this.#chance.float(0, reorderMs) : 0;
    const slow = this.#isSane(from, to) ? 0 : (this.#slow.get(from * HOSTS + to) ?? 0);
    return latencyMs + this.#chance.exponential(jitterMs) + overtaken + slow;
  }
}
