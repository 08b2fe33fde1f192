import type { RemoteInfo } from "node:dgram";
import type { Socket } from "node:net";
import type { Clock } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import {
  type Answer,
  encodeAnswer,
  parseQuery,
  type Query,
  RCODE,
  reverseAddress,
  TYPE,
} from "./core/dns-message.ts";
import type { DnsSockets } from "./dns-sockets.ts";
import type { Upstream } from "./dns-upstream.ts";

/** A client that says nothing for so long is done. */
const TCP_IDLE_MS = 10_000;
const MAX_TCP_CLIENTS = 256;
const LENGTH_BYTES = 2;
/** Addresses of the data path's own, and link-local ones: nobody else has names for them. */
const LOCAL_PREFIXES = ["169.254.", "fe80:", "fd53:7761:726d:"];

/** What is known of the one who asks. */
export interface Asker {
  /** The answer out of the networks it is on; null: no name of the cluster. */
  answer(query: Query): Answer | null;
  /** Whom to ask for other names; empty: nobody, it is on internal networks only. */
  readonly nameservers: readonly string[];
}

export interface DnsServerDeps {
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly askerOf: (addr: string) => Asker;
}

/** The name server of one network: it answers containers, each for the networks it is on. */
export class DnsServer {
  readonly #sockets: DnsSockets;
  readonly #deps: DnsServerDeps;
  readonly #clients = new Set<Socket>();

  constructor(sockets: DnsSockets, deps: DnsServerDeps) {
    this.#sockets = sockets;
    this.#deps = deps;
    sockets.udp.on("message", (message, from) => void this.#onDatagram(message, from));
    sockets.udp.on("error", error => this.#failed(error));
    sockets.tcp.maxConnections = MAX_TCP_CLIENTS;
    sockets.tcp.on("connection", client => this.#onClient(client));
    sockets.tcp.on("error", error => this.#failed(error));
  }

  close(): void {
    this.#sockets.udp.close();
    this.#sockets.tcp.close();
    for (const client of this.#clients) client.destroy();
  }

  #failed(error: unknown): void {
    this.#deps.logger.warn("the name server of a network failed", { error: errorMessage(error) });
  }

  async #onDatagram(message: Uint8Array, from: RemoteInfo): Promise<void> {
    try {
      const query = parseQuery(message);
      if (query === null) return;
      const reply = await this.#reply(query, message, from.address, "udp");
      this.#sockets.udp.send(reply, from.port, from.address);
    } catch (error) {
      this.#failed(error);
    }
  }

  async #reply(
    query: Query,
    message: Uint8Array,
    from: string,
    transport: "udp" | "tcp",
  ): Promise<Uint8Array> {
    const maxBytes = transport === "udp" ? query.maxUdpBytes : undefined;
    const asker = this.#deps.askerOf(from);
    const own = asker.answer(query);
    if (own !== null) return encodeAnswer(query, own, maxBytes);
    if (isLocalReverse(query)) {
      return encodeAnswer(query, { rcode: RCODE.nxDomain, ttlS: 0, records: [] }, maxBytes);
    }
    const forwarded = await this.#deps.upstream.ask(message, transport, asker.nameservers);
    if (forwarded !== null) return forwarded;
    return encodeAnswer(query, { rcode: RCODE.servFail, ttlS: 0, records: [] }, maxBytes);
  }

  #onClient(client: Socket): void {
    this.#clients.add(client);
    let gathered = Buffer.alloc(0);
    client.setTimeout(TCP_IDLE_MS, () => client.destroy());
    client.on("close", () => this.#clients.delete(client));
    client.on("error", () => client.destroy());
    client.on("data", (chunk: Buffer) => {
      gathered = Buffer.concat([gathered, chunk]);
      while (gathered.length >= LENGTH_BYTES) {
        const end = LENGTH_BYTES + gathered.readUInt16BE(0);
        if (gathered.length < end) return;
        void this.#answerClient(client, gathered.subarray(LENGTH_BYTES, end));
        gathered = gathered.subarray(end);
      }
    });
  }

  async #answerClient(client: Socket, message: Uint8Array): Promise<void> {
    try {
      const query = parseQuery(message);
      if (query === null) return void client.destroy();
      const reply = await this.#reply(query, message, client.remoteAddress ?? "", "tcp");
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt16BE(reply.length);
      client.write(Buffer.concat([length, reply]));
    } catch (error) {
      this.#failed(error);
    }
  }
}

/** Names of link-local addresses are nobody's. */
function isLocalReverse(query: Query): boolean {
  const addr = query.type === TYPE.ptr ? reverseAddress(query.name) : null;
  return addr !== null && LOCAL_PREFIXES.some(prefix => addr.startsWith(prefix));
}
