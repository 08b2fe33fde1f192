import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { isAbsolute } from "node:path";
import { parse as parseYaml } from "yaml";
import { errnoOf, errorMessage, SwarmError } from "../base/errors.ts";
import { isLoopback, parseHttpAddress } from "../metrics/core/address.ts";

/** How the daemon was asked to run. Precedence: flags > SWARMD_… environment > file > defaults. */
export interface DaemonConfig {
  readonly dataDir: string;
  readonly socket: string;
  /** Path of the Engine's socket. */
  readonly engineSocket: string;
  /** Socket of the network plugin; empty: overlay networks are off. */
  readonly pluginSocket: string;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  /** Address or interface, with or without port; where `init` and `join` listen unless they say otherwise. */
  readonly listenAddr: string;
  /** Used by `init` and `join` when they name none; empty = found from the interfaces. */
  readonly advertiseAddr: string;
  /** Length of a Raft tick in ms; an election takes 10 to 20 of them. */
  readonly raftTickMs: number;
  /** ADDRESS:PORT of metrics and health; empty: off. */
  readonly httpAddr: string;
  /** Paths of PEM files; all empty, or all said. */
  readonly httpCert: string;
  readonly httpKey: string;
  readonly httpClientCa: string;
  /** KIND=NUMBER or KIND=ID, what this node offers to `--generic-resource`. */
  readonly genericResources: readonly string[];
}

type Raw = string | number | boolean | readonly string[];

interface Setting<T> {
  readonly flag: string;
  readonly help: string;
  readonly fallback: T;
  /** Returns the value or throws an Error that says what is accepted. */
  readonly parse: (raw: Raw) => T;
}

const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
const MAX_PORT = 65_535;
const TICK_MS = { min: 10, max: 5_000 };

function text(raw: Raw): string {
  if (typeof raw === "string" || typeof raw === "number") return String(raw);
  throw new Error("takes one word");
}

function path(raw: Raw): string {
  const value = text(raw).replace(/^unix:\/\//, "");
  if (!isAbsolute(value)) throw new Error(`takes an absolute path, not '${value}'`);
  return value;
}

function logLevel(raw: Raw): DaemonConfig["logLevel"] {
  const value = text(raw);
  for (const level of LOG_LEVELS) if (level === value) return level;
  throw new Error(`takes one of ${LOG_LEVELS.join(", ")}, not '${value}'`);
}

function tickMs(raw: Raw): number {
  const value = Number(text(raw));
  if (Number.isInteger(value) && value >= TICK_MS.min && value <= TICK_MS.max) return value;
  throw new Error(`takes whole milliseconds from ${TICK_MS.min} to ${TICK_MS.max}`);
}

/** Shape only: the interface may not be there yet when the daemon starts. */
function address(raw: Raw): string {
  const value = text(raw);
  if (value === "" || isIP(value) !== 0) return value;
  const [, v6, host = "", port = ""] = /^(?:\[([^\]]+)\]|([^:[\]]*))(?::(.*))?$/.exec(value) ?? [];
  const isHost = v6 === undefined ? isIP(host) === 4 || !/^[\d.]+$/.test(host) : isIP(v6) === 6;
  const isPort = !value.endsWith(":") && (port === "" || isPortNumber(port));
  if (isHost && isPort && (v6 ?? host + port) !== "") return value;
  throw new Error(
    `takes an IP address or network interface, with or without :port, not '${value}'`,
  );
}

function isPortNumber(port: string): boolean {
  return /^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= MAX_PORT;
}

function pathOrNone(raw: Raw): string {
  return text(raw) === "" ? "" : path(raw);
}

function httpAddress(raw: Raw): string {
  const value = text(raw);
  if (value === "" || parseHttpAddress(value) !== null) return value;
  throw new Error(`takes ADDRESS:PORT, for example 127.0.0.1:9323, not '${value}'`);
}

/** Metrics name services and nodes: who is not on this host must show a certificate. */
function httpFault(config: DaemonConfig): string | null {
  const { httpAddr, httpCert, httpKey, httpClientCa } = config;
  const address = parseHttpAddress(httpAddr);
  const said = [httpCert, httpKey, httpClientCa].filter(one => one !== "").length;
  if (said !== 0 && said !== 3) {
    return "--http-cert, --http-key and --http-client-ca go together: say all three or none";
  }
  if (address === null || isLoopback(address.host) || said === 3) return null;
  return (
    `--http-addr ${httpAddr} can be reached from other hosts: that needs mutual TLS ` +
    "(--http-cert, --http-key and --http-client-ca), or use 127.0.0.1"
  );
}

function list(raw: Raw): readonly string[] {
  if (typeof raw === "string") return raw === "" ? [] : raw.split(",").map(item => item.trim());
  if (Array.isArray(raw)) return raw.map(item => text(item as Raw));
  throw new Error("takes a list");
}

type Settings = { readonly [K in keyof DaemonConfig]: Setting<DaemonConfig[K]> };

/** Every setting: its flag is `--flag`, its variable SWARMD_FLAG, its key in the file `flag`. */
export const SETTINGS: Settings = {
  dataDir: {
    flag: "data-dir",
    help: "where the daemon keeps its state",
    fallback: "/var/lib/swarmd",
    parse: path,
  },
  socket: {
    flag: "socket",
    help: "the API socket",
    fallback: "/run/swarmd/swarmd.sock",
    parse: path,
  },
  engineSocket: {
    flag: "docker-host",
    help: "the local Docker Engine's socket",
    fallback: "/var/run/docker.sock",
    parse: path,
  },
  pluginSocket: {
    flag: "network-plugin",
    help: "where the Engine finds the network plugin, or none: no overlay networks",
    fallback: "/run/docker/plugins/swarmd.sock",
    parse: raw => (text(raw) === "none" ? "" : path(raw)),
  },
  logLevel: {
    flag: "log-level",
    help: "debug, info, warn or error",
    fallback: "info",
    parse: logLevel,
  },
  listenAddr: {
    flag: "listen-addr",
    help: "address of the cluster port",
    fallback: "0.0.0.0:2377",
    parse: address,
  },
  advertiseAddr: {
    flag: "advertise-addr",
    help: "address other nodes reach this one at",
    fallback: "",
    parse: address,
  },
  raftTickMs: {
    flag: "raft-tick-ms",
    help: "length of a Raft tick in milliseconds",
    fallback: 100,
    parse: tickMs,
  },
  httpAddr: {
    flag: "http-addr",
    help: "ADDRESS:PORT of /metrics, /livez, /healthz and /readyz; beyond loopback only with the three below",
    fallback: "",
    parse: httpAddress,
  },
  httpCert: {
    flag: "http-cert",
    help: "certificate of --http-addr, PEM",
    fallback: "",
    parse: pathOrNone,
  },
  httpKey: { flag: "http-key", help: "its key, PEM", fallback: "", parse: pathOrNone },
  httpClientCa: {
    flag: "http-client-ca",
    help: "authorities whose certificates clients must have, PEM",
    fallback: "",
    parse: pathOrNone,
  },
  genericResources: {
    flag: "node-generic-resource",
    help: "generic resources of this node, KIND=N or KIND=ID, comma-separated",
    fallback: [],
    parse: list,
  },
};

export const DEFAULT_CONFIG_FILE = "/etc/swarmd/swarmd.yaml";

export interface ConfigSources {
  /** By flag name, as the command line gave them. */
  readonly flags: Readonly<Record<string, Raw | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Path of the file; one that was named must exist, the default one need not. */
  readonly file: { readonly path: string; readonly required: boolean };
}

/** All settings, checked. Throws invalid_argument naming every fault at once. */
export function loadConfig(sources: ConfigSources): DaemonConfig {
  const faults: string[] = [];
  const file = readConfigFile(sources.file, faults);
  const known = new Set(Object.values(SETTINGS).map(setting => setting.flag));
  for (const key of Object.keys(file)) {
    if (!known.has(key)) faults.push(`${sources.file.path}: unknown setting '${key}'`);
  }
  const get = <K extends keyof DaemonConfig>(key: K): DaemonConfig[K] =>
    resolve(SETTINGS[key], sources, file, faults);
  const config: DaemonConfig = {
    dataDir: get("dataDir"),
    socket: get("socket"),
    engineSocket: get("engineSocket"),
    pluginSocket: get("pluginSocket"),
    logLevel: get("logLevel"),
    listenAddr: get("listenAddr"),
    advertiseAddr: get("advertiseAddr"),
    raftTickMs: get("raftTickMs"),
    httpAddr: get("httpAddr"),
    httpCert: get("httpCert"),
    httpKey: get("httpKey"),
    httpClientCa: get("httpClientCa"),
    genericResources: get("genericResources"),
  };
  const unsafe = httpFault(config);
  if (unsafe !== null) faults.push(unsafe);
  if (faults.length > 0) {
    throw new SwarmError("invalid_argument", `bad configuration:\n  ${faults.join("\n  ")}`);
  }
  return config;
}

function resolve<T>(
  setting: Setting<T>,
  sources: ConfigSources,
  file: Readonly<Record<string, Raw>>,
  faults: string[],
): T {
  const variable = `SWARMD_${setting.flag.toUpperCase().replaceAll("-", "_")}`;
  const candidates: readonly (readonly [string, Raw | undefined])[] = [
    [`--${setting.flag}`, sources.flags[setting.flag]],
    [variable, sources.env[variable]],
    [`${sources.file.path}: ${setting.flag}`, file[setting.flag]],
  ];
  for (const [origin, raw] of candidates) {
    if (raw === undefined) continue;
    try {
      return setting.parse(raw);
    } catch (error) {
      faults.push(`${origin} ${errorMessage(error)}`);
      return setting.fallback;
    }
  }
  return setting.fallback;
}

function readConfigFile(
  file: ConfigSources["file"],
  faults: string[],
): Readonly<Record<string, Raw>> {
  try {
    const content: unknown = parseYaml(readFileSync(file.path, "utf8"));
    if (content === null || content === undefined) return {};
    if (typeof content === "object" && !Array.isArray(content)) {
      return { ...content } as Readonly<Record<string, Raw>>;
    }
    faults.push(`${file.path}: is not a list of settings`);
  } catch (error) {
    const missing = errnoOf(error) === "ENOENT";
    if (!missing || file.required) faults.push(`${file.path}: ${errorMessage(error)}`);
  }
  return {};
}
