import { SwarmError } from "../../src/base/errors.ts";
import { dispatcherHandlers } from "../../src/dispatcher/server.ts";
import type { CallContext } from "../../src/rpc/call.ts";
import type { DirectCall, DirectListener } from "../../src/rpc/direct-bidi.ts";
import type {
  DispatcherClient,
  ManagerMessage,
  NodeMessage,
} from "../../src/rpc/gen/swarmd/v1/dispatcher.ts";
import type { SimManager } from "./manager.ts";
import type { HostId, Network } from "./network.ts";
import type { SimProcess } from "./process.ts";

type Listener = (value: never) => void;

/** Where a worker's session goes. */
export interface SessionTarget {
  readonly hostId: HostId;
  readonly manager: SimManager;
}

export interface SessionLinkOptions {
  readonly nodeId: string;
  readonly hostId: HostId;
}

export interface SessionLinkDeps {
  readonly process: SimProcess;
  readonly network: Network;
  /** Null when nobody listens at the address. */
  readonly target: () => SessionTarget | null;
}

/**
 * The stream of one session: the client's half as grpc-js gives it to `SessionClient`, the server's
 * half as `dispatcherHandlers` reads it, and the simulated network between them.
 */
export class SessionLink {
  readonly #options: SessionLinkOptions;
  readonly #deps: SessionLinkDeps;
  readonly #target: SessionTarget | null;
  readonly #listeners = new Map<string, Listener[]>();
  #onMessage: (message: NodeMessage) => void = () => undefined;
  readonly #server = new AbortController();
  readonly #forget: (() => void)[] = [];
  #over = false;

  constructor(options: SessionLinkOptions, deps: SessionLinkDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#target = deps.target();
    if (this.#target === null) {
      deps.process.after(1, () => this.#break());
      return;
    }
    const { process } = this.#target.manager;
    this.#forget.push(
      deps.process.onKill(() => this.#closeServer()),
      process.onKill(() => deps.process.after(1, () => this.#break())),
    );
    this.#toServer(() => this.#serve());
  }

  /** As much of a gRPC client as the session uses. */
  static client(options: SessionLinkOptions, deps: SessionLinkDeps): DispatcherClient {
    const client = { session: () => new SessionLink(options, deps), close: () => undefined };
    return client as unknown as DispatcherClient;
  }

  on(event: string, listener: Listener): void {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  write(message: NodeMessage): boolean {
    if (!this.#over) this.#toServer(() => this.#onMessage(message));
    return true;
  }

  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#toServer(() => this.#closeServer());
  }

  #serve(): void {
    const { manager } = this.#target ?? {};
    if (manager === undefined) return;
    const handlers = dispatcherHandlers({
      dispatcher: () => manager.dispatcher,
      leaderAddr: () => manager.leaderAddr,
    });
    const context = { peer: { nodeId: this.#options.nodeId }, signal: this.#server.signal };
    let over = false;
    let listener: DirectListener<NodeMessage> | null = null;
    const end = (error?: unknown): void => {
      if (over) return;
      over = true;
      this.#toClient(error === undefined ? "end" : "error", error);
      listener?.onEnd();
    };
    const call: DirectCall<ManagerMessage> = {
      backlog: 0,
      send: message => {
        if (!over) this.#toClient("data", message);
      },
      end,
    };
    const opened = handlers.session.open(call, context as CallContext);
    listener = opened;
    this.#onMessage = message => {
      if (!over) opened.onMessage(message);
    };
    this.#server.signal.addEventListener("abort", () => end(), { once: true });
    if (over) opened.onEnd();
  }

  #toServer(fn: () => void): void {
    const target = this.#target;
    if (target === null) return;
    const { hostId, manager } = target;
    const broken = (): void => this.#break();
    this.#deps.network.segment(
      this.#options.hostId,
      hostId,
      () => manager.process.deliver(fn),
      broken,
    );
  }

  #toClient(event: string, value: ManagerMessage | unknown): void {
    const target = this.#target;
    if (target === null) return;
    const deliver = (): void => this.#deps.process.deliver(() => this.#emit(event, value));
    this.#deps.network.segment(target.hostId, this.#options.hostId, deliver, () => this.#break());
  }

  #emit(event: string, value: unknown): void {
    if (this.#over) return;
    if (event !== "data") this.#over = true;
    for (const listener of this.#listeners.get(event) ?? []) listener(value as never);
  }

  /** The connection is lost: each end finds out. */
  #break(): void {
    this.#target?.manager.process.deliver(() => this.#closeServer());
    const error = new SwarmError("unavailable", "the connection was lost");
    this.#deps.process.deliver(() => this.#emit("error", error));
  }

  #closeServer(): void {
    for (const forget of this.#forget.splice(0)) forget();
    this.#server.abort();
  }
}
