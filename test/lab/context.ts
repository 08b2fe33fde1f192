import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LabError } from "./errors.ts";

export type LabMode = "cluster" | "bare" | "engines-only";

/** What `up` was asked for, kept in `lab.json` for the commands after it. */
export interface LabConfig {
  readonly managers: number;
  readonly workers: number;
  readonly mode: LabMode;
  /** The program the hosts run with Node. */
  readonly swarmdBin: string;
  readonly engineArgs: readonly string[];
  readonly daemonArgs: readonly string[];
}

export interface LabContext {
  /** The lab's folder, an absolute path without symbolic links. */
  readonly dir: string;
  readonly config: LabConfig;
}

export function configPath(dir: string): string {
  return join(dir, "lab.json");
}

export function imagesPath(dir: string): string {
  return join(dir, "images.tar");
}

/** Holds the `swarmd` command that `exec` finds first. */
export function binPath(dir: string): string {
  return join(dir, "bin");
}

export async function saveConfig(dir: string, config: LabConfig): Promise<void> {
  await writeFile(configPath(dir), `${JSON.stringify(config, null, 2)}\n`);
}

/** Null when there is no lab. Throws when its configuration is damaged. */
export function loadConfig(dir: string): LabConfig | null {
  const path = configPath(dir);
  const text = readIfThere(path);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (isConfig(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new LabError(`${path} is damaged: run \`npm run lab -- down\``);
}

export function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

function isConfig(value: unknown): value is LabConfig {
  if (typeof value !== "object" || value === null) return false;
  const fields = value as Partial<LabConfig>;
  return (
    typeof fields.managers === "number" &&
    typeof fields.workers === "number" &&
    typeof fields.mode === "string" &&
    typeof fields.swarmdBin === "string" &&
    Array.isArray(fields.engineArgs) &&
    Array.isArray(fields.daemonArgs)
  );
}
