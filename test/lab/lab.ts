import { existsSync, realpathSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { formCluster } from "./cluster.ts";
import {
  configPath,
  imagesPath,
  type LabConfig,
  type LabContext,
  type LabMode,
  loadConfig,
  saveConfig,
} from "./context.ts";
import { writeCommand } from "./daemons.ts";
import { removeLab } from "./down.ts";
import { LabError, UsageError } from "./errors.ts";
import { LabHost } from "./host.ts";
import { writeImages } from "./images.ts";
import { block, clientPrefix, createUnderlay, unblock, unblockAll } from "./network.ts";
import { planHost, planHosts, socketPathFault } from "./plan.ts";
import { prepareBoot } from "./power.ts";
import { checkMachine } from "./preflight.ts";
import { type RunOptions, type RunResult, run } from "./run.ts";

export { LabError, UsageError } from "./errors.ts";
export { LabHost } from "./host.ts";

export interface UpOptions {
  readonly managers?: number;
  readonly workers?: number;
  /** `cluster` by default; `bare` forms none; `engines-only` starts no swarmd. */
  readonly mode?: LabMode;
  readonly engineArgs?: readonly string[];
  readonly daemonArgs?: readonly string[];
  /** The program the hosts run with Node; SWARMD_BIN, then `dist/swarmd.js` by default. */
  readonly swarmdBin?: string;
  /** Told what is done, as it is done. */
  readonly onProgress?: (line: string) => void;
}

const CHECKOUT = resolve(import.meta.dirname, "../..");
const DEFAULT_MANAGERS = 3;
const DEFAULT_WORKERS = 2;

/** Hosts on one machine: real Engines, real packets, and ways to break them. */
export class Lab {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** The lab whose state is in `dir` (SWARMD_LAB_DIR, `.lab` of the checkout), up or not. */
  static open(dir?: string): Lab {
    const wanted = resolve(dir ?? process.env["SWARMD_LAB_DIR"] ?? join(CHECKOUT, ".lab"));
    return new Lab(join(realpathSync(dirname(wanted)), basename(wanted)));
  }

  /** Starts hosts, Engines and daemons. On failure what runs is left to be looked at. */
  async up(options: UpOptions = {}): Promise<void> {
    const config = configFrom(options);
    const tell = options.onProgress ?? (() => undefined);
    const since = performance.now();
    const at = (): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;
    await this.#claim(config);
    const lab: LabContext = { dir: this.dir, config };
    const images = writeImages(imagesPath(this.dir));
    await Promise.all([images, prepareBoot(lab), writeCommand(lab), createUnderlay(this.dir)]);
    // Every host is waited for, so that a caller can take the lab down after a failure.
    const created = await Promise.allSettled(
      this.hosts().map(async host => {
        await host.create();
        tell(`${at()}  ${host.name} ${host.addr} up`);
      }),
    );
    for (const result of created) if (result.status === "rejected") throw result.reason;
    if (config.mode !== "cluster") return;
    await formCluster(this.hosts());
    tell(`${at()}  cluster ready`);
  }

  /** Ends and removes everything of this lab; also when nothing, or only a part, is there. */
  async down(): Promise<void> {
    await removeLab(this.dir);
  }

  isUp(): boolean {
    return loadConfig(this.dir) !== null;
  }

  /** Managers first. Empty when there is no lab. */
  hosts(): LabHost[] {
    const config = loadConfig(this.dir);
    if (config === null) return [];
    const lab = { dir: this.dir, config };
    return planHosts(config.managers, config.workers).map(plan => new LabHost(lab, plan));
  }

  host(name: string): LabHost {
    const hosts = this.hosts();
    if (hosts.length === 0) throw new LabError("there is no lab: `npm run lab -- up` first");
    const host = hosts.find(one => one.name === name);
    if (host !== undefined) return host;
    throw new UsageError(`no host "${name}": there are ${hosts.map(one => one.name).join(" ")}`);
  }

  /** Every frame from A to B is lost from now on, and from B to A unless `oneWay`. */
  async partition(
    a: string,
    b: string,
    options: { readonly oneWay?: boolean } = {},
  ): Promise<void> {
    this.#pair(a, b);
    await block(this.dir, a, b, { oneWay: options.oneWay ?? false });
  }

  async unpartition(a: string, b: string): Promise<void> {
    this.#pair(a, b);
    await unblock(this.dir, a, b);
  }

  /** Undoes every partition and every cut. */
  async healNetwork(): Promise<void> {
    await unblockAll(this.dir);
    await Promise.all(this.hosts().map(host => host.heal()));
  }

  /** Runs a command outside every host, at an address that reaches them all. */
  async asClient(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(this.clientCommand(command), options);
  }

  /** The words to start such a command with, for callers that keep it running. */
  clientCommand(command: readonly string[]): string[] {
    return [...clientPrefix(this.dir), ...command];
  }

  #pair(a: string, b: string): void {
    if (this.host(a).name === this.host(b).name) throw new UsageError(`${a} is one host, not two`);
  }

  /** Making the folder decides between two that come at once. */
  async #claim(config: LabConfig): Promise<void> {
    await checkMachine(config.mode === "engines-only" ? null : config.swarmdBin);
    const fault = socketPathFault(this.dir);
    if (fault !== null) throw new LabError(fault);
    const fresh = await mkdir(this.dir).then(
      () => true,
      () => false,
    );
    if (!fresh) {
      const state = existsSync(configPath(this.dir)) ? "is up already" : "was left half-made";
      throw new LabError(`the lab in ${this.dir} ${state}: \`npm run lab -- down\` first`);
    }
    await saveConfig(this.dir, config);
  }
}

function configFrom(options: UpOptions): LabConfig {
  const managers = options.managers ?? DEFAULT_MANAGERS;
  const workers = options.workers ?? DEFAULT_WORKERS;
  if (managers < 1) throw new UsageError("a lab needs a manager");
  planHost(`m${managers}`);
  const bin = options.swarmdBin ?? process.env["SWARMD_BIN"] ?? join(CHECKOUT, "dist/swarmd.js");
  return {
    managers,
    workers,
    mode: options.mode ?? "cluster",
    swarmdBin: resolve(bin),
    engineArgs: options.engineArgs ?? [],
    daemonArgs: options.daemonArgs ?? [],
  };
}
