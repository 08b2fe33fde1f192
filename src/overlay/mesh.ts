import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { FIRST_MESH, MESH_LAGGING_MAX } from "../model/mesh.ts";
import { MESH_ID, type OverlayHost, type OverlayMesh } from "../model/overlay.ts";
import type { MeshKey } from "../model/rows.ts";
import type { Commands } from "./commands.ts";
import {
  chooseWays,
  laggingHosts,
  type MeshWays,
  meshConfig,
  meshMtu,
  parseHandshakes,
  SESSION_MS,
  wayLines,
} from "./core/mesh.ts";
import { meshAddr, meshDevice } from "./core/names.ts";
import type { MeshFacts } from "./core/plan.ts";
import { MeshKeys } from "./mesh-keys.ts";

const MS_PER_S = 1_000;

export interface MeshOptions {
  readonly nodeId: string;
  /** Folder of the keys. */
  readonly dir: string;
}

export interface MeshDeps {
  readonly commands: Commands;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly hosts: () => ReadonlyMap<string, OverlayHost>;
  /** Null while this node was told of no encrypted network. */
  readonly told: () => OverlayMesh | null;
  /** There is an encrypted network here. */
  readonly isNeeded: () => boolean;
  readonly underlayMtu: () => number;
  /** Managers must hear of `ends` and `lagging`. */
  readonly onChanged: () => void;
}

interface EndUp {
  readonly config: string;
  readonly addr: string;
  readonly mtu: number;
}

/**
 * The WireGuard mesh between the hosts, which encrypted networks run over. While its keys are
 * being changed there are two ends of it here, and each host is reached by one of them.
 */
export class Mesh {
  readonly #options: MeshOptions;
  readonly #deps: MeshDeps;
  readonly #keys: MeshKeys;
  /** Ends that are up, by generation. */
  readonly #ends = new Map<number, EndUp>();
  #ways: MeshWays = new Map();
  #problem = "";
  #facts: MeshFacts | null = null;
  /** The generation that has no other beside it. */
  #alone = 0;
  /** What managers were last told, as JSON. */
  #said = "";

  constructor(options: MeshOptions, deps: MeshDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#keys = new MeshKeys(options.dir);
  }

  /** Why there can be no encrypted network here; empty: there can. */
  get problem(): string {
    return this.#problem;
  }

  /** Empty while there is none. */
  get publicKey(): string {
    return this.#problem === "" ? (this.#keys.newest?.publicKey ?? "") : "";
  }

  /** Null until an end is up. */
  get facts(): MeshFacts | null {
    return this.#facts;
  }

  get ends(): readonly MeshKey[] {
    return [...this.#ends.keys()].flatMap(generation => {
      const key = this.#keys.of(generation);
      return key === null ? [] : [{ generation, publicKey: key.publicKey }];
    });
  }

  /** The first ids of the hosts that are reached by an older generation. */
  get lagging(): readonly string[] {
    const generation = this.#told()?.generation;
    if (generation === undefined || this.#ends.size === 0) return [];
    const all = laggingHosts(this.#ways, generation, this.#options.nodeId, this.#deps.hosts());
    return all.slice(0, MESH_LAGGING_MAX);
  }

  /** The ends and ways are to change still. */
  get isMoving(): boolean {
    return this.#told()?.settled === false && this.#ends.size > 0;
  }

  /** Reads or makes the key, unless there can be no mesh because of `problem`. */
  async open(problem: string): Promise<void> {
    this.#problem = problem;
    if (this.#problem !== "") return;
    await this.#keys.load();
    if (this.#keys.newest === null) await this.#keys.keep([1]);
  }

  /** Makes ends, their peers and the ways to hosts as they should be now. Throws when it cannot. */
  async sync(): Promise<void> {
    if (this.#problem !== "") throw new SwarmError("failed_precondition", this.#problem);
    const told = this.#told();
    const hosts = this.#deps.hosts();
    const self = hosts.get(this.#options.nodeId);
    if (self === undefined || told === null) return;
    const { generation } = told;
    // An end of before is made again only for hosts that know its key.
    const isOlderNeeded = !told.settled && this.#keys.of(generation - 1) !== null;
    const generations = isOlderNeeded ? [generation - 1, generation] : [generation];
    await this.#keys.keep(generations);
    const mtu = meshMtu(
      this.#deps.underlayMtu(),
      [...hosts.values()].map(host => host.addr),
    );
    const addr = meshAddr(self.index);
    for (const one of generations) await this.#makeEnd(one, told, { addr, mtu });
    await this.#chooseWays(generations, addr);
    if (!isOlderNeeded) await this.#dropOlder(generation);
    this.#facts = { mtu, addrOf: meshAddr };
    this.#tellChange();
  }

  /** A leader of a version without generations tells nothing of them: all is of the first then. */
  #told(): OverlayMesh | null {
    const told = this.#deps.told();
    if (told !== null || this.#keys.newest?.generation !== 1) return told;
    return this.#deps.isNeeded() ? { id: MESH_ID, ...FIRST_MESH } : null;
  }

  async #dropOlder(generation: number): Promise<void> {
    if (this.#alone === generation) return;
    for (const one of [...this.#ends.keys()]) if (one !== generation) this.#ends.delete(one);
    await this.#works(["ip", "link", "del", meshDevice(generation - 1)]);
    this.#alone = generation;
  }

  /** What is wrong; null: nothing. Nothing goes by an end that is gone until it is back. */
  async audit(): Promise<string | null> {
    for (const generation of this.#ends.keys()) {
      if (await this.#isUp(generation)) continue;
      const device = meshDevice(generation);
      this.#deps.logger.warn("an end of the encrypted mesh is gone: making it again", { device });
      return `the encrypted mesh's end ${device}`;
    }
    return null;
  }

  async remove(): Promise<void> {
    this.#facts = null;
    this.#ends.clear();
    this.#ways = new Map();
    for (const generation of [1, 2]) {
      await this.#works(["ip", "link", "del", meshDevice(generation)]);
    }
  }

  async #makeEnd(
    generation: number,
    told: OverlayMesh,
    { addr, mtu }: { readonly addr: string; readonly mtu: number },
  ): Promise<void> {
    const key = this.#keys.of(generation);
    if (key === null) throw new SwarmError("internal", `no key of generation ${generation}`);
    const psk = generation === told.generation ? told.psk : told.previousPsk;
    const end = { generation, privateKey: key.privateKey, psk };
    const config = meshConfig(end, this.#options.nodeId, this.#deps.hosts());
    let known = this.#ends.get(generation);
    if (!(await this.#isUp(generation))) {
      await this.#makeDevice(generation);
      this.#ways = new Map([...this.#ways].filter(([, way]) => way !== generation));
      known = undefined;
    }
    if (known?.addr !== addr || known.mtu !== mtu) await this.#address(generation, addr, mtu);
    if (known?.config !== config) {
      // A shell's pipe can be opened as a file; the socket that is this child's input cannot.
      const load = `cat | wg syncconf ${meshDevice(generation)} /dev/stdin`;
      await this.#deps.commands.run(["sh", "-c", load], config);
    }
    this.#ends.set(generation, { config, addr, mtu });
  }

  async #makeDevice(generation: number): Promise<void> {
    const device = meshDevice(generation);
    if (await this.#works(["ip", "link", "add", device, "type", "wireguard"])) return;
    // It goes to the background by itself, and stays when this daemon ends.
    await this.#deps.commands.run(["wireguard-go", device]);
    this.#deps.logger.info("encrypted networks use wireguard-go: the kernel has no WireGuard");
  }

  async #address(generation: number, addr: string, mtu: number): Promise<void> {
    const device = meshDevice(generation);
    const before = this.#ends.get(generation)?.addr ?? addr;
    const lines = [
      ...(before === addr ? [] : [`addr flush dev ${device}`]),
      `addr replace ${addr}/32 dev ${device}`,
      `link set ${device} mtu ${mtu} up`,
    ];
    await this.#deps.commands.run(["ip", "-batch", "-"], `${lines.join("\n")}\n`);
    // Packets may come by one end and be answered by the other (ip-sysctl: loose).
    const key = `/proc/sys/net/ipv4/conf/${device}/rp_filter`;
    await this.#deps.commands.run(["sh", "-e", "-c", `echo 2 >${key}`]);
    this.#ways = new Map([...this.#ways].filter(([, way]) => way !== generation));
  }

  async #chooseWays(generations: readonly number[], own: string): Promise<void> {
    const handshakes = new Map<number, ReadonlyMap<string, number>>();
    for (const generation of generations) {
      const show = ["wg", "show", meshDevice(generation), "latest-handshakes"];
      handshakes.set(generation, parseHandshakes(await this.#deps.commands.run(show)));
    }
    const nowMs = this.#deps.clock.nowMs();
    const hasMet = (generation: number, publicKey: string): boolean => {
      const atMs = (handshakes.get(generation)?.get(publicKey) ?? 0) * MS_PER_S;
      return nowMs - atMs < SESSION_MS;
    };
    const { nodeId } = this.#options;
    const ways = chooseWays(this.#ways, generations, nodeId, this.#deps.hosts(), hasMet);
    const lines = wayLines(this.#ways, ways, own);
    if (lines.length > 0) {
      await this.#deps.commands.run(["ip", "-batch", "-"], `${lines.join("\n")}\n`);
    }
    this.#ways = ways;
  }

  #tellChange(): void {
    const said = JSON.stringify([this.ends, this.lagging]);
    if (said === this.#said) return;
    this.#said = said;
    this.#deps.onChanged();
  }

  #isUp(generation: number): Promise<boolean> {
    return this.#works(["wg", "show", meshDevice(generation), "listen-port"]);
  }

  async #works(command: readonly string[]): Promise<boolean> {
    try {
      await this.#deps.commands.run(command);
      return true;
    } catch (error) {
      this.#deps.logger.debug("command failed", { error: errorMessage(error) });
      return false;
    }
  }
}
