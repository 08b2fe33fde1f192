import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { familyOf, type IpFamily } from "../model/ip.ts";
import type { Commands } from "./commands.ts";
import { countServed, parseFlows } from "./core/actual.ts";
import { namespaceOf } from "./core/names.ts";
import type { StaleFlows } from "./core/program.ts";

/**
 * Each call of conntrack looks at the whole of the kernel's table, which all namespaces share (14
 * ms with 262,144 buckets); a namespace without any connection says so for nothing.
 */
const UNLESS_NONE = "read -r n </proc/sys/net/netfilter/nf_conntrack_count && [ $n = 0 ]";
const DELETE_EACH = "while read -r flows; do conntrack -D $flows; done";

/** Connections that the kernel knows of in the namespaces of networks. */
export class Flows {
  readonly #commands: Commands;
  readonly #logger: Logger;
  /** To be forgotten, by network. */
  readonly #stale = new Map<string, StaleFlows[]>();
  #forgetting: Promise<void> | null = null;

  constructor(deps: { readonly commands: Commands; readonly logger: Logger }) {
    this.#commands = deps.commands;
    this.#logger = deps.logger;
  }

  /** TCP connections that a container serves, and its clients have not ended. */
  async connections(sandbox: string): Promise<number> {
    const read = ["cat", "/proc/net/tcp", "/proc/net/tcp6"];
    // Without IPv6 there is no second one.
    const command = ["nsenter", `--net=${sandbox}`, "sh", "-c", `${read.join(" ")} 2>/dev/null; :`];
    return countServed(await this.#commands.run(command));
  }

  /**
   * Makes UDP flows choose anew, soon: it takes longer than the change of rules after which it is
   * needed, and the next change need not wait for it. There may be none of them.
   */
  forget(networkId: string, stale: readonly StaleFlows[]): void {
    if (stale.length === 0) return;
    this.#stale.set(networkId, [...(this.#stale.get(networkId) ?? []), ...stale]);
    this.#forgetting ??= this.#forgetAll().finally(() => {
      this.#forgetting = null;
    });
  }

  /** Resolves when all that were to be forgotten are. */
  settled(): Promise<void> {
    return this.#forgetting ?? Promise.resolve();
  }

  async #forgetAll(): Promise<void> {
    for (const networkId of this.#stale.keys()) {
      const stale = this.#stale.get(networkId) ?? [];
      this.#stale.delete(networkId);
      await this.#forgetOf(networkId, stale);
    }
  }

  async #forgetOf(networkId: string, stale: readonly StaleFlows[]): Promise<void> {
    try {
      const known = new Set<string>();
      for (const family of new Set(stale.map(({ originalDst }) => familyOf(originalDst)))) {
        for (const flow of parseFlows(await this.#list(networkId, family))) {
          known.add(flow);
        }
      }
      const lines = stale
        .filter(({ originalDst, backend }) => known.has(`${originalDst} ${backend}`))
        .map(
          ({ originalDst, backend }) =>
            `-f ${familyOf(originalDst)} -p udp --orig-dst ${originalDst} --reply-src ${backend}`,
        );
      if (lines.length === 0) return;
      await this.#inside(networkId, ["sh", "-c", DELETE_EACH], `${lines.join("\n")}\n`);
    } catch (error) {
      this.#logger.debug("cannot forget flows", { error: errorMessage(error) });
    }
  }

  #list(networkId: string, family: IpFamily): Promise<string> {
    const list = `${UNLESS_NONE} || exec conntrack -L -f ${family} -p udp`;
    return this.#inside(networkId, ["sh", "-c", list]);
  }

  #inside(networkId: string, command: readonly string[], input?: string): Promise<string> {
    const enter = ["nsenter", `--net=/run/netns/${namespaceOf(networkId)}`];
    return this.#commands.run([...enter, ...command], input);
  }
}
