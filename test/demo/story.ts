import { setTimeout as sleep } from "node:timers/promises";
import type { Lab, LabHost } from "../lab/lab.ts";
import { CLUSTER_PORT } from "../lab/plan.ts";
import { isRunning, signal } from "../lab/proc.ts";
import { eventually } from "../support/eventually.ts";
import { removeWritten, SteadyWriter } from "../support/steady-writer.ts";
import { type Board, type HostRow, NO_POWER } from "./board.ts";
import { countRestarts, takeCensus } from "./census.ts";
import type { Outage, Results } from "./results.ts";
import type { Watcher } from "./watcher.ts";

const SERVICE = "web";
const FEW = 6;
const MANY = 10;
/** The leader dies when so many replicas are new. */
const KILL_AT = 4;
const STEP_TIMEOUT_MS = 60_000;
const POLL_MS = 30;
const WRITE_EVERY_MS = 25;
/** A killed daemon is started again after this, as an init system would. */
const DEAD_MS = 2_000;
/** Long enough to read a line and look at the picture. */
const PAUSE_MS = 2_500;

export interface StoryDeps {
  readonly lab: Lab;
  readonly board: Board;
  readonly watcher: Watcher;
  /** Skips the pauses that are only for the reader. */
  readonly fast: boolean;
  readonly swarmdBin: string;
}

/** The demonstration itself: what is done to the cluster, in order, and what it took. */
export class Story {
  readonly outages: Outage[] = [];
  readonly #deps: StoryDeps;
  readonly #results: Results = {
    ...{ formedMs: 0, deployedMs: 0, scaledMs: 0, updatedMs: 0, failoverMs: 0, restarts: 0 },
    ...{ replacedMs: 0, lostHost: "", lostReplicas: 0, leaders: ["", ""] },
  };

  constructor(deps: StoryDeps) {
    this.#deps = deps;
  }

  async hosts(): Promise<void> {
    const { lab, board, swarmdBin } = this.#deps;
    board.begin(
      "hosts",
      "Five hosts on one bridge: namespaces, a Docker Engine and a swarmd each.",
    );
    const since = performance.now();
    let isUp = false;
    const watching = this.#watchBoot(() => isUp);
    try {
      await lab.up({ mode: "bare", swarmdBin });
    } finally {
      isUp = true;
      await watching;
    }
    board.say(`five hosts are up after ${seconds(since)}`, "result");
  }

  async cluster(): Promise<void> {
    const { lab, board, watcher } = this.#deps;
    board.begin("cluster", "One command makes a cluster of the first; one command each joins it.");
    const since = performance.now();
    const [first, ...others] = lab.hosts();
    if (first === undefined) throw new Error("the lab has no hosts");
    await this.#swarmd(first, ["init", "--advertise-addr", first.addr]);
    for (const role of ["manager", "worker"] as const) {
      const token = (await first.swarmd(["join-token", "-q", role])).trim();
      const joining = others.filter(host => host.role === role);
      const join = (host: LabHost): Promise<void> =>
        this.#swarmd(host, [
          ...["join", "--advertise-addr", host.addr, "--token", token],
          `${first.addr}:${CLUSTER_PORT}`,
        ]);
      // Managers one after the other: each is one more vote that the next one needs.
      if (role === "manager") for (const host of joining) await join(host);
      else await Promise.all(joining.map(join));
    }
    await this.#until("every node is ready", () => lab.hosts().every(h => watcher.isWhole(h.name)));
    this.#results.formedMs = performance.now() - since;
    board.say(`a cluster of five after ${seconds(since)}`, "result");
    await this.#pause();
  }

  async deploy(): Promise<void> {
    const { lab, board, watcher } = this.#deps;
    board.begin(
      "deploy",
      "A web service; its client stands outside and asks all replicas in turn.",
    );
    const since = performance.now();
    watcher.follow(SERVICE);
    await this.#swarmd(lab.host("m1"), [
      ...["service", "create", "--detach", "--name", SERVICE, "--replicas", `${FEW}`],
      ...["--publish", "mode=host,target=80", "--replicas-max-per-node", "3"],
      ...["--update-parallelism", "2", "--update-monitor", "1s", "swarmd/web:1"],
    ]);
    await this.#untilRunning(FEW);
    await this.#until("the client is answered", () => (board.traffic?.answered ?? 0) > 0);
    this.#results.deployedMs = performance.now() - since;
    board.say(`${FEW} replicas answer after ${seconds(since)}`, "result");
    await this.#pause();
  }

  async scale(): Promise<void> {
    const { lab, board } = this.#deps;
    board.begin("scale", `From ${FEW} replicas to ${MANY}, spread over managers and workers.`);
    const since = performance.now();
    await this.#swarmd(lab.host("m1"), ["service", "scale", "--detach", `${SERVICE}=${MANY}`]);
    await this.#untilRunning(MANY);
    this.#results.scaledMs = performance.now() - since;
    board.say(`${MANY} replicas run after ${seconds(since)}`, "result");
    await this.#pause();
  }

  async update(): Promise<void> {
    const { lab, board, watcher } = this.#deps;
    board.begin("update", "A rolling update, two at a time. In the middle of it the leader dies.");
    const since = performance.now();
    const image = "swarmd/web:2";
    await this.#swarmd(lab.host("m1"), [
      "service",
      "update",
      "--detach",
      "--image",
      image,
      SERVICE,
    ]);
    await this.#until(`${KILL_AT} replicas are new`, () => watcher.running("v2").length >= KILL_AT);
    const before = await takeCensus(lab.hosts(), SERVICE);
    const killed = await this.#killLeader();
    await sleep(DEAD_MS);
    await this.#revive(killed);
    await this.#until("the update is complete", () => this.#isUpdated());
    this.#results.updatedMs = performance.now() - since;
    board.say(`update complete after ${seconds(since)}`, "result");
    const after = await takeCensus(lab.hosts(), SERVICE);
    this.#results.restarts = countRestarts(before, after, watcher.seen, "v2");
    board.say(`containers restarted by the leader's death: ${this.#results.restarts}`, "result");
    await this.#pause();
  }

  async powerOff(): Promise<void> {
    const { lab, board, watcher } = this.#deps;
    const host = lab.host("w2");
    board.begin(
      "power off",
      `${host.name} loses power. When it has missed its heartbeats, others run its replicas.`,
    );
    const lost = watcher.running().filter(task => watcher.hostOf(task) === host.name);
    this.#results.lostHost = host.name;
    this.#results.lostReplicas = lost.length;
    const since = performance.now();
    this.outages.push({ host: host.name, fromMs: since, toMs: Number.POSITIVE_INFINITY });
    board.faults.set(host.name, NO_POWER);
    board.say(`${host.name}: power off, with ${lost.length} of ${MANY} replicas`, "fault");
    await host.poweroff();
    await this.#until("the replicas run elsewhere", () => {
      const elsewhere = watcher.running().filter(task => watcher.hostOf(task) !== host.name);
      return elsewhere.length === MANY;
    });
    this.#results.replacedMs = performance.now() - since;
    board.say(`${MANY} replicas run elsewhere after ${seconds(since)}`, "result");
    await this.#pause();
  }

  /** Returns what was measured. */
  async powerOn(): Promise<Results> {
    const { lab, board, watcher } = this.#deps;
    const host = lab.host("w2");
    board.begin(
      "power on",
      `${host.name} is back: it joins in again, and none of its old replicas starts twice.`,
    );
    const since = performance.now();
    board.say(`${host.name}: power on`, "command");
    await host.poweron();
    const [outage] = this.outages.slice(-1);
    if (outage !== undefined) outage.toMs = performance.now();
    board.faults.delete(host.name);
    await this.#until(`${host.name} is ready`, () => watcher.isWhole(host.name));
    board.say(`${host.name} is ready again after ${seconds(since)}`, "result");
    const isExact = async (): Promise<boolean> =>
      (await takeCensus(lab.hosts(), SERVICE)).size === MANY;
    await eventually(isExact, { what: `${MANY} containers run`, timeoutMs: STEP_TIMEOUT_MS });
    board.say(`${MANY} containers run on all hosts together: none is missing or twice`, "result");
    await this.#pause();
    board.finished = true;
    board.caption = "";
    return this.#results;
  }

  /** SIGKILL; waits for the next acknowledged write. */
  async #killLeader(): Promise<LabHost> {
    const { lab, board, watcher } = this.#deps;
    const name = watcher.leader();
    if (name === null) throw new Error("the cluster has no leader");
    const leader = lab.host(name);
    const pid = await leader.pid();
    if (pid === null) throw new Error(`${name}: swarmd does not run`);
    const survivors = lab.hosts().filter(host => host.role === "manager" && host.name !== name);
    const sockets = survivors.map(host => host.socketPath);
    const writer = new SteadyWriter({ sockets, everyMs: WRITE_EVERY_MS });
    writer.start();
    await this.#until("the writer is heard", () => writer.acknowledged.length > 0);
    const killedMs = performance.now();
    signal(pid, "SIGKILL");
    board.faults.set(name, "swarmd killed");
    board.say(`${name}: the leader is killed (SIGKILL); its containers run on`, "fault");
    await this.#until("a write is acknowledged", () => writer.nextAfter(killedMs) !== null);
    this.#results.failoverMs = writer.nextAfter(killedMs) ?? Number.NaN;
    await writer.stop();
    const tookS = (this.#results.failoverMs / 1_000).toFixed(2);
    board.say(`the next write is acknowledged ${tookS} s after the kill`, "result");
    await this.#until("another leads", () => ![null, name].includes(watcher.leader()));
    this.#results.leaders = [name, watcher.leader() ?? ""];
    await this.#until("it has ended", () => !isRunning(pid));
    const [other] = sockets;
    if (other !== undefined) await removeWritten(other);
    return leader;
  }

  async #revive(host: LabHost): Promise<void> {
    const { board, watcher } = this.#deps;
    board.caption = `${host.name} starts again, as a follower, and adopts the containers it left.`;
    board.say(`${host.name}: swarmd starts again`, "command");
    const since = performance.now();
    await host.start();
    board.faults.delete(host.name);
    await this.#until(`${host.name} is reachable`, () => watcher.isWhole(host.name));
    board.say(`${host.name} is a manager again after ${seconds(since)}`, "result");
  }

  #isUpdated(): boolean {
    const { board, watcher } = this.#deps;
    const state = watcher.updateState;
    if (state === "paused") throw new Error("the update was paused: a new task failed");
    return state === "completed" && board.service?.running === MANY;
  }

  /** Runs the command line on the host, and shows it. */
  async #swarmd(host: LabHost, args: readonly string[]): Promise<void> {
    const shown = args.map(word => (word.startsWith("SWMTKN") ? `${word.slice(0, 12)}...` : word));
    this.#deps.board.say(`${host.name}$ swarmd ${shown.join(" ")}`, "command");
    await host.swarmd(args);
  }

  async #watchBoot(isUp: () => boolean): Promise<void> {
    const { lab, board } = this.#deps;
    while (!isUp()) {
      board.hosts = await Promise.all(lab.hosts().map(bootRow));
      await sleep(POLL_MS * 3);
    }
    board.hosts = await Promise.all(lab.hosts().map(bootRow));
  }

  async #untilRunning(count: number): Promise<void> {
    const { watcher } = this.#deps;
    await this.#until(`${count} replicas run`, () => watcher.running().length === count);
  }

  async #until(what: string, isSo: () => boolean): Promise<void> {
    let failure: unknown = null;
    await eventually(
      () => {
        try {
          return isSo();
        } catch (error) {
          failure = error;
          return true;
        }
      },
      { what, timeoutMs: STEP_TIMEOUT_MS, everyMs: POLL_MS },
    );
    if (failure !== null) throw failure;
  }

  async #pause(): Promise<void> {
    if (!this.#deps.fast) await sleep(PAUSE_MS);
  }
}

async function bootRow(host: LabHost): Promise<HostRow> {
  const base = { name: host.name, addr: host.addr, role: "" };
  if (!host.isPoweredOn()) return { ...base, state: "off", mood: "dim" };
  if ((await host.enginePid()) === null) return { ...base, state: "boots", mood: "busy" };
  if ((await host.pid()) === null) return { ...base, state: "Engine starts", mood: "busy" };
  return { ...base, state: "in no cluster", mood: "good" };
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1_000).toFixed(1)} s`;
}
