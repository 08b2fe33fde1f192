import { setMaxListeners } from "node:events";
import { mkdir } from "node:fs/promises";
import { Agent } from "node:http";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { EngineClient } from "../api/engine.ts";
import { ApiServer } from "../api/server.ts";
import { newDeferred } from "../base/async.ts";
import { errorMessage, isSwarmError, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { PRODUCT_VERSION } from "../base/version.ts";
import { parseHttpAddress } from "../metrics/core/address.ts";
import { MetricsServer } from "../metrics/server.ts";
import { HostCommands } from "../overlay/commands.ts";
import { HostProbe } from "../overlay/host-probe.ts";
import { LoopMonitor } from "../system/loop-monitor.ts";
import { KernelRng, newIdSource, newLogger, realClock } from "../system/real.ts";
import { type DaemonConfig, DEFAULT_CONFIG_FILE, loadConfig, SETTINGS } from "./config.ts";
import { lockDataDir } from "./data-dir.ts";
import { ensureDataFormat } from "./data-format.ts";
import { Lifecycle } from "./lifecycle.ts";
import { DaemonMetrics } from "./metrics.ts";

/** How the daemon ends; docs/operations.md. */
export const EXIT = {
  /** Stopped by SIGTERM or SIGINT. */
  ok: 0,
  /** Something it cannot go on without failed: its disk, its socket. */
  failure: 1,
  /** The configuration is wrong; nothing was started. */
  usage: 2,
  /** The data directory is in use, unreadable or not this node's. */
  dataDir: 3,
  /** Stored data is damaged. */
  dataLoss: 4,
} as const;

function exitCodeOf(error: unknown): number {
  if (isSwarmError(error, "invalid_argument")) return EXIT.usage;
  if (isSwarmError(error, "failed_precondition")) return EXIT.dataDir;
  if (isSwarmError(error, "data_loss")) return EXIT.dataLoss;
  return EXIT.failure;
}

function help(): string {
  const lines = Object.values(SETTINGS).map(setting => {
    const fallback = String(setting.fallback);
    return `  --${setting.flag.padEnd(24)}${setting.help}${fallback === "" ? "" : ` (${fallback})`}`;
  });
  return [
    "Usage: swarmd daemon [flags]",
    "",
    "Run the daemon in the foreground. A flag wins over its SWARMD_… variable, that over the file.",
    "",
    `  --${"config".padEnd(24)}configuration file, YAML (${DEFAULT_CONFIG_FILE})`,
    ...lines,
    "",
  ].join("\n");
}

function readConfig(argv: readonly string[]): DaemonConfig | "help" {
  const options = Object.fromEntries(
    [...Object.values(SETTINGS).map(setting => setting.flag), "config"].map(flag => [
      flag,
      { type: "string" as const },
    ]),
  );
  let values: Record<string, string | boolean | undefined>;
  try {
    const all = { ...options, help: { type: "boolean" as const, short: "h" } };
    ({ values } = parseArgs({ args: [...argv], options: all, strict: true }));
  } catch (error) {
    throw new SwarmError("invalid_argument", `${errorMessage(error)} (see swarmd daemon --help)`);
  }
  if (values["help"] === true) return "help";
  const { config, help: _help, ...flags } = values;
  const file = typeof config === "string" ? config : DEFAULT_CONFIG_FILE;
  return loadConfig({
    flags,
    env: process.env,
    file: { path: file, required: config !== undefined },
  });
}

/** Runs the daemon until a signal ends it; returns the process' exit code. */
export async function runDaemon(argv: readonly string[]): Promise<number> {
  try {
    const config = readConfig(argv);
    if (config === "help") {
      process.stdout.write(help());
      return EXIT.ok;
    }
    return await serve(config);
  } catch (error) {
    process.stderr.write(`swarmd: ${errorMessage(error)}\n`);
    return exitCodeOf(error);
  }
}

/** Null when --http-addr is not said. */
function newMetricsServer(
  config: DaemonConfig,
  lifecycle: Lifecycle,
  loop: LoopMonitor,
  logger: Logger,
): MetricsServer | null {
  const address = parseHttpAddress(config.httpAddr);
  if (address === null) return null;
  const { httpCert: cert, httpKey: key, httpClientCa: clientCa } = config;
  const agent = new Agent();
  const engine = new EngineClient({ socketPath: config.engineSocket, agent }, realClock);
  const metrics = new DaemonMetrics({
    lifecycle,
    loopHealth: () => loop.health(),
    engineAnswers: () => engine.answers(),
    version: PRODUCT_VERSION,
  });
  return new MetricsServer(
    { address, tls: cert === "" ? null : { cert, key, clientCa } },
    {
      families: () => metrics.families(),
      health: () => metrics.health(),
      clock: realClock,
      logger,
    },
  );
}

async function serve(config: DaemonConfig): Promise<number> {
  const logger = newLogger({ level: config.logLevel });
  // Many calls wait on one signal here; that is no leak.
  setMaxListeners(0);
  const stopped = newDeferred<string>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => stopped.resolve(signal));
  }
  const lock = await lockDataDir(config.dataDir);
  const runDir = dirname(config.socket);
  await mkdir(runDir, { recursive: true, mode: 0o755 });
  const probe = new HostProbe({ commands: new HostCommands() });
  // Known by the time that somebody joins.
  if (config.pluginSocket !== "") void probe.facts();
  const shared = { clock: realClock, rng: new KernelRng(), ids: newIdSource(), logger };
  logger.info("starting", { version: PRODUCT_VERSION, dataDir: config.dataDir, pid: process.pid });
  try {
    const { dataDir } = config;
    await ensureDataFormat({ dataDir, productVersion: PRODUCT_VERSION }, { logger });
    const lifecycle = await Lifecycle.open({ config, runDir }, { ...shared, probe });
    const counters = (): Readonly<Record<string, number>> => lifecycle.counters();
    const loop = new LoopMonitor({ clock: realClock, logger, counters });
    const api = new ApiServer(
      {
        socketPath: config.socket,
        engineSocketPath: config.engineSocket,
        productVersion: PRODUCT_VERSION,
      },
      { lifecycle, loopHealth: () => loop.health(), ...shared },
    );
    const metrics = newMetricsServer(config, lifecycle, loop, logger);
    try {
      loop.start();
      await api.start();
      await metrics?.start();
      logger.info("ready", { socket: config.socket });
      const signal = await Promise.race([stopped.promise, lifecycle.failed]);
      logger.info("stopping", { signal });
    } finally {
      // Leadership is handed over while the API still answers.
      await lifecycle.close();
      await api.close();
      await metrics?.close();
      loop.stop();
    }
    return EXIT.ok;
  } catch (error) {
    logger.error("the daemon ends", { error: errorMessage(error) });
    process.stderr.write(`swarmd: ${errorMessage(error)}\n`);
    return exitCodeOf(error);
  } finally {
    await lock.release();
  }
}
