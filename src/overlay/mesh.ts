import { generateKeyPairSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { OverlayHost } from "../model/overlay.ts";
import type { Commands } from "./commands.ts";
import { meshConfig, meshMtu } from "./core/mesh.ts";
import { MESH_DEVICE, MESH_PREFIX_BITS, meshAddr } from "./core/names.ts";
import type { MeshFacts } from "./core/plan.ts";

const KEY_FILE = "wireguard.json";
const PROBE_DEVICE = "swgprobe";

interface KeyPair {
  readonly privateKey: string;
  readonly publicKey: string;
}

export interface MeshOptions {
  readonly nodeId: string;
  /** Folder of the key. */
  readonly dir: string;
}

export interface MeshDeps {
  readonly commands: Commands;
  readonly logger: Logger;
  readonly hosts: () => ReadonlyMap<string, OverlayHost>;
  readonly underlayMtu: () => number;
}

/** The WireGuard mesh between the hosts, which encrypted networks run over. */
export class Mesh {
  readonly #options: MeshOptions;
  readonly #deps: MeshDeps;
  #keys: KeyPair | null = null;
  #problem = "";
  #config = "";
  #addr = "";
  #mtu = 0;

  constructor(options: MeshOptions, deps: MeshDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Why there can be no encrypted network here; empty: there can. */
  get problem(): string {
    return this.#problem;
  }

  /** Empty while there is none. */
  get publicKey(): string {
    return this.#problem === "" ? (this.#keys?.publicKey ?? "") : "";
  }

  /** Null until the device is up. */
  get facts(): MeshFacts | null {
    return this.#addr === "" ? null : { mtu: this.#mtu, addrOf: meshAddr };
  }

  /** Finds out whether there is WireGuard here, and reads or makes the key. */
  async open(): Promise<void> {
    this.#problem = await this.#missing();
    if (this.#problem === "") this.#keys = await loadKeys(join(this.#options.dir, KEY_FILE));
  }

  async #missing(): Promise<string> {
    if (!(await this.#works(["wg", "--version"]))) return "missing program: wg (wireguard-tools)";
    await this.#works(["ip", "link", "del", PROBE_DEVICE]);
    const add = ["ip", "link", "add", PROBE_DEVICE, "type", "wireguard"];
    const inKernel = await this.#works(add);
    if (inKernel) await this.#works(["ip", "link", "del", PROBE_DEVICE]);
    if (inKernel || (await this.#works(["wireguard-go", "--version"]))) return "";
    return "neither the kernel has WireGuard nor is there a wireguard-go";
  }

  /** Makes the device and its peers as the hosts are now. Throws when it cannot. */
  async sync(): Promise<void> {
    const keys = this.#keys;
    if (keys === null) throw new SwarmError("failed_precondition", this.#problem);
    const hosts = this.#deps.hosts();
    const self = hosts.get(this.#options.nodeId);
    if (self === undefined) return;
    const addr = meshAddr(self.index);
    const mtu = meshMtu(
      this.#deps.underlayMtu(),
      [...hosts.values()].map(host => host.addr),
    );
    const config = meshConfig(keys.privateKey, self.id, hosts);
    if (!(await this.#isUp())) {
      await this.#make();
      this.#config = "";
      this.#addr = "";
    }
    if (this.#addr !== addr || this.#mtu !== mtu) await this.#address(addr, mtu);
    if (this.#config !== config) {
      // A shell's pipe can be opened as a file; the socket that is this child's input cannot.
      const load = `cat | wg syncconf ${MESH_DEVICE} /dev/stdin`;
      await this.#deps.commands.run(["sh", "-c", load], config);
      this.#config = config;
    }
    this.#addr = addr;
    this.#mtu = mtu;
  }

  /** The device is gone: nothing of an encrypted network gets out until it is back. */
  async audit(): Promise<void> {
    if (this.#addr === "" || (await this.#isUp())) return;
    this.#deps.logger.warn("the encrypted mesh's device is gone: making it again");
    await this.sync();
  }

  async remove(): Promise<void> {
    this.#addr = "";
    await this.#works(["ip", "link", "del", MESH_DEVICE]);
  }

  async #make(): Promise<void> {
    if (await this.#works(["ip", "link", "add", MESH_DEVICE, "type", "wireguard"])) return;
    // It goes to the background by itself, and stays when this daemon ends.
    await this.#deps.commands.run(["wireguard-go", MESH_DEVICE]);
    this.#deps.logger.info("encrypted networks use wireguard-go: the kernel has no WireGuard");
  }

  async #address(addr: string, mtu: number): Promise<void> {
    const lines = [
      `addr flush dev ${MESH_DEVICE}`,
      `addr add ${addr}/${MESH_PREFIX_BITS} dev ${MESH_DEVICE}`,
      `link set ${MESH_DEVICE} mtu ${mtu} up`,
    ];
    await this.#deps.commands.run(["ip", "-batch", "-"], `${lines.join("\n")}\n`);
  }

  #isUp(): Promise<boolean> {
    return this.#works(["wg", "show", MESH_DEVICE, "listen-port"]);
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

/** The node's own key: it never leaves this folder. */
async function loadKeys(path: string): Promise<KeyPair> {
  const text = await readFile(path, "utf8").catch(() => "");
  if (text !== "") return JSON.parse(text) as KeyPair;
  const { privateKey } = generateKeyPairSync("x25519");
  const jwk = privateKey.export({ format: "jwk" });
  const keys = { privateKey: base64(jwk.d ?? ""), publicKey: base64(jwk.x ?? "") };
  await writeFile(path, JSON.stringify(keys), { mode: 0o600 });
  return keys;
}

function base64(base64url: string): string {
  return Buffer.from(base64url, "base64url").toString("base64");
}
