import { existsSync } from "node:fs";
import { join } from "node:path";
import { LabError } from "./errors.ts";
import { plainEnv } from "./run.ts";

/** What the lab runs on the machine. */
const PROGRAMS = ["dockerd", "docker", "iptables", "nft", "ip", "nsenter", "unshare", "mountpoint"];

/** Throws unless a lab can be started here. `swarmdBin` null: no swarmd is wanted. */
export async function checkMachine(swarmdBin: string | null): Promise<void> {
  if (process.getuid?.() !== 0) throw new LabError("the lab needs root: run it with sudo");
  const folders = (plainEnv()["PATH"] ?? "").split(":");
  const missing = PROGRAMS.filter(name => !folders.some(dir => existsSync(join(dir, name))));
  if (missing.length > 0) {
    throw new LabError(`missing: ${missing.join(", ")}. Run \`sh scripts/bootstrap.sh lab\``);
  }
  if (swarmdBin !== null && !existsSync(swarmdBin)) {
    throw new LabError(`${swarmdBin} does not exist: run \`npm run build\` first`);
  }
}
