import { createSocket } from "node:dgram";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import type { Clock, Timer } from "../base/clock.ts";

/** Each name server is given so long before the next one is asked. */
const TRY_TIMEOUT_MS = 2_500;
const MAX_SERVERS = 3;
/** Queries on their way at once; more are refused, so that a flood here is none elsewhere. */
const MAX_IN_FLIGHT = 1_024;
const DNS_PORT = 53;
const RESOLV_CONF = "/etc/resolv.conf";
/** How long what the file says is believed. */
const CONF_MAX_AGE_MS = 5_000;
const LENGTH_BYTES = 2;

type Transport = "udp" | "tcp";

/** Passes queries on to the name servers of the host, or of a container's own choice. */
export class Upstream {
  readonly #port: number;
  readonly #clock: Clock;
  #inFlight = 0;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #hosts: readonly string[] = [];

  constructor(options: { readonly port?: number }, deps: { readonly clock: Clock }) {
    this.#port = options.port ?? DNS_PORT;
    this.#clock = deps.clock;
  }

  /** The host's own name servers. */
  async nameservers(): Promise<readonly string[]> {
    const nowMs = this.#clock.monoMs();
    if (nowMs - this.#readAtMs < CONF_MAX_AGE_MS) return this.#hosts;
    this.#readAtMs = nowMs;
    const text = await readFile(RESOLV_CONF, "utf8").catch(() => "");
    this.#hosts = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(match => match[1] ?? "");
    return this.#hosts;
  }

  /** The answer as it came; null when none of `servers` gave one. "host" stands for the host's. */
  async ask(
    message: Uint8Array,
    transport: Transport,
    servers: readonly string[],
  ): Promise<Uint8Array | null> {
    if (this.#inFlight >= MAX_IN_FLIGHT) return null;
    this.#inFlight += 1;
    try {
      const named = servers.includes(HOST_SERVERS) ? await this.nameservers() : servers;
      for (const server of named.slice(0, MAX_SERVERS)) {
        const answer =
          transport === "udp"
            ? await this.#byDatagram(message, server)
            : await this.#byStream(message, server);
        if (answer !== null) return answer;
      }
      return null;
    } finally {
      this.#inFlight -= 1;
    }
  }

  #byDatagram(message: Uint8Array, server: string): Promise<Uint8Array | null> {
    return new Promise(resolve => {
      const socket = createSocket(server.includes(":") ? "udp6" : "udp4");
      let over = false;
      const done = (answer: Uint8Array | null): void => {
        if (over) return;
        over = true;
        timer.cancel();
        socket.removeAllListeners();
        socket.on("error", () => undefined);
        socket.close();
        resolve(answer);
      };
      const timer: Timer = this.#clock.setTimer("dns", TRY_TIMEOUT_MS, () => done(null));
      socket.on("error", () => done(null));
      socket.on("message", (answer, from) => {
        const isReply = answer[0] === message[0] && answer[1] === message[1];
        if (isReply && from.address === server && from.port === this.#port) done(answer);
      });
      socket.send(message, this.#port, server, error => {
        if (error !== null) done(null);
      });
    });
  }

  #byStream(message: Uint8Array, server: string): Promise<Uint8Array | null> {
    return new Promise(resolve => {
      const socket = connect(this.#port, server);
      let gathered = Buffer.alloc(0);
      const done = (answer: Uint8Array | null): void => {
        timer.cancel();
        socket.destroy();
        resolve(answer);
      };
      const timer: Timer = this.#clock.setTimer("dns", TRY_TIMEOUT_MS, () => done(null));
      socket.on("error", () => done(null));
      socket.on("close", () => done(null));
      socket.on("data", (chunk: Buffer) => {
        gathered = Buffer.concat([gathered, chunk]);
        if (gathered.length < LENGTH_BYTES) return;
        const end = LENGTH_BYTES + gathered.readUInt16BE(0);
        if (gathered.length >= end) done(gathered.subarray(LENGTH_BYTES, end));
      });
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt16BE(message.length);
      socket.write(Buffer.concat([length, message]));
    });
  }
}

/** Among name servers: those that the host itself asks. */
export const HOST_SERVERS = "host";
