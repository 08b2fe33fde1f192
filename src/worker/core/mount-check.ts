import { SwarmError } from "../../base/errors.ts";
import type { Mount } from "../../model/service-spec.ts";

/**
 * What only the node that runs a task checks of its mounts, in the words of moby's executor
 * (daemon/cluster/executor/container/validate.go). Throws invalid_argument: the task is rejected.
 */
export function checkMounts(mounts: readonly Mount[]): void {
  for (const mount of mounts) checkMount(mount);
}

function checkMount({ Type: type, Source: source = "", Target: target = "" }: Mount): void {
  if (!isAbsolute(target)) {
    throw refusal(`invalid mount target, must be an absolute path: ${target}`);
  }
  if (type === "bind" && !isAbsolute(source)) {
    throw refusal(`invalid bind mount source, must be an absolute path: ${source}`);
  }
  if (type === "volume" && isAbsolute(source)) {
    throw refusal(`invalid volume mount source, must not be an absolute path: ${source}`);
  }
  if (type === "tmpfs" && source !== "") {
    throw refusal("invalid tmpfs source, source must be empty");
  }
}

function isAbsolute(path: string): boolean {
  return path.startsWith("/");
}

function refusal(message: string): SwarmError {
  return new SwarmError("invalid_argument", message);
}
