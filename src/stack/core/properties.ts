import { byText, type Dict, dictOf } from "./dict.ts";
import { composeError } from "./errors.ts";

/** Keys of a service that swarm mode has no word for: passed over, told, or refused. */
const UNSUPPORTED: readonly string[] = [
  "build",
  "cgroupns_mode",
  "cgroup_parent",
  "devices",
  "domainname",
  "external_links",
  "ipc",
  "links",
  "mac_address",
  "network_mode",
  "pid",
  "privileged",
  "restart",
  "security_opt",
  "shm_size",
  "userns_mode",
];

const DEPRECATED: Readonly<Record<string, string>> = {
  container_name: "Setting the container name is not supported.",
  expose:
    "Exposing ports is unnecessary - services on the same network can access each other's " +
    "containers on any port.",
};

const BY_RESOURCES = "Set resource limits using deploy.resources";
/** Docker's words, "not implemented yet" among them: version 3 of the format has no such thing. */
const FORBIDDEN: Readonly<Record<string, string>> = {
  extends: "Support for `extends` is not implemented yet.",
  volume_driver:
    "Instead of setting the volume driver on the service, define a volume using the top-level " +
    "`volumes` option and specify the driver there.",
  volumes_from:
    "To share a volume between services, define it using the top-level `volumes` option and " +
    "reference it from each service that shares it using the service-level `volumes` option.",
  cpu_quota: BY_RESOURCES,
  cpu_shares: BY_RESOURCES,
  cpuset: BY_RESOURCES,
  mem_limit: BY_RESOURCES,
  memswap_limit: BY_RESOURCES,
};

function keysSaid(file: Dict): Set<string> {
  const services = Object.values(dictOf(file["services"]));
  return new Set(services.flatMap(service => Object.keys(dictOf(service))));
}

function told(said: ReadonlySet<string>, words: Readonly<Record<string, string>>): string[] {
  return Object.entries(words)
    .filter(([key]) => said.has(key))
    .map(([key, why]) => `${key}: ${why}`)
    .sort(byText);
}

export function refuseForbidden(file: Dict, verb: "deploy" | "config"): void {
  const forbidden = told(keysSaid(file), FORBIDDEN);
  if (forbidden.length === 0) return;
  if (verb === "config") throw composeError("Configuration contains forbidden properties");
  throw composeError(`Compose file contains unsupported options:\n\n${forbidden.join("\n\n")}\n`);
}

/** What docker says of the keys that a deployment passes over. */
export function passedOver(files: readonly Dict[]): string[] {
  const said = new Set(files.flatMap(file => [...keysSaid(file)]));
  const unsupported = UNSUPPORTED.filter(key => said.has(key)).sort(byText);
  const deprecated = told(said, DEPRECATED);
  const notes: string[] = [];
  if (unsupported.length > 0) {
    notes.push(`Ignoring unsupported options: ${unsupported.join(", ")}\n`);
  }
  if (deprecated.length > 0) {
    notes.push(`Ignoring deprecated options:\n\n${deprecated.join("\n\n")}\n`);
  }
  return notes;
}
