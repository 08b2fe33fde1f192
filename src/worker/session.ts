import { type Deferred, newDeferred, withSignal } from "../base/async.ts";
import { Backoff } from "../base/backoff.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { type Rng, randomInt } from "../base/rng.ts";
import type { AgentPort } from "../model/assignment.ts";
import type { AskedAddress, NodeRole } from "../model/rows.ts";
import type { DispatcherClient } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import type { AnswerSource } from "./answers.ts";
import type { LeasedAddress } from "./lease-calls.ts";
import { ManagerSession } from "./manager-session.ts";
import type { StatusOutbox } from "./status-outbox.ts";

/** How long a manager may take to say anything, its handshake included; each silence doubles it. */
const WELCOME_TIMEOUT_MS = 3_000;
const MAX_WELCOME_TIMEOUT_MS = 12_000;
/**
 * For the connections that `dial` makes: the beats of a session notice a silent manager sooner than
 * pings of the connection would, and each ping costs both ends as much as a beat. A handshake has as
 * long as the session's patience lasts: one that is given up was work in vain for both ends.
 */
export const SESSION_LIMITS = {
  keepaliveMs: 10 * 60_000,
  handshakeTimeoutMs: MAX_WELCOME_TIMEOUT_MS,
} as const;
const RECONNECT = { baseMs: 100, maxMs: 2_000 };

export interface SessionOptions {
  readonly nodeId: string;
  /** This node's cluster address, for display. */
  readonly addr: string;
}

export interface SessionDeps {
  readonly agent: AgentPort;
  readonly outbox: StatusOutbox;
  /** Absent: the node has no data path to be asked about. */
  readonly answer?: AnswerSource;
  /** A client on a mutually authenticated connection of its own; the session closes it. */
  readonly dial: (addr: string) => DispatcherClient;
  /** Turns a gRPC failure into a SwarmError. */
  readonly toError: (error: unknown) => SwarmError;
  /** Known managers, best first; never empty on a node that has joined. */
  readonly managers: () => readonly string[];
  /** The leader told us where managers are and what our role is now. */
  readonly onManagers: (addrs: readonly string[], role: NodeRole | null, renew: boolean) => void;
  /** The cluster has removed this node. */
  readonly onRemoved: () => void;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** Where a session that ended sends the node, and how far it is to keep apart from others. */
type Outcome = Pick<ManagerSession, "redirectedTo" | "spreadMs" | "wasSilent">;

/**
 * Keeps one session with the leader's dispatcher: finds the leader by redirects, beats, reports
 * statuses until acknowledged, hands assignments to the agent in order. While no manager answers
 * it only tries again; the agent's tasks run on.
 */
export class SessionClient {
  readonly #options: SessionOptions;
  readonly #deps: SessionDeps;
  #leaderHint = "";
  #connectedTo = "";
  /** The manager whose session ended last. */
  #lost = "";
  /** Of the managers asked one after the other, the one that is first. */
  #first = 0;
  #session: ManagerSession | null = null;
  /** Set while this node leaves: no session is opened until it stays after all. */
  #left: Deferred<void> | null = null;
  readonly #opened = newDeferred<void>();

  constructor(options: SessionOptions, deps: SessionDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Address of the manager that serves this node's session; empty when none does. */
  get manager(): string {
    return this.#connectedTo;
  }

  /** Resolves when a session has been open for the first time. */
  whenOpen(signal: AbortSignal): Promise<void> {
    return withSignal(this.#opened.promise, signal);
  }

  /**
   * Tells the manager, if one is there, that this node leaves, waits for its answer a moment, and
   * ends the session until `stay`: nothing new is assigned to a node that is going.
   */
  async sayLeaving(): Promise<void> {
    this.#left ??= newDeferred();
    if (this.#connectedTo !== "") await this.#session?.sayLeaving();
    this.#session?.end();
  }

  /** The node could not leave: it looks for the leader again. */
  stay(): void {
    this.#left?.resolve();
    this.#left = null;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, rng } = this.#deps;
    const backoff = new Backoff(RECONNECT, rng);
    let attempt = 0;
    let silences = 0;
    while (!signal.aborted) {
      if (this.#left !== null) {
        await withSignal(this.#left.promise, signal).catch(() => undefined);
        continue;
      }
      const addr = this.#nextAddr(attempt);
      attempt += 1;
      const outcome = await this.#serve(addr, welcomeTimeoutMs(silences), signal, () => {
        attempt = 0;
        silences = 0;
        backoff.reset();
      });
      if (outcome === "over") break;
      const { redirectedTo, spreadMs, wasSilent } = outcome;
      if (this.#connectedTo !== "") this.#lost = this.#connectedTo;
      else if (wasSilent) silences += 1;
      this.#connectedTo = "";
      this.#deps.outbox.requeue();
      const redirected = redirectedTo !== "" && redirectedTo !== addr;
      this.#leaderHint = redirected ? redirectedTo : "";
      // A leader that is lost is lost to all nodes: they must not come to the next one together.
      const apartMs = randomInt(rng, spreadMs + 1);
      const pauseMs = redirected && attempt <= 2 ? 0 : backoff.nextMs();
      const waitMs = Math.max(apartMs, pauseMs);
      if (waitMs > 0) await sleep(clock, waitMs, signal).catch(() => undefined);
    }
    this.#connectedTo = "";
  }

  /** What the node says of itself has changed: managers need not wait for the next time. */
  describeNow(): void {
    if (this.#connectedTo !== "") this.#session?.describeNow();
  }

  /** An address on an attachable network. Throws `unavailable` while there is no session. */
  lease(networkId: string, asked: AskedAddress): Promise<LeasedAddress> {
    return this.#leader().leases.lease(networkId, asked);
  }

  /** Gives it back. Throws `unavailable` while there is no session. */
  release(taskId: string): Promise<void> {
    return this.#leader().leases.release(taskId);
  }

  /** One session from its start to its end; "over" when there is to be no other. */
  async #serve(
    addr: string,
    welcomeMs: number,
    signal: AbortSignal,
    onOpen: () => void,
  ): Promise<"over" | Outcome> {
    const { toError, logger } = this.#deps;
    let session: ManagerSession | null = null;
    try {
      session = this.#newSession(addr, welcomeMs, onOpen);
      this.#session = session;
      await session.run(signal);
      return session;
    } catch (error) {
      const failure = toError(error);
      if (signal.aborted) return "over";
      logger.debug("session ended", { manager: addr, error: failure.message });
      if (failure.code === "permission_denied" && failure.message.includes("removed")) {
        this.#deps.onRemoved();
        return "over";
      }
      const { spreadMs = 0, wasSilent = false } = session ?? {};
      return { redirectedTo: "", spreadMs, wasSilent };
    }
  }

  #newSession(addr: string, welcomeMs: number, onOpen: () => void): ManagerSession {
    const { dial, logger } = this.#deps;
    const onWelcome = (): void => {
      this.#connectedTo = addr;
      this.#opened.resolve();
      onOpen();
      logger.info("session open", { manager: addr });
    };
    const options = { manager: addr, addr: this.#options.addr, welcomeMs };
    return new ManagerSession(options, { ...this.#deps, client: dial(addr), onWelcome });
  }

  #leader(): ManagerSession {
    if (this.#session !== null && this.#connectedTo !== "") return this.#session;
    throw new SwarmError("unavailable", "no manager answers");
  }

  #nextAddr(attempt: number): string {
    if (this.#leaderHint !== "") return this.#leaderHint;
    const addrs = this.#deps.managers();
    if (addrs.length === 0) throw new SwarmError("failed_precondition", "no manager is known");
    // A leader that is lost is lost to all nodes: they ask the others first, each its own.
    const others = addrs.filter(addr => addr !== this.#lost);
    if (attempt === 0) this.#first = randomInt(this.#deps.rng, Math.max(1, others.length));
    const turned = others.map((_, i) => others[(this.#first + i) % others.length] ?? "");
    const order = others.length < addrs.length ? [...turned, this.#lost] : turned;
    return order[attempt % order.length] ?? "";
  }
}

/**
 * Managers that have too much to do get more of it from a node that gives up and tries again: it
 * waits longer each time, whichever manager it is that says nothing.
 */
function welcomeTimeoutMs(silences: number): number {
  return Math.min(MAX_WELCOME_TIMEOUT_MS, WELCOME_TIMEOUT_MS * 2 ** silences);
}
