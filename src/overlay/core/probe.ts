import type { ProbePlan, ProbeTarget } from "../../model/data-path.ts";
import { hostGateway, hostMac, MESH_PREFIX_BITS, meshAddr } from "./names.ts";

/** Test packets between hosts: through a tunnel of their own, as an overlay network's would go. */

/** A namespace that no network has. */
export const PROBE_SPACE = "swdoctor";
/** The last but two; the daemon's other probe has the last. */
export const PROBE_VNI = 0xff_fffd;
export const PROBE_PORT = 4_791;
/** Inner IPv4 and UDP headers. */
export const INNER_HEADERS = 28;
const MAGIC = Buffer.from("SWDR");
const HEADER_BYTES = MAGIC.length + 5;
export const SMALLEST_BYTES = 64;
/** Sizes tried at once between what passed and what did not. */
const STEPS = 16;

/** A tunnel's end for test packets. */
export interface ProbeChannel {
  readonly device: string;
  readonly localAddr: string;
  readonly port: number;
  /** Of the tunnel's device: test packets are at most that long. */
  readonly mtu: number;
  /** What the tunnels, one in the other, add to an inner packet on the underlay. */
  readonly overhead: number;
  /** Address in the probe's namespace, and where the tunnel ends, of a host. */
  readonly innerAddr: (index: number) => string;
  readonly outerAddr: (target: ProbeTarget) => string;
}

export const plainInnerAddr = hostGateway;
export const sealedInnerAddr = meshAddr;

/** `ip -batch` lines outside; then inside, where `outside` is called `channel.device`. */
export function channelLines(
  channel: ProbeChannel,
  plan: ProbePlan,
): { readonly outside: readonly string[]; readonly inside: readonly string[] } {
  const { device, localAddr, port, mtu, innerAddr } = channel;
  const own = innerAddr(plan.self.index);
  const tunnel = `type vxlan id ${PROBE_VNI} local ${localAddr} dstport ${port} nolearning df set`;
  return {
    outside: [`link add ${device} mtu ${mtu} ${tunnel}`, `link set ${device} netns ${PROBE_SPACE}`],
    inside: [
      `link set ${device} address ${hostMac(plan.self.index)}`,
      `addr add ${own}/32 dev ${device}`,
      `link set ${device} up`,
      // Locked: a packet that is too long is to be lost, not to be cut up.
      `route add ${innerNet(own)} dev ${device} src ${own} mtu lock ${mtu}`,
      ...plan.others.map(
        ({ index }) =>
          `neigh replace ${innerAddr(index)} lladdr ${hostMac(index)} dev ${device} nud permanent`,
      ),
    ],
  };
}

/** `bridge -batch` lines. */
export function forwardingLines(channel: ProbeChannel, plan: ProbePlan): readonly string[] {
  return plan.others.map(
    target =>
      `fdb replace ${hostMac(target.index)} dev ${channel.device} ` +
      `dst ${channel.outerAddr(target)} self permanent`,
  );
}

function innerNet(addr: string): string {
  const high = Number(addr.split(".")[2]);
  const mask = 256 - 2 ** (24 - MESH_PREFIX_BITS);
  return `169.254.${high & mask}.0/${MESH_PREFIX_BITS}`;
}

export interface ProbePacket {
  readonly kind: "probe" | "ack";
  /** Of the host that sent it. */
  readonly index: number;
  /** Bytes of UDP payload of the probe; an acknowledgement is short and repeats it. */
  readonly size: number;
}

export function encodeProbe({ kind, index, size }: ProbePacket): Uint8Array {
  const bytes = Buffer.alloc(kind === "probe" ? Math.max(size, HEADER_BYTES) : HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt8(kind === "probe" ? 0 : 1, MAGIC.length);
  bytes.writeUInt16BE(index, MAGIC.length + 1);
  bytes.writeUInt16BE(size, MAGIC.length + 3);
  return bytes;
}

/** Null for anything else that came to the port. */
export function decodeProbe(message: Uint8Array): ProbePacket | null {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  const kind = bytes.readUInt8(MAGIC.length) === 0 ? "probe" : "ack";
  const size = bytes.readUInt16BE(MAGIC.length + 3);
  if (kind === "probe" && bytes.length !== size) return null;
  return { kind, index: bytes.readUInt16BE(MAGIC.length + 1), size };
}

/** Finds the largest size that passes, a round of several sizes at a time. */
export class SizeSearch {
  readonly full: number;
  /** The largest that passed. */
  reached = 0;
  #tooLong: number;
  #first = true;
  #sizes: number[] = [];

  constructor(full: number) {
    this.full = full;
    this.#tooLong = full + 1;
    this.nextRound();
  }

  /** What to send, until `acked`; empty: it is over. */
  get sizes(): readonly number[] {
    return this.#sizes;
  }

  acked(size: number): void {
    if (size > this.full) return;
    this.reached = Math.max(this.reached, size);
    this.#sizes = this.#sizes.filter(one => one > this.reached);
  }

  /** What was not acknowledged does not pass. */
  nextRound(): void {
    if (this.#first) {
      this.#first = false;
      this.#sizes = [Math.min(SMALLEST_BYTES, this.full), this.full];
      return;
    }
    this.#tooLong = Math.min(this.#tooLong, ...this.#sizes);
    const gap = this.#tooLong - this.reached;
    if (this.reached === 0 || gap <= 1) {
      this.#sizes = [];
      return;
    }
    const step = Math.max(1, Math.ceil(gap / STEPS));
    const sizes: number[] = [];
    for (let size = this.reached + step; size < this.#tooLong; size += step) sizes.push(size);
    this.#sizes = sizes;
  }
}
