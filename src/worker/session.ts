import { type ClientDuplexStream, Metadata } from "@grpc/grpc-js";
import { type Deferred, newDeferred, withSignal } from "../base/async.ts";
import { Backoff } from "../base/backoff.ts";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { type Rng, randomInt } from "../base/rng.ts";
import type { AgentPort, AssignmentChange, LogSubscription } from "../model/assignment.ts";
import type { AskedAddress, NodeRole } from "../model/rows.ts";
import type { TaskState } from "../model/task-state.ts";
import type {
  Assignments,
  DispatcherClient,
  ManagerMessage,
  NodeMessage,
} from "../rpc/gen/swarmd/v1/dispatcher.ts";
import { type AnswerSource, Answers, noAnswers } from "./answers.ts";
import { LogPublisher } from "./log-publisher.ts";
import type { StatusOutbox } from "./status-outbox.ts";

const RECONNECT = { baseMs: 100, maxMs: 2_000 };
/** The Engine waits for it. */
const LEASE_TIMEOUT_MS = 10_000;
/** Silence of the manager, in heartbeats of ours, after which the session is given up. */
const MAX_SILENT_BEATS = 3;
const WELCOME_TIMEOUT_MS = 3_000;
const DESCRIBE_EVERY_MS = 20_000;
/** Statuses that come within this go in one message. */
const STATUS_GATHER_MS = 5;
/** A task is on its way through these and nobody waits for them: the next state will do. */
const PASSING_STATES: ReadonlySet<TaskState> = new Set(["accepted", "preparing", "starting"]);
const PASSING_GATHER_MS = 50;
const LEAVING_WAIT_MS = 1_000;

type Stream = ClientDuplexStream<NodeMessage, ManagerMessage>;

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
  /** A client on a mutually authenticated channel of its own to a manager; closed after use. */
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

/** An address, CIDR, and the row that holds it. */
interface LeasedAddress {
  readonly taskId: string;
  readonly address: string;
}

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
  #session: Session | null = null;
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
    const { clock, rng, logger } = this.#deps;
    const backoff = new Backoff(RECONNECT, rng);
    let attempt = 0;
    while (!signal.aborted) {
      if (this.#left !== null) {
        await withSignal(this.#left.promise, signal).catch(() => undefined);
        continue;
      }
      const addr = this.#nextAddr(attempt);
      attempt += 1;
      const session = new Session(this.#options, this.#deps, addr);
      this.#session = session;
      try {
        await session.run(signal, () => {
          this.#connectedTo = addr;
          this.#opened.resolve();
          attempt = 0;
          backoff.reset();
          logger.info("session open", { manager: addr });
        });
      } catch (error) {
        const failure = this.#deps.toError(error);
        if (signal.aborted) break;
        logger.debug("session ended", { manager: addr, error: failure.message });
        if (failure.code === "permission_denied" && failure.message.includes("removed")) {
          this.#deps.onRemoved();
          break;
        }
      }
      this.#connectedTo = "";
      this.#deps.outbox.requeue();
      const redirected = session.redirectedTo !== "" && session.redirectedTo !== addr;
      this.#leaderHint = redirected ? session.redirectedTo : "";
      if (!redirected || attempt > 2) {
        await sleep(clock, backoff.nextMs(), signal).catch(() => undefined);
      }
    }
    this.#connectedTo = "";
  }

  /** What the node says of itself has changed: managers need not wait for the next time. */
  describeNow(): void {
    if (this.#connectedTo !== "") this.#session?.describeNow();
  }

  /** An address on an attachable network. Throws `unavailable` while there is no session. */
  lease(networkId: string, asked: AskedAddress): Promise<LeasedAddress> {
    return this.#leader().lease(networkId, asked);
  }

  /** Gives it back. Throws `unavailable` while there is no session. */
  release(taskId: string): Promise<void> {
    return this.#leader().release(taskId);
  }

  #leader(): Session {
    if (this.#session !== null && this.#connectedTo !== "") return this.#session;
    throw new SwarmError("unavailable", "no manager answers");
  }

  #nextAddr(attempt: number): string {
    if (this.#leaderHint !== "") return this.#leaderHint;
    const addrs = this.#deps.managers();
    if (addrs.length === 0) throw new SwarmError("failed_precondition", "no manager is known");
    const start = attempt === 0 ? randomInt(this.#deps.rng, addrs.length) : attempt;
    return addrs[start % addrs.length] ?? "";
  }
}

/** One connection to one manager. */
class Session {
  readonly #options: SessionOptions;
  readonly #deps: SessionDeps;
  readonly #addr: string;
  readonly #timers = new Set<Timer>();
  readonly #answers: Answers;
  readonly #ended = newDeferred<void>();
  #answered = newDeferred<void>();
  #client: DispatcherClient | null = null;
  #logs: LogPublisher | null = null;
  #stream: Stream | null = null;
  #applying: Promise<void> = Promise.resolve();
  #gathered: AssignmentChange[] = [];
  #sequence = 0;
  #flushTimer: Timer | null = null;
  #flushDueMs = 0;
  #silenceTimer: Timer | null = null;
  #heartbeats: Timer | null = null;
  #onWelcome: () => void = () => undefined;
  redirectedTo = "";

  constructor(options: SessionOptions, deps: SessionDeps, addr: string) {
    this.#options = options;
    this.#deps = deps;
    this.#addr = addr;
    this.#answers = new Answers(deps.answer ?? noAnswers);
    this.#ended.promise.catch(() => undefined); // It may break before it is waited for.
  }

  async run(signal: AbortSignal, onWelcome: () => void): Promise<void> {
    this.#onWelcome = onWelcome;
    const client = this.#deps.dial(this.#addr);
    this.#client = client;
    this.#logs = new LogPublisher({ agent: this.#deps.agent, client });
    const stream = client.session();
    this.#stream = stream;
    stream.on("data", (message: ManagerMessage) => this.#onMessage(message));
    stream.on("error", (error: Error) => this.#ended.reject(error));
    stream.on("end", () => this.#ended.resolve());
    const onAbort = (): void => this.#ended.resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      // The connection is made while the Engine is asked.
      const descriptionJson = JSON.stringify(await this.#deps.agent.describe());
      this.#expectWithin(WELCOME_TIMEOUT_MS);
      stream.write({
        body: { $case: "hello", value: { descriptionJson, addr: this.#options.addr } },
      });
      await this.#ended.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#close();
      await this.#applying.catch(() => undefined);
    }
  }

  /** Goes out before the heartbeat, whose answer therefore says that it has arrived. */
  async sayLeaving(): Promise<void> {
    this.#answered = newDeferred();
    this.#stream?.write({ body: { $case: "leaving", value: {} } });
    this.#stream?.write({ body: { $case: "heartbeat", value: {} } });
    const waited = sleep(this.#deps.clock, LEAVING_WAIT_MS);
    await Promise.race([this.#answered.promise, waited]);
  }

  lease(networkId: string, asked: AskedAddress): Promise<LeasedAddress> {
    const request = { networkId, ipv6: asked.family === "ipv6", address: asked.address ?? "" };
    return new Promise((resolve, reject) => {
      const deadline = this.#deps.clock.nowMs() + LEASE_TIMEOUT_MS;
      const client = this.#client;
      if (client === null) return reject(new SwarmError("unavailable", "no manager answers"));
      client.leaseAddress(request, new Metadata(), { deadline }, (error, lease) => {
        if (error !== null) reject(this.#deps.toError(error));
        else resolve(lease);
      });
    });
  }

  release(taskId: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const deadline = this.#deps.clock.nowMs() + LEASE_TIMEOUT_MS;
      const client = this.#client;
      if (client === null) return reject(new SwarmError("unavailable", "no manager answers"));
      const lease = { taskId, address: "" };
      client.releaseAddress(lease, new Metadata(), { deadline }, error => {
        if (error !== null) reject(this.#deps.toError(error));
        else resolve();
      });
    });
  }

  describeNow(): void {
    void this.#describe();
  }

  end(): void {
    this.#ended.resolve();
  }

  #close(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#silenceTimer?.cancel();
    this.#deps.outbox.onReport(() => undefined);
    this.#logs?.close();
    this.#answers.close();
    this.#stream?.cancel();
    this.#client?.close();
  }

  #onMessage(message: ManagerMessage): void {
    const body = message.body;
    if (body === undefined) return;
    this.#expectWithin(this.#silenceMs);
    switch (body.$case) {
      case "welcome":
        this.#welcomed(body.value.heartbeatMs);
        return;
      case "assignments":
        this.#onAssignments(body.value);
        return;
      case "statusAck":
        this.#deps.outbox.acknowledge(body.value.sequence);
        return;
      case "logSubscribe":
        this.#logs?.start(JSON.parse(body.value.subscriptionJson) as LogSubscription);
        return;
      case "logUnsubscribe":
        this.#logs?.stop(body.value.id);
        return;
      case "managers":
        this.#deps.onManagers(body.value.addrs, parseRole(body.value.role), body.value.renew);
        return;
      case "redirect":
        this.redirectedTo = body.value.leaderAddr;
        this.#ended.resolve();
        return;
      case "heartbeat":
        this.#answered.resolve();
        return;
      case "ask":
        void this.#answers
          .to(body.value)
          .then(value => this.#stream?.write({ body: { $case: "answer", value } }));
        return;
    }
  }

  #silenceMs = WELCOME_TIMEOUT_MS;

  #expectWithin(ms: number): void {
    this.#silenceTimer?.cancel();
    this.#silenceTimer = this.#deps.clock.setTimer("session-silence", ms, () => {
      this.#ended.reject(new SwarmError("unavailable", `manager ${this.#addr} does not answer`));
    });
  }

  /** The second and later ones only change how often to beat. */
  #welcomed(heartbeatMs: number): void {
    const isFirst = this.#heartbeats === null;
    this.#silenceMs = heartbeatMs * MAX_SILENT_BEATS;
    this.#expectWithin(this.#silenceMs);
    this.#heartbeats?.cancel();
    this.#heartbeats = this.#every("heartbeat", heartbeatMs, () => {
      this.#stream?.write({ body: { $case: "heartbeat", value: {} } });
    });
    if (isFirst) this.#begin();
  }

  #begin(): void {
    this.#onWelcome();
    this.#every("describe", DESCRIBE_EVERY_MS, () => void this.#describe());
    this.#deps.outbox.onReport(({ status }) => {
      this.#scheduleFlush(PASSING_STATES.has(status.state) ? PASSING_GATHER_MS : STATUS_GATHER_MS);
    });
    this.#flush();
  }

  /** Until it is cancelled, or the session ends. */
  #every(name: string, periodMs: number, fn: () => void): Timer {
    let timer: Timer;
    const again = (): void => {
      timer = this.#deps.clock.setTimer(name, periodMs, () => {
        this.#timers.delete(timer);
        again();
        fn();
      });
      this.#timers.add(timer);
    };
    again();
    const cancel = (): void => {
      timer.cancel();
      this.#timers.delete(timer);
    };
    return { cancel };
  }

  async #describe(): Promise<void> {
    try {
      const descriptionJson = JSON.stringify(await this.#deps.agent.describe());
      this.#stream?.write({ body: { $case: "description", value: { descriptionJson } } });
    } catch (error) {
      this.#deps.logger.debug("the Engine did not describe itself", { error: errorMessage(error) });
    }
  }

  /** Every write of the log costs all managers: statuses go together, those that matter soon. */
  #scheduleFlush(withinMs: number): void {
    const { clock } = this.#deps;
    const dueMs = clock.monoMs() + withinMs;
    if (this.#flushTimer !== null) {
      if (this.#flushDueMs <= dueMs) return;
      this.#flushTimer.cancel();
      this.#timers.delete(this.#flushTimer);
    }
    const timer = clock.setTimer("status-flush", withinMs, () => {
      this.#timers.delete(timer);
      this.#flushTimer = null;
      this.#flush();
    });
    this.#flushTimer = timer;
    this.#flushDueMs = dueMs;
    this.#timers.add(timer);
  }

  #flush(): void {
    for (let batch = this.#deps.outbox.take(); batch !== null; batch = this.#deps.outbox.take()) {
      const updatesJson = batch.updates.map(update => JSON.stringify(update));
      this.#stream?.write({
        body: { $case: "statuses", value: { sequence: batch.sequence, updatesJson } },
      });
    }
  }

  /** In order, and a gap ends the session: the next one begins with everything. */
  #onAssignments(message: Assignments): void {
    if (!message.complete && message.appliesTo !== this.#sequence) {
      this.#ended.reject(
        new SwarmError(
          "internal",
          `assignments apply to ${message.appliesTo} but this node is at ${this.#sequence}`,
        ),
      );
      return;
    }
    this.#sequence = message.resultsIn;
    this.#gathered.push(...message.changesJson.map(json => JSON.parse(json) as AssignmentChange));
    if (!message.last) return;
    const changes = this.#gathered;
    this.#gathered = [];
    this.#applying = this.#applying
      .then(() => this.#deps.agent.applyAssignments(changes, message.complete))
      .then(() => {
        this.#sayProgrammed(message.resultsIn).catch((error: unknown) => this.#ended.reject(error));
      })
      .catch((error: unknown) => this.#ended.reject(error));
  }

  /** Tells the leader when the data path has followed: tasks elsewhere wait for it to end. */
  async #sayProgrammed(sequence: number): Promise<void> {
    await this.#deps.agent.programmed();
    this.#stream?.write({ body: { $case: "programmed", value: { sequence } } });
  }
}

function parseRole(text: string): NodeRole | null {
  return text === "manager" || text === "worker" ? text : null;
}
