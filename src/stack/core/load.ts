import { decodeShape, extrasOf } from "./decode.ts";
import { type Dict, dictOf, sortedEntries, textOf } from "./dict.ts";
import { parseEnvFile } from "./env-file.ts";
import { composeError, quoted } from "./errors.ts";
import { interpolate, type LookUp } from "./interpolate.ts";
import { mergeFiles } from "./merge.ts";
import type { ComposeFile } from "./model.ts";
import { absolutePath, isWindowsAbsolute } from "./paths.ts";
import { refuseForbidden } from "./properties.ts";
import { NEWEST_VERSION } from "./schema.ts";
import { FILE_OBJECT_SHAPE, NETWORK_SHAPE, SERVICE_SHAPE, VOLUME_SHAPE } from "./shapes.ts";
import { validateFile } from "./validate.ts";
import type { ServiceVolume } from "./volume-spec.ts";

export interface LoadOptions {
  /** Absolute; what relative paths are seen from. */
  readonly workingDir: string;
  readonly interpolates: boolean;
  readonly verb: "deploy" | "config";
}

export interface LoadDeps {
  readonly lookUp: LookUp;
  /** Throws when the file cannot be read. */
  readText(path: string): string;
  warn(line: string): void;
}

interface Loading {
  readonly options: LoadOptions;
  readonly deps: LoadDeps;
  readonly version: string;
}

function versionOf(file: Dict): string {
  const said = file["version"] === undefined ? "" : textOf(file["version"]);
  return said === "" || said === "3" ? NEWEST_VERSION : said;
}

function atLeast(version: string, minor: number): boolean {
  return Number(version.split(".")[1] ?? 0) >= minor;
}

function resolveEnvironment(service: Dict, { options, deps }: Loading): Dict {
  const resolved: Record<string, string | null> = {};
  const put = (name: string, value: string | null): void => {
    const own = deps.lookUp(name);
    resolved[name] = (value === null || value === "") && own !== undefined ? own : value;
  };
  for (const file of (service["env_file"] ?? []) as readonly string[]) {
    const path = absolutePath(options.workingDir, file);
    for (const pair of parseEnvFile(path, deps.readText(path), deps.lookUp)) put(...pair);
  }
  const said = dictOf(service["environment"]);
  for (const [name, value] of Object.entries(said)) put(name, value as string | null);
  return resolved;
}

function resolveVolume(volume: ServiceVolume, { options, deps }: Loading): ServiceVolume {
  if (volume.type !== "bind") return volume;
  const { source = "" } = volume;
  if (source === "") {
    throw composeError('invalid mount config for type "bind": field Source must not be empty');
  }
  const path = expandHome(source, deps);
  const isAbsolute = path.startsWith("/") || isWindowsAbsolute(path);
  return { ...volume, source: isAbsolute ? path : absolutePath(options.workingDir, path) };
}

function expandHome(path: string, deps: LoadDeps): string {
  if (!path.startsWith("~")) return path;
  const home = deps.lookUp("HOME");
  if (home !== undefined) return home + path.slice(1);
  deps.warn("cannot expand '~', because the environment lacks HOME");
  return path;
}

function loadService(value: unknown, loading: Loading): Dict {
  const service = decodeShape(SERVICE_SHAPE, value, loading.deps);
  const environment = resolveEnvironment(service, loading);
  const volumes = service["volumes"] as readonly ServiceVolume[] | undefined;
  return {
    ...service,
    ...(Object.keys(environment).length === 0 ? {} : { environment }),
    ...(volumes === undefined
      ? {}
      : { volumes: volumes.map(volume => resolveVolume(volume, loading)) }),
    extras: extrasOf(dictOf(value)),
  };
}

interface ExternalRules {
  readonly what: string;
  readonly name: string;
  /** The minor version in which `external.name` gave way to `name`. */
  readonly since: number;
}

/** `external: {name: …}` is the old form of `external: true` with `name`. */
function settleExternal(object: Dict, rules: ExternalRules, loading: Loading): Dict {
  const said = dictOf(object["external"]);
  if (object["external"] !== true && said["external"] !== true) return object;
  const { what, name, since } = rules;
  const old = textOf(said["name"] ?? "");
  const own = textOf(object["name"] ?? "");
  if (old === "") return { ...object, external: true, name: own === "" ? name : own };
  if (own !== "") {
    throw composeError(
      `${what} ${name}: ${what}.external.name and ${what}.name conflict; only use ${what}.name`,
    );
  }
  if (atLeast(loading.version, since)) {
    loading.deps.warn(
      `${what} ${name}: ${what}.external.name is deprecated in favor of ${what}.name`,
    );
  }
  return { ...object, external: true, name: old };
}

function isExternal(object: Dict): boolean {
  return object["external"] === true || dictOf(object["external"])["external"] === true;
}

function loadNetwork(name: string, value: unknown, loading: Loading): Dict {
  const network = decodeShape(NETWORK_SHAPE, value, loading.deps);
  const settled = settleExternal(network, { what: "network", name, since: 5 }, loading);
  return isExternal(network) ? { ...settled, extras: extrasOf(dictOf(value)) } : settled;
}

function loadVolume(name: string, value: unknown, loading: Loading): Dict {
  const volume = decodeShape(VOLUME_SHAPE, value, loading.deps);
  if (!isExternal(volume)) return volume;
  for (const key of ["driver", "driver_opts", "labels"]) {
    const said = volume[key];
    const isSaid = typeof said === "string" ? said !== "" : Object.keys(dictOf(said)).length > 0;
    if (isSaid) {
      throw composeError(
        `conflicting parameters "external" and ${quoted(key)} specified for volume ${quoted(name)}`,
      );
    }
  }
  return settleExternal(volume, { what: "volume", name, since: 4 }, loading);
}

function loadFileObject(
  what: "secret" | "config",
  name: string,
  value: unknown,
  loading: Loading,
): Dict {
  const object = decodeShape(FILE_OBJECT_SHAPE, value, loading.deps);
  const extras = extrasOf(dictOf(value));
  if (isExternal(object)) {
    return { ...settleExternal(object, { what, name, since: 5 }, loading), extras };
  }
  const file = textOf(object["file"] ?? "");
  if (textOf(object["driver"] ?? "") !== "") {
    if (file === "") return { ...object, extras };
    throw composeError(
      `${what} ${name}: ${what}.driver and ${what}.file conflict; only use ${what}.driver`,
    );
  }
  return { ...object, file: absolutePath(loading.options.workingDir, file), extras };
}

type Loader = (name: string, value: unknown) => Dict;

function section(file: Dict, key: string, load: Loader): Record<string, Dict> {
  const entries = sortedEntries(dictOf(file[key])).map(([name, value]): [string, Dict] => [
    name,
    load(name, value),
  ]);
  return Object.fromEntries(entries);
}

function loadOne(raw: Dict, loading: Loading): ComposeFile {
  const { options, deps, version } = loading;
  refuseForbidden(raw, options.verb);
  const file = options.interpolates ? interpolate(raw, deps.lookUp) : raw;
  validateFile(file, version);
  return {
    version,
    services: section(file, "services", (_name, value) => loadService(value, loading)),
    networks: section(file, "networks", (name, value) => loadNetwork(name, value, loading)),
    volumes: section(file, "volumes", (name, value) => loadVolume(name, value, loading)),
    secrets: section(file, "secrets", (name, value) =>
      loadFileObject("secret", name, value, loading),
    ),
    configs: section(file, "configs", (name, value) =>
      loadFileObject("config", name, value, loading),
    ),
    extras: extrasOf(file),
  };
}

/**
 * Loads parsed compose files, each later one over what came before: variables filled in, checked
 * against the format, short forms made long, env_files read, paths made absolute.
 *
 * Throws invalid_argument in the words of the docker command line.
 */
export function loadFiles(
  raws: readonly Dict[],
  options: LoadOptions,
  deps: LoadDeps,
): ComposeFile {
  const [first, ...rest] = raws;
  if (first === undefined) throw composeError("Specify a Compose file (with --compose-file)");
  const version = versionOf(first);
  for (const other of rest) {
    if (versionOf(other) !== version) {
      throw composeError(
        `version mismatched between two composefiles : ${version} and ${versionOf(other)}`,
      );
    }
  }
  const loading = { options, deps, version };
  const [base, ...over] = raws.map(raw => loadOne(raw, loading));
  return mergeFiles(base ?? loadOne(first, loading), over);
}
