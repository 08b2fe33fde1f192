import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { eventually } from "../../support/eventually.ts";
import { freePorts, MEMBERS, type System } from "./system.ts";

const TIMEOUT_MS = 60_000;
const PROBE_TIMEOUT_MS = 2_000;

/** The program: what ETCD_BIN names, the installed one, or Debian's package unpacked under `dir`. */
export async function findEtcd(dir: string): Promise<string> {
  const named = process.env["ETCD_BIN"];
  if (named !== undefined && named !== "") return named;
  if (existsSync("/usr/bin/etcd")) return "/usr/bin/etcd";
  const into = join(dir, "etcd-package");
  await mkdir(into, { recursive: true });
  // Unpacked only: installing would start a server of its own.
  const quiet = { cwd: into, stdio: ["ignore", "ignore", "ignore"] as "ignore"[] };
  execFileSync("apt-get", ["download", "etcd-server"], quiet);
  execFileSync("sh", ["-c", "dpkg -x etcd-server_*.deb ."], quiet);
  return join(into, "usr/bin/etcd");
}

export function etcdVersion(bin: string): string {
  const [first] = execFileSync(bin, ["--version"], { encoding: "utf8" }).split("\n");
  return first ?? "";
}

interface Status {
  readonly header: { readonly member_id: string };
  readonly leader?: string;
  readonly raftAppliedIndex?: string;
}

/** Debian's etcd with its defaults, TLS between the members, none towards the clients. */
export class EtcdSystem implements System {
  readonly title = "etcd";
  readonly #bin: string;
  readonly #dir: string;
  readonly #ports: readonly number[];
  readonly #members: ChildProcess[] = [];

  private constructor(bin: string, dir: string, ports: readonly number[]) {
    this.#bin = bin;
    this.#dir = dir;
    this.#ports = ports;
  }

  static async start(bin: string, dir: string): Promise<EtcdSystem> {
    const system = new EtcdSystem(bin, dir, await freePorts(2 * MEMBERS));
    for (let i = 0; i < MEMBERS; i += 1) system.#startOne(i);
    await system.leader();
    return system;
  }

  get clientAddrs(): readonly string[] {
    return this.#all(i => `127.0.0.1:${this.#ports[2 * i]}`);
  }

  get loadAddrs(): readonly string[] {
    return this.clientAddrs;
  }

  pids(): readonly number[] {
    return this.#members.map(({ pid }) => pid ?? 0);
  }

  async leader(): Promise<number> {
    return eventually(
      async () => {
        const all = await Promise.all(this.#all(i => this.#status(i)));
        const at = all.findIndex(({ header, leader }) => leader === header.member_id);
        const agreed = all.every(({ leader }) => leader === all[at]?.leader);
        return at >= 0 && agreed ? { at } : null;
      },
      { what: "one leader", timeoutMs: TIMEOUT_MS, everyMs: 20 },
    ).then(({ at }) => at);
  }

  async kill(member: number): Promise<void> {
    const child = this.#members[member];
    if (child === undefined) throw new Error(`no member ${member}`);
    const gone = new Promise(resolve => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async restart(member: number): Promise<void> {
    this.#startOne(member);
    await eventually(
      async () => {
        const all = await Promise.all(this.#all(i => this.#status(i)));
        const applied = all.map(({ raftAppliedIndex = "0" }) => Number(raftAppliedIndex));
        return (applied[member] ?? 0) >= Math.max(...applied);
      },
      { what: `member ${member} catches up`, timeoutMs: TIMEOUT_MS, everyMs: 20 },
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#members.map((_, i) => this.kill(i)));
  }

  #all<T>(of: (i: number) => T): T[] {
    return Array.from({ length: MEMBERS }, (_, i) => of(i));
  }

  async #status(member: number): Promise<Status> {
    const response = await fetch(`http://${this.clientAddrs[member]}/v3/maintenance/status`, {
      method: "POST",
      body: "{}",
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
    return (await response.json()) as Status;
  }

  #startOne(member: number): void {
    const peerUrl = (i: number): string => `https://127.0.0.1:${this.#ports[2 * i + 1]}`;
    const clientUrl = `http://${this.clientAddrs[member]}`;
    const args = [
      ...["--name", `m${member}`, "--data-dir", join(this.#dir, `etcd-${member}`)],
      ...["--listen-client-urls", clientUrl, "--advertise-client-urls", clientUrl],
      ...["--listen-peer-urls", peerUrl(member)],
      ...["--initial-advertise-peer-urls", peerUrl(member)],
      ...["--initial-cluster", this.#all(i => `m${i}=${peerUrl(i)}`).join(",")],
      ...["--peer-auto-tls", "--logger", "zap", "--log-level", "error"],
    ];
    this.#members[member] = spawn(this.#bin, args, { stdio: "ignore" });
  }
}
