import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { type AuditLog, HOST_SCOPE } from "./audit-log.ts";
import type { Commands } from "./commands.ts";
import { UPLINK } from "./core/names.ts";
import { HOST_TABLE, type HostRules, hostTableScript } from "./core/nft.ts";
import { Lane, type LaneDeps } from "./lane.ts";
import { inOrder } from "./namespaces.ts";

/** Ours to use, evaluated before the Engine's own rules, and kept by it (Docker, "iptables"). */
const USER_CHAIN = "DOCKER-USER";

const DELETE_TABLE6 = ["nft", "delete", "table", "ip6", HOST_TABLE];

export interface HostProgramDeps extends LaneDeps {
  readonly commands: Commands;
  readonly rules: () => HostRules;
  readonly audits: AuditLog;
  readonly logger: Logger;
}

/** Keeps the rules of the host's own namespace: published ports, and guards of encryption. */
export class HostProgram {
  readonly #deps: HostProgramDeps;
  readonly #lane: Lane;
  #script = "";
  #listed: string | null = null;
  /** Null: what a daemon before this one has left is not known. */
  #hadIpv6: boolean | null = null;

  constructor(deps: HostProgramDeps) {
    this.#deps = deps;
    this.#lane = new Lane("host rules", () => this.#sync(), deps);
  }

  sync(): Promise<void> {
    return this.#lane.request();
  }

  settled(): Promise<void> {
    return this.#lane.settled();
  }

  /** Puts right what other hands have changed; true when something was wrong. */
  async audit(): Promise<boolean> {
    if (this.#script === "") return false;
    const script = this.#script;
    const text = await this.#list();
    if (script !== this.#script) return false;
    const wrong = text === "" || (this.#listed !== null && text !== this.#listed);
    this.#deps.audits.looked(HOST_SCOPE, wrong ? "the host's rules" : null);
    if (wrong) {
      this.#deps.logger.warn("the host's rules were changed by other hands: repairing them");
      this.#script = "";
      this.#listed = null;
      await this.sync();
    } else this.#listed = text;
    await this.#openForwarding();
    return wrong;
  }

  async #sync(): Promise<void> {
    const rules = this.#deps.rules();
    const script = hostTableScript(rules);
    if (script === this.#script) return;
    await this.#deps.commands.run(["nft", "-f", "-"], script);
    if (this.#hadIpv6 !== false && !rules.ipv6) await this.#quietly(DELETE_TABLE6);
    this.#hadIpv6 = rules.ipv6;
    // Read at once: a change by other hands before the first audit is one too.
    const listed = await this.#list();
    this.#listed = listed === "" ? null : listed;
    const first = this.#script === "";
    this.#script = script;
    if (first && rules.addr !== "") await this.#openForwarding();
  }

  /** Removes everything of this daemon's from the host's namespace. */
  async remove(): Promise<void> {
    this.#script = "";
    await this.#quietly(["nft", "delete", "table", "ip", HOST_TABLE]);
    if (this.#hadIpv6 !== false) await this.#quietly(DELETE_TABLE6);
    await this.#quietly(["ip", "link", "del", UPLINK.hostDevice]);
    for (const direction of ["-i", "-o"]) {
      const rule = [direction, UPLINK.hostDevice, "-j", "ACCEPT"];
      for (const program of this.#programs()) {
        await this.#quietly([program, "-w", "-D", USER_CHAIN, ...rule]);
      }
    }
  }

  /** Needed where the policy of FORWARD is DROP, which is what the Engine makes it. */
  async #openForwarding(): Promise<void> {
    if (this.#deps.rules().addr === "") return;
    for (const program of this.#programs()) {
      const listed = await this.#said([program, "-w", "-S", USER_CHAIN]);
      // Without that chain the Engine does not drop, or does so in nftables of its own.
      if (listed === null) continue;
      const rules = new Set(listed.split("\n").map(line => line.trim()));
      for (const direction of ["-i", "-o"]) {
        const rule = [USER_CHAIN, direction, UPLINK.hostDevice, "-j", "ACCEPT"];
        if (rules.has(`-A ${rule.join(" ")}`)) continue;
        await this.#quietly([program, "-w", "-I", ...rule]);
      }
    }
  }

  #programs(): readonly string[] {
    return this.#hadIpv6 === true ? ["iptables", "ip6tables"] : ["iptables"];
  }

  async #list(): Promise<string> {
    let text = "";
    for (const family of this.#hadIpv6 === true ? ["ip", "ip6"] : ["ip"]) {
      const listed = await this.#said(["nft", "-s", "list", "table", family, HOST_TABLE]);
      if (listed === null) return "";
      text += listed;
    }
    return inOrder(text);
  }

  async #quietly(command: readonly string[]): Promise<boolean> {
    return (await this.#said(command)) !== null;
  }

  /** Null when it fails. */
  async #said(command: readonly string[]): Promise<string | null> {
    try {
      return await this.#deps.commands.run(command);
    } catch (error) {
      this.#deps.logger.debug("command failed", { error: errorMessage(error) });
      return null;
    }
  }
}
