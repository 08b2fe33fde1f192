import { type ApiVersion, atLeast } from "./version.ts";

type Json = Readonly<Record<string, unknown>>;

/** Fields that older clients cannot mean (moby daemon/server/router/swarm, adjustForAPIVersion). */
const SINCE: readonly { readonly minor: number; readonly paths: readonly string[] }[] = [
  {
    minor: 40,
    paths: [
      "TaskTemplate.ContainerSpec.Sysctls",
      "TaskTemplate.ContainerSpec.Privileges.CredentialSpec.Config",
      "TaskTemplate.ContainerSpec.Configs.Runtime",
      "TaskTemplate.Placement.MaxReplicas",
    ],
  },
  {
    minor: 41,
    paths: [
      "TaskTemplate.ContainerSpec.CapabilityAdd",
      "TaskTemplate.ContainerSpec.CapabilityDrop",
      "TaskTemplate.ContainerSpec.Ulimits",
      "TaskTemplate.Resources.Limits.Pids",
      "Mode.ReplicatedJob",
      "Mode.GlobalJob",
    ],
  },
  {
    minor: 44,
    paths: [
      "TaskTemplate.ContainerSpec.Privileges.Seccomp",
      "TaskTemplate.ContainerSpec.Privileges.AppArmor",
      "TaskTemplate.ContainerSpec.Privileges.NoNewPrivileges",
      "TaskTemplate.ContainerSpec.Healthcheck.StartInterval",
    ],
  },
  {
    minor: 46,
    paths: [
      "TaskTemplate.ContainerSpec.Mounts.TmpfsOptions.Options",
      "TaskTemplate.ContainerSpec.OomScoreAdj",
    ],
  },
  {
    minor: 52,
    paths: ["TaskTemplate.Resources.SwapBytes", "TaskTemplate.Resources.MemorySwappiness"],
  },
];

/** What was in the first API version that swarmd speaks in full. */
const ALWAYS_GATED = 41;

/**
 * The spec without what the client's version of the API does not have. What came after `newest`,
 * the newest version that can be asked for here, is kept: nobody could ask for it otherwise.
 */
export function specOfVersion(spec: Json, version: ApiVersion, newest: ApiVersion): Json {
  let kept = spec;
  for (const { minor, paths } of SINCE) {
    if (atLeast(version, minor)) continue;
    if (minor > ALWAYS_GATED && !atLeast(newest, minor)) continue;
    for (const path of paths) kept = without(kept, path.split("."));
  }
  return kept;
}

/** Go matches keys without regard to case, so do we. */
function without(value: Json, [name = "", ...rest]: readonly string[]): Json {
  const key = Object.keys(value).find(found => found.toLowerCase() === name.toLowerCase());
  if (key === undefined) return value;
  const inner = value[key];
  if (rest.length === 0) {
    const { [key]: _, ...others } = value;
    return others;
  }
  if (Array.isArray(inner)) {
    return { ...value, [key]: inner.map(item => (isObject(item) ? without(item, rest) : item)) };
  }
  return isObject(inner) ? { ...value, [key]: without(inner, rest) } : value;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
