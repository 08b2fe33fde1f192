import { rm, writeFile } from "node:fs/promises";
import { binPath, imagesPath, type LabContext, readIfThere } from "./context.ts";
import { daemonService, engineService, loginEnv, prepareDisk, swarmdCommand } from "./daemons.ts";
import { LabError } from "./errors.ts";
import { type Answer, type RequestOptions, request } from "./http.ts";
import { loadImages } from "./images.ts";
import { linkState, setLink } from "./network.ts";
import { type HostPaths, type HostPlan, type HostRole, hostPaths } from "./plan.ts";
import { boot, cutPower, hostPrefix, runningInit } from "./power.ts";
import { isStopped, signal, untilStopped } from "./proc.ts";
import { describeFailure, must, plainEnv, type RunOptions, type RunResult, run } from "./run.ts";
import { endService, mustRun, type Service, servicePid, startService } from "./service.ts";

const PAUSE_TIMEOUT_MS = 20_000;

/** One host of a lab. Every method's error names the host and quotes what was said. */
export class LabHost {
  readonly name: string;
  readonly role: HostRole;
  readonly addr: string;
  readonly addr6: string;
  readonly paths: HostPaths;
  readonly #lab: LabContext;
  readonly #plan: HostPlan;

  constructor(lab: LabContext, plan: HostPlan) {
    this.name = plan.name;
    this.role = plan.role;
    this.addr = plan.addr;
    this.addr6 = plan.addr6;
    this.paths = hostPaths(lab.dir, plan.name);
    this.#lab = lab;
    this.#plan = plan;
  }

  get socketPath(): string {
    return this.paths.socket;
  }

  get dockerSocketPath(): string {
    return this.paths.dockerSocket;
  }

  get logPath(): string {
    return this.paths.log;
  }

  get engineLogPath(): string {
    return this.paths.dockerLog;
  }

  /** First boot: disk, namespaces, Engine, images, daemon. */
  async create(): Promise<void> {
    await prepareDisk(this.#lab, this.name);
    await boot(this.#lab, this.#plan);
    await startService(this.#lab.dir, this.#engine);
    await loadImages(this.name, this.dockerSocketPath, imagesPath(this.#lab.dir));
    if (this.#hasDaemon) await startService(this.#lab.dir, this.#daemon);
  }

  /** swarmd's pid as seen from outside the host; null when it does not run. */
  pid(): Promise<number | null> {
    return servicePid(this.#lab.dir, this.#daemon);
  }

  enginePid(): Promise<number | null> {
    return servicePid(this.#lab.dir, this.#engine);
  }

  isPoweredOn(): boolean {
    return runningInit(this.#lab.dir, this.name) !== null;
  }

  async isPaused(): Promise<boolean> {
    const pid = await this.pid();
    return pid !== null && isStopped(pid);
  }

  /** Null when the host is off. */
  link(): Promise<"up" | "down" | null> {
    return linkState(this.#lab.dir, this.name);
  }

  /** Runs a command on the host; its stdout. Throws unless it exits with 0. */
  async exec(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.tryExec(command, options);
    if (result.code !== 0) throw new LabError(describeFailure(this.name, command, result));
    return result.stdout;
  }

  /** Runs a command on the host, whatever its exit code. */
  tryExec(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(this.execCommand(command), { env: this.loginEnv(), ...options });
  }

  /** The words to start a command on this host with, for callers that keep it running. */
  execCommand(command: readonly string[]): string[] {
    return [...hostPrefix(this.#lab.dir, this.name), ...command];
  }

  /** `swarmd` is the first command found, and talks to this host's daemon. */
  loginEnv(): NodeJS.ProcessEnv {
    const env = plainEnv(loginEnv(this.#lab, this.name));
    return { ...env, PATH: `${binPath(this.#lab.dir)}:${env["PATH"]}` };
  }

  /** The swarmd command line, on this host and to its daemon; stdout. */
  swarmd(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return this.exec([...swarmdCommand(this.#lab), ...args], options);
  }

  /** The docker command line to this host's Engine; stdout. */
  docker(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return must(this.name, ["docker", "-H", `unix://${this.dockerSocketPath}`, ...args], options);
  }

  /** The docker command line to this host's swarmd; stdout. */
  swarmDocker(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return must(this.name, ["docker", "-H", `unix://${this.socketPath}`, ...args], options);
  }

  /** One request to this host's swarmd. */
  request(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<Answer> {
    return request(this.socketPath, method, path, body, options);
  }

  /** SIGKILL to swarmd. */
  async kill(): Promise<void> {
    await endService(this.#lab.dir, this.#daemon, "SIGKILL");
  }

  /** Starts swarmd and waits until it answers. */
  async start(): Promise<void> {
    await startService(this.#lab.dir, this.#daemon);
  }

  /** SIGTERM to swarmd; waits until it has ended. */
  async stop(): Promise<void> {
    if (await this.isPaused()) {
      throw new LabError(`${this.name}: swarmd is paused and would not hear SIGTERM: resume first`);
    }
    await endService(this.#lab.dir, this.#daemon, "SIGTERM");
  }

  async pause(): Promise<void> {
    const pid = await mustRun(this.#lab.dir, this.#daemon);
    signal(pid, "SIGSTOP");
    await untilStopped(pid, `${this.name}: swarmd`, PAUSE_TIMEOUT_MS);
  }

  async resume(): Promise<void> {
    signal(await mustRun(this.#lab.dir, this.#daemon), "SIGCONT");
  }

  /** Pulls the network cable; it stays out over a power cycle. */
  async cut(): Promise<void> {
    await writeFile(this.paths.cutMark, "");
    if (this.isPoweredOn()) await setLink(this.#lab.dir, this.name, "down");
  }

  async heal(): Promise<void> {
    await rm(this.paths.cutMark, { force: true });
    if (this.isPoweredOn()) await setLink(this.#lab.dir, this.name, "up");
  }

  isCut(): boolean {
    return readIfThere(this.paths.cutMark) !== null;
  }

  /** Everything on the host ends at once and no packet leaves any more; the disk stays. */
  async poweroff(): Promise<void> {
    await cutPower(this.#lab, this.name);
  }

  /** Boots the host: Engine and swarmd together, since an Engine with networks of swarmd's asks it. */
  async poweron(): Promise<void> {
    if (this.isPoweredOn()) throw new LabError(`${this.name} is powered on already`);
    await boot(this.#lab, this.#plan);
    const services = [this.#engine, ...(this.#hasDaemon ? [this.#daemon] : [])];
    await Promise.all(services.map(service => startService(this.#lab.dir, service)));
  }

  async stopEngine(): Promise<void> {
    await endService(this.#lab.dir, this.#engine, "SIGTERM");
  }

  async killEngine(): Promise<void> {
    await endService(this.#lab.dir, this.#engine, "SIGKILL");
  }

  async startEngine(): Promise<void> {
    await startService(this.#lab.dir, this.#engine);
  }

  async restartEngine(): Promise<void> {
    await this.stopEngine();
    await this.startEngine();
  }

  get #engine(): Service {
    return engineService(this.#lab, this.name);
  }

  get #daemon(): Service {
    return daemonService(this.#lab, this.name);
  }

  get #hasDaemon(): boolean {
    return this.#lab.config.mode !== "engines-only";
  }
}
