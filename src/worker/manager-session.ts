import type { ClientDuplexStream } from "@grpc/grpc-js";
import { newDeferred } from "../base/async.ts";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { AgentPort, LogSubscription } from "../model/assignment.ts";
import type { NodeRole } from "../model/rows.ts";
import type {
  DispatcherClient,
  ManagerMessage,
  NodeMessage,
  Welcome,
} from "../rpc/gen/swarmd/v1/dispatcher.ts";
import { type AnswerSource, Answers, noAnswers } from "./answers.ts";
import { AssignmentIntake } from "./assignment-intake.ts";
import { LeaseCalls } from "./lease-calls.ts";
import { LogPublisher } from "./log-publisher.ts";
import { SessionTimers } from "./session-timers.ts";
import type { StatusOutbox } from "./status-outbox.ts";
import { StatusSender } from "./status-sender.ts";

/** Silence of the manager, in heartbeats of ours, after which the session is given up. */
const MAX_SILENT_BEATS = 3;
/** Where nodes beat rarely fewer must do, as long as silence lasts longer than this. */
const MIN_SILENT_BEATS = 2;
const LONG_SILENCE_MS = 8_000;
const DESCRIBE_EVERY_MS = 20_000;
const LEAVING_WAIT_MS = 1_000;

type Stream = ClientDuplexStream<NodeMessage, ManagerMessage>;

export interface ManagerSessionOptions {
  readonly manager: string;
  /** This node's cluster address, for display. */
  readonly addr: string;
  /** How long the manager has for its welcome. */
  readonly welcomeMs: number;
}

export interface ManagerSessionDeps {
  /** On a connection of this session's own, which ends with it. */
  readonly client: DispatcherClient;
  readonly agent: AgentPort;
  readonly outbox: StatusOutbox;
  /** Absent: the node has no data path to be asked about. */
  readonly answer?: AnswerSource;
  readonly toError: (error: unknown) => SwarmError;
  readonly onWelcome: () => void;
  readonly onManagers: (addrs: readonly string[], role: NodeRole | null, renew: boolean) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One session with one manager, from the hello on. */
export class ManagerSession {
  readonly leases: LeaseCalls;
  readonly #options: ManagerSessionOptions;
  readonly #deps: ManagerSessionDeps;
  readonly #timers: SessionTimers;
  readonly #answers: Answers;
  readonly #logs: LogPublisher;
  readonly #statuses: StatusSender;
  readonly #assignments: AssignmentIntake;
  readonly #ended = newDeferred<void>();
  #answered = newDeferred<void>();
  #stream: Stream | null = null;
  #silenceMs: number;
  #silence: Timer | null = null;
  #heartbeats: Timer | null = null;
  /** What the manager was last told of this node. */
  #description = "";
  redirectedTo = "";
  /** The manager has said nothing for too long. */
  wasSilent = false;
  /** Over so long the nodes of this cluster are to spread what they all do at once. */
  spreadMs = 0;

  constructor(options: ManagerSessionOptions, deps: ManagerSessionDeps) {
    this.#options = options;
    this.#silenceMs = options.welcomeMs;
    this.#deps = deps;
    const { agent, client, outbox, clock } = deps;
    this.#timers = new SessionTimers({ clock });
    this.#answers = new Answers(deps.answer ?? noAnswers);
    this.#logs = new LogPublisher({ agent, client });
    this.leases = new LeaseCalls(deps);
    const write = (message: NodeMessage): void => void this.#stream?.write(message);
    this.#statuses = new StatusSender({ outbox, timers: this.#timers, clock, write });
    this.#assignments = new AssignmentIntake({
      agent,
      onProgrammed: sequence => this.#sayProgrammed(sequence),
      onBroken: error => this.#ended.reject(error),
    });
    this.#ended.promise.catch(() => undefined); // It may break before it is waited for.
  }

  /** Until the manager or `end` ends it, or the signal aborts. Rejects when it breaks. */
  async run(signal: AbortSignal): Promise<void> {
    const stream = this.#deps.client.session();
    this.#stream = stream;
    stream.on("data", (message: ManagerMessage) => this.#onMessage(message));
    stream.on("error", (error: Error) => this.#ended.reject(error));
    stream.on("end", () => this.#ended.resolve());
    const onAbort = (): void => this.#ended.resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      // The connection is made while the Engine is asked.
      const descriptionJson = JSON.stringify(await this.#deps.agent.describe());
      this.#description = descriptionJson;
      this.#expectWithin(this.#silenceMs);
      const { addr } = this.#options;
      stream.write({ body: { $case: "hello", value: { descriptionJson, addr } } });
      await this.#ended.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#close();
      await this.#assignments.settle();
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

  /** What the node says of itself may have changed: the manager is told if it has. */
  describeNow(): void {
    void this.#describe();
  }

  end(): void {
    this.#ended.resolve();
  }

  #close(): void {
    this.#timers.close();
    this.#statuses.stop();
    this.#logs.close();
    this.#answers.close();
    this.#stream?.cancel();
    this.#deps.client.close();
  }

  #onMessage(message: ManagerMessage): void {
    const body = message.body;
    if (body === undefined) return;
    this.#expectWithin(this.#silenceMs);
    switch (body.$case) {
      case "welcome":
        this.#welcomed(body.value);
        return;
      case "assignments":
        this.#assignments.take(body.value);
        return;
      case "statusAck":
        this.#deps.outbox.acknowledge(body.value.sequence);
        return;
      case "logSubscribe":
        this.#logs.start(JSON.parse(body.value.subscriptionJson) as LogSubscription);
        return;
      case "logUnsubscribe":
        this.#logs.stop(body.value.id);
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

  #expectWithin(ms: number): void {
    const { manager } = this.#options;
    this.#silence?.cancel();
    this.#silence = this.#timers.after("session-silence", ms, () => {
      this.wasSilent = true;
      this.#ended.reject(new SwarmError("unavailable", `manager ${manager} does not answer`));
    });
  }

  /** The second and later ones only change the pace. */
  #welcomed({ heartbeatMs, spreadMs }: Welcome): void {
    const isFirst = this.#heartbeats === null;
    this.spreadMs = spreadMs;
    const longMs = Math.min(heartbeatMs * MAX_SILENT_BEATS, LONG_SILENCE_MS);
    this.#silenceMs = Math.max(heartbeatMs * MIN_SILENT_BEATS, longMs);
    this.#expectWithin(this.#silenceMs);
    this.#statuses.setSpread(spreadMs);
    this.#heartbeats?.cancel();
    this.#heartbeats = this.#timers.every("heartbeat", heartbeatMs, () => this.#beat());
    if (!isFirst) return;
    this.#deps.onWelcome();
    this.#timers.every("describe", DESCRIBE_EVERY_MS, () => void this.#describe());
    this.#statuses.start();
  }

  #beat(): void {
    const sequence = this.#assignments.takeProgrammed();
    if (sequence !== null) this.#sayProgrammed(sequence);
    this.#stream?.write({ body: { $case: "heartbeat", value: {} } });
  }

  #sayProgrammed(sequence: number): void {
    this.#stream?.write({ body: { $case: "programmed", value: { sequence } } });
  }

  async #describe(): Promise<void> {
    try {
      const descriptionJson = JSON.stringify(await this.#deps.agent.describe());
      if (descriptionJson === this.#description) return;
      this.#description = descriptionJson;
      this.#stream?.write({ body: { $case: "description", value: { descriptionJson } } });
    } catch (error) {
      this.#deps.logger.debug("the Engine did not describe itself", { error: errorMessage(error) });
    }
  }
}

function parseRole(text: string): NodeRole | null {
  return text === "manager" || text === "worker" ? text : null;
}
