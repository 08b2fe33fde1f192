import { type ChildProcess, execFile, spawn } from "node:child_process";
import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync } from "node:fs";
import { mkdir, readdir, rm, rmdir, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { eventually } from "./eventually.ts";

const exec = promisify(execFile);
const START_TIMEOUT_MS = 60_000;
const CGROUP_ROOT = "/sys/fs/cgroup";

/**
 * The first process of the private namespaces. It mounts what dockerd needs and runs it whenever
 * the file `run` exists; ending this process ends everything in its pid namespace.
 */
const INIT_SCRIPT = `
set -e
R=$1
mount --make-rprivate /
mkdir -p $R/cg
mount --rbind /sys/fs/cgroup $R/cg
mount -t sysfs sysfs /sys
mount --rbind $R/cg /sys/fs/cgroup
umount -l $R/cg
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/docker
ip link set lo up
set +e
trap : TERM
while :; do
  while [ ! -e $R/run ]; do sleep 0.05; done
  dockerd --data-root $R/data --exec-root /run/docker -p $R/docker.pid \\
    --cgroup-parent /$2 -H unix://$R/docker.sock $(cat $R/flags) >>$R/dockerd.log 2>&1
done
`;

/** Why no real Engine can be started here; null when one can. Never a reason when CI=true. */
export function engineUnavailable(): string | null {
  if (process.env["CI"] === "true") return null;
  if (process.getuid?.() !== 0) return "needs root to start a private dockerd";
  for (const tool of ["dockerd", "unshare", "setpriv", "ip", "busybox"]) {
    if (!onPath(tool)) return `needs ${tool} on the PATH to start a private dockerd`;
  }
  return null;
}

function onPath(tool: string): boolean {
  return (process.env["PATH"] ?? "").split(":").some(dir => {
    try {
      accessSync(join(dir, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A dockerd of the test's own, in its own network, mount and pid namespaces. */
export class PrivateEngine {
  readonly dir: string;
  readonly socketPath: string;
  readonly #init: ChildProcess;
  readonly #cgroup: string;

  private constructor(dir: string, init: ChildProcess) {
    this.dir = dir;
    this.socketPath = join(dir, "docker.sock");
    this.#cgroup = basename(dir);
    this.#init = init;
  }

  /** Starts it, with busybox:latest imported. `flags` go to dockerd. */
  static async start(flags: readonly string[] = []): Promise<PrivateEngine> {
    const dir = mkdtempSync(join(tmpdir(), "swarmd-engine-"));
    await writeFile(join(dir, "flags"), flags.join(" "));
    const log = openSync(join(dir, "init.log"), "a");
    const init = spawn(
      "setpriv",
      [
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
      ].concat(["bash", "-c", INIT_SCRIPT, "init", dir, basename(dir)]),
      { stdio: ["ignore", log, log] },
    );
    closeSync(log);
    const engine = new PrivateEngine(dir, init);
    try {
      await engine.up();
      await engine.#importBusybox();
    } catch (error) {
      await engine.close();
      throw error;
    }
    return engine;
  }

  /** Starts dockerd (again) and waits until it answers. */
  async up(): Promise<void> {
    await writeFile(join(this.dir, "run"), "");
    await eventually(() => this.#ping(), {
      what: `dockerd in ${this.dir} answers`,
      timeoutMs: START_TIMEOUT_MS,
    });
  }

  /** Ends dockerd and keeps it down until `up`. SIGKILL leaves the containers running. */
  async down(signal: "TERM" | "KILL"): Promise<void> {
    await rm(join(this.dir, "run"), { force: true });
    const pid = this.#dockerdPid();
    process.kill(pid, `SIG${signal}`);
    await eventually(() => !isAlive(pid), { what: "dockerd ended" });
  }

  /** The Engine's API, raw: for checks that must not go through the code under test. */
  async api(method: string, path: string, body?: unknown): Promise<unknown> {
    const { status, text } = await this.#request(method, path, body);
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${text}`);
    return text.startsWith("{") || text.startsWith("[") ? JSON.parse(text) : text;
  }

  /** Ends every process of it and removes its files and cgroups. */
  async close(): Promise<void> {
    if (this.#init.exitCode === null && this.#init.signalCode === null) {
      const ended = new Promise(resolve => this.#init.once("exit", resolve));
      this.#init.kill("SIGKILL");
      await ended;
    }
    await eventually(() => this.#removeCgroups(), { what: "cgroups removed" });
    await eventually(
      async () => (await rm(this.dir, { recursive: true, force: true })) === undefined,
      {
        what: `${this.dir} removed`,
      },
    );
  }

  #dockerdPid(): number {
    const children = readFileSync(
      `/proc/${this.#init.pid}/task/${this.#init.pid}/children`,
      "utf8",
    );
    const init = Number(children.trim().split(" ")[0]);
    const pids = readFileSync(`/proc/${init}/task/${init}/children`, "utf8").trim().split(" ");
    for (const pid of pids) {
      if (readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "dockerd") return Number(pid);
    }
    throw new Error(`no dockerd runs in ${this.dir}`);
  }

  async #ping(): Promise<boolean> {
    return (await this.#request("GET", "/_ping")).status === 200;
  }

  #request(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const raw = body === undefined || Buffer.isBuffer(body);
      const payload = raw ? body : JSON.stringify(body);
      const type = Buffer.isBuffer(body) ? "application/x-tar" : "application/json";
      const headers = body === undefined ? {} : { "Content-Type": type };
      const request = http.request(
        { socketPath: this.socketPath, method, path, headers, agent: false },
        response => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (chunk: string) => {
            text += chunk;
          });
          response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
          response.on("error", reject);
        },
      );
      request.on("error", reject);
      request.end(payload);
    });
  }

  async #importBusybox(): Promise<void> {
    const root = join(this.dir, "rootfs");
    await mkdir(join(root, "bin"), { recursive: true });
    await mkdir(join(root, "etc"));
    await mkdir(join(root, "tmp"));
    const bin = (await exec("sh", ["-c", "command -v busybox"])).stdout.trim();
    await exec("cp", ["-L", bin, join(root, "bin/busybox")]);
    await exec(bin, ["--install", "-s", join(root, "bin")]);
    await exec("sh", [
      "-c",
      `cd ${root}/bin && for a in *; do [ $a = busybox ] || ln -sf busybox $a; done`,
    ]);
    await writeFile(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    await writeFile(join(root, "etc/group"), "root:x:0:\n");
    const tar = await exec("tar", ["-C", root, "-c", "."], {
      encoding: "buffer",
      maxBuffer: 64 * 1024 * 1024,
    });
    const changes = `changes=${encodeURIComponent("ENV PATH=/bin")}&changes=${encodeURIComponent('CMD ["sh"]')}`;
    await this.api(
      "POST",
      `/images/create?fromSrc=-&repo=busybox&tag=latest&${changes}`,
      tar.stdout,
    );
  }

  /** True when none is left: a controller's directory cannot go before its processes have. */
  async #removeCgroups(): Promise<boolean> {
    let left = 0;
    for (const controller of ["", ...(await readdir(CGROUP_ROOT))]) {
      left += await removeTree(join(CGROUP_ROOT, controller, this.#cgroup));
    }
    return left === 0;
  }
}

/** Removes the (process-free) cgroup directories below and at `dir`; the number left. */
async function removeTree(dir: string): Promise<number> {
  let entries: readonly string[];
  try {
    entries = (await readdir(dir, { withFileTypes: true }))
      .filter(entry => entry.isDirectory())
      .map(entry => entry.name);
  } catch {
    return 0;
  }
  let left = 0;
  for (const name of entries) left += await removeTree(join(dir, name));
  try {
    await rmdir(dir);
  } catch {
    left += 1;
  }
  return left;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
