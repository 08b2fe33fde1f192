import { join, resolve } from "node:path";
import { must } from "../lab/run.ts";

const CHECKOUT = resolve(import.meta.dirname, "../..");
const BUILD_TIMEOUT_MS = 120_000;

/** Builds the checkout and returns the program; what SWARMD_BIN names is taken as it is. */
export async function buildSwarmd(): Promise<string> {
  const given = process.env["SWARMD_BIN"];
  if (given !== undefined && given !== "") return resolve(given);
  const script = join(CHECKOUT, "scripts/build.ts");
  const program = [process.execPath, "--import=tsx", script];
  await must("build", program, { timeoutMs: BUILD_TIMEOUT_MS });
  return join(CHECKOUT, "dist/swarmd.js");
}
