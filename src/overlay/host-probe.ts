import type { Commands } from "./commands.ts";
import { type HostFacts, probeHost } from "./probe.ts";

/**
 * What the host has for overlay networks, looked at once and ahead of time: some fifteen programs
 * are run for it, which nobody who joins should wait for. A host that lacks something is looked at
 * again when it is asked for again: it may have been mended.
 */
export class HostProbe {
  readonly #commands: Commands;
  #facts: Promise<HostFacts> | null = null;

  constructor(deps: { readonly commands: Commands }) {
    this.#commands = deps.commands;
  }

  facts(): Promise<HostFacts> {
    this.#facts ??= this.#look();
    return this.#facts;
  }

  async #look(): Promise<HostFacts> {
    const facts = await probeHost(this.#commands);
    const { problem, wireguard, warnings } = facts;
    if (problem !== "" || wireguard !== "" || warnings.length > 0) this.#facts = null;
    return facts;
  }
}
