import type { RemoteInfo, Socket } from "node:dgram";
import { connect } from "node:net";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import {
  type HeardReport,
  MAX_PROBE_HOSTS,
  MAX_PROBE_TARGETS,
  type ProbePlan,
  type ProbeReport,
  type WayReport,
} from "../model/data-path.ts";
import type { Commands } from "./commands.ts";
import { ENCRYPTED_PORT } from "./core/names.ts";
import { type MeshFacts, VXLAN_OVERHEAD_V4, VXLAN_OVERHEAD_V6 } from "./core/plan.ts";
import {
  channelLines,
  decodeProbe,
  encodeProbe,
  forwardingLines,
  INNER_HEADERS,
  PROBE_PORT,
  PROBE_SPACE,
  type ProbeChannel,
  plainInnerAddr,
  SizeSearch,
  sealedInnerAddr,
} from "./core/probe.ts";
import { openUdpSocket } from "./namespace-socket.ts";
import { underlayMtu } from "./probe.ts";

/** A probe whose manager has gone ends by itself. */
const IDLE_CLOSE_MS = 30_000;
const TRY_MS = 150;
const TRIES = 6;
/** A first handshake of the mesh that is lost is made again after 5 s (WireGuard, section 6.4). */
const FIRST_SEALED_TRIES = 42;
/** Enough to tell sizes of any Ethernet apart to the byte. */
const MAX_ROUNDS = 6;
const CONNECT_TIMEOUT_MS = 2_000;

export interface ProberDeps {
  readonly commands: Commands;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Brings up the encrypted mesh; null when it cannot be here, with `meshProblem` saying why. */
  readonly mesh: () => Promise<MeshFacts | null>;
  readonly meshProblem: () => string;
}

interface Channels {
  readonly plain: ProbeChannel;
  readonly sealed: ProbeChannel | null;
  readonly sealedProblem: string;
  readonly underlayMtu: number;
}

interface Open {
  readonly plan: ProbePlan;
  readonly channels: Channels;
  readonly socket: Socket;
  readonly timer: Timer;
  /** By inner address of the host that sent. */
  readonly heard: Set<string>;
  /** By inner address of the host that was sent to. */
  readonly searches: Map<string, SizeSearch>;
}

/** This host's part in probing the ways between all hosts; one probe at a time. */
export class Prober {
  readonly #deps: ProberDeps;
  #open: Open | null = null;

  constructor(deps: ProberDeps) {
    this.#deps = deps;
  }

  /** From now on test packets are answered. What an earlier probe has left goes. */
  async open(plan: ProbePlan): Promise<object> {
    if (plan.others.length > MAX_PROBE_HOSTS) {
      throw new SwarmError("invalid_argument", `at most ${MAX_PROBE_HOSTS} hosts are probed`);
    }
    await this.close();
    const channels = await this.#channels(plan);
    let socket: Socket;
    try {
      await this.#make(plan, channels);
      socket = await openUdpSocket(PROBE_SPACE, PROBE_PORT);
    } catch (error) {
      await this.#remove();
      throw error;
    }
    const timer = this.#deps.clock.setTimer("probe", IDLE_CLOSE_MS, () => void this.close());
    const open: Open = { plan, channels, socket, timer, heard: new Set(), searches: new Map() };
    socket.on("message", (message, from) => this.#onMessage(open, message, from));
    socket.on("error", error => this.#say("a probe's socket failed", error));
    this.#open = open;
    return {};
  }

  /** Sends to all targets and connects to all managers. */
  async run(signal: AbortSignal): Promise<ProbeReport> {
    const open = this.#open;
    if (open === null) throw new SwarmError("failed_precondition", "no probe is open here");
    const { plan, channels } = open;
    const { plain, sealed } = channels;
    const [plainWays, sealedWays, control] = await Promise.all([
      this.#search(open, plain, TRIES, signal),
      sealed === null ? null : this.#search(open, sealed, FIRST_SEALED_TRIES, signal),
      Promise.all(
        plan.managers.map(async ({ nodeId, addr }) => ({
          nodeId,
          problem: await this.#connects(addr),
        })),
      ),
    ]);
    return {
      problem: "",
      underlayMtu: channels.underlayMtu,
      triedBytes: plain.mtu + plain.overhead,
      plain: plainWays,
      sealed: sealedWays,
      sealedProblem: channels.sealedProblem,
      control,
    };
  }

  /** Ends the probe; who was heard until now. */
  async close(): Promise<HeardReport> {
    const open = this.#open;
    this.#open = null;
    open?.timer.cancel();
    open?.socket.close();
    await this.#remove();
    if (open === null) return { plain: [], sealed: [] };
    const heardBy = (channel: ProbeChannel | null): number[] =>
      open.plan.others
        .map(({ index }) => index)
        .filter(index => channel !== null && open.heard.has(channel.innerAddr(index)));
    return { plain: heardBy(open.channels.plain), sealed: heardBy(open.channels.sealed) };
  }

  async #channels(plan: ProbePlan): Promise<Channels> {
    const mtu = await underlayMtu(plan.self.addr);
    const overhead = plan.self.addr.includes(":") ? VXLAN_OVERHEAD_V6 : VXLAN_OVERHEAD_V4;
    const plain: ProbeChannel = {
      device: "vxdoctor",
      localAddr: plan.self.addr,
      port: plan.dataPathPort,
      mtu: mtu - overhead,
      overhead,
      innerAddr: plainInnerAddr,
      outerAddr: ({ addr }) => addr,
    };
    const facts = plan.encrypted ? await this.#deps.mesh() : null;
    const sealedProblem = plan.encrypted && facts === null ? this.#deps.meshProblem() : "";
    if (facts === null) return { plain, sealed: null, sealedProblem, underlayMtu: mtu };
    const sealed: ProbeChannel = {
      device: "vxdoctors",
      localAddr: facts.addrOf(plan.self.index),
      port: ENCRYPTED_PORT,
      mtu: facts.mtu - VXLAN_OVERHEAD_V4,
      overhead: mtu - facts.mtu + VXLAN_OVERHEAD_V4,
      innerAddr: sealedInnerAddr,
      outerAddr: ({ index }) => facts.addrOf(index),
    };
    return { plain, sealed, sealedProblem, underlayMtu: mtu };
  }

  async #make(plan: ProbePlan, { plain, sealed }: Channels): Promise<void> {
    const { commands } = this.#deps;
    await commands.run(["ip", "netns", "add", PROBE_SPACE]);
    // Inner packets are never cut up, and nobody's advice makes them shorter (ip-sysctl).
    const key = "/proc/sys/net/ipv4/ip_no_pmtu_disc";
    const enter = ["nsenter", `--net=/run/netns/${PROBE_SPACE}`];
    await commands.run([...enter, "sh", "-e", "-c", `echo 2 >${key}`]);
    for (const channel of sealed === null ? [plain] : [plain, sealed]) {
      const { outside, inside } = channelLines(channel, plan);
      await commands.run(["ip", "-batch", "-"], text(outside));
      await commands.run(["ip", "-n", PROBE_SPACE, "-batch", "-"], text(inside));
      const lines = forwardingLines(channel, plan);
      if (lines.length > 0) {
        await commands.run(["bridge", "-n", PROBE_SPACE, "-batch", "-"], text(lines));
      }
    }
  }

  async #remove(): Promise<void> {
    const { commands } = this.#deps;
    const quietly = async (command: readonly string[]): Promise<void> => {
      await commands.run(command).catch((error: unknown) => this.#say("nothing to remove", error));
    };
    // The namespace's own end comes late, and until then its tunnels' numbers are taken.
    for (const device of ["vxdoctor", "vxdoctors"]) {
      await quietly(["ip", "-n", PROBE_SPACE, "link", "del", device]);
    }
    await quietly(["ip", "netns", "del", PROBE_SPACE]);
  }

  #onMessage(open: Open, message: Uint8Array, from: RemoteInfo): void {
    const packet = decodeProbe(message);
    if (packet === null) return;
    if (packet.kind === "ack") {
      open.searches.get(from.address)?.acked(packet.size);
      return;
    }
    open.heard.add(from.address);
    const { index } = open.plan.self;
    const ack = encodeProbe({ kind: "ack", index, size: packet.size });
    open.socket.send(ack, from.port, from.address, error => {
      if (error !== null) this.#say("an acknowledgement was not sent", error);
    });
  }

  async #search(
    open: Open,
    channel: ProbeChannel,
    firstTries: number,
    signal: AbortSignal,
  ): Promise<readonly WayReport[]> {
    const searches = open.plan.others.slice(0, MAX_PROBE_TARGETS).map(({ index }) => {
      const search = new SizeSearch(channel.mtu - INNER_HEADERS);
      const addr = channel.innerAddr(index);
      open.searches.set(addr, search);
      return { index, addr, search };
    });
    const unfinished = (): typeof searches =>
      searches.filter(({ search }) => search.sizes.length > 0);
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const maxTries = round === 0 ? firstTries : TRIES;
      for (let tries = 0; tries < maxTries && unfinished().length > 0; tries += 1) {
        // The largest size may never pass: who has answered at all is not waited for as long.
        const isOver = tries >= TRIES && unfinished().every(({ search }) => search.reached > 0);
        if (isOver) break;
        for (const { addr, search } of unfinished()) this.#send(open, addr, search.sizes);
        await sleep(this.#deps.clock, TRY_MS, signal);
      }
      for (const { search } of searches) search.nextRound();
    }
    return searches.map(({ index, search }) => ({
      index,
      reachedBytes: search.reached === 0 ? 0 : search.reached + INNER_HEADERS + channel.overhead,
    }));
  }

  #send(open: Open, addr: string, sizes: readonly number[]): void {
    const { index } = open.plan.self;
    for (const size of sizes) {
      const probe = encodeProbe({ kind: "probe", index, size });
      open.socket.send(probe, PROBE_PORT, addr, error => {
        // A way that does not exist is what is looked for.
        if (error !== null) this.#say("a test packet was not sent", error);
      });
    }
  }

  /** Why no connection came about; empty: it did. */
  #connects(addr: string): Promise<string> {
    const at = addr.lastIndexOf(":");
    const host = addr.slice(0, at).replace(/^\[|\]$/g, "");
    return new Promise(resolve => {
      const socket = connect(Number(addr.slice(at + 1)), host);
      const done = (problem: string): void => {
        timer.cancel();
        socket.destroy();
        resolve(problem);
      };
      const timer = this.#deps.clock.setTimer("connect", CONNECT_TIMEOUT_MS, () =>
        done(`no answer within ${CONNECT_TIMEOUT_MS} ms`),
      );
      socket.on("connect", () => done(""));
      socket.on("error", error => done(error.message));
    });
  }

  #say(what: string, error: unknown): void {
    this.#deps.logger.debug(what, { error: errorMessage(error) });
  }
}

function text(lines: readonly string[]): string {
  return `${lines.join("\n")}\n`;
}
