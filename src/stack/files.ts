import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Dict } from "./core/dict.ts";
import { composeError } from "./core/errors.ts";
import { loadFiles } from "./core/load.ts";
import type { ComposeFile } from "./core/model.ts";
import { serviceOf } from "./core/model.ts";
import { checkImage } from "./core/names.ts";
import { passedOver } from "./core/properties.ts";
import { readYaml } from "./yaml-read.ts";

export interface StackFileOptions {
  /** Paths; "-" is standard input. Relative paths in the files are seen from the first one's folder. */
  readonly files: readonly string[];
  readonly interpolates?: boolean;
  readonly verb: "deploy" | "config";
}

export interface StackFileDeps {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  input(): Promise<Uint8Array>;
  /** A line for the user that is no failure. */
  warn(line: string): void;
}

/** What the system calls a failure to read, in Go's words. */
const WHY: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  ENOTDIR: "not a directory",
  ELOOP: "too many levels of symbolic links",
  ENAMETOOLONG: "file name too long",
};

/** Throws invalid_argument in docker's words when the file cannot be read. */
export function readBytes(path: string, shown = path): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (code === "EISDIR") throw composeError(`read ${shown}: is a directory`);
    throw composeError(`open ${shown}: ${WHY[code] ?? message}`);
  }
}

async function readAll(options: StackFileOptions, deps: StackFileDeps): Promise<Dict[]> {
  const dicts: Dict[] = [];
  for (const file of options.files) {
    const bytes = file === "-" ? await deps.input() : readBytes(resolve(deps.cwd, file), file);
    dicts.push(readYaml(Buffer.from(bytes).toString("utf8")));
  }
  return dicts;
}

/**
 * Loads compose files as `docker stack deploy` and `docker stack config` do; for a deployment the
 * keys that are passed over are told, and every service must have an image.
 *
 * Throws invalid_argument in the words of the docker command line.
 */
export async function loadStackFiles(
  options: StackFileOptions,
  deps: StackFileDeps,
): Promise<ComposeFile> {
  const [first] = options.files;
  if (first === undefined) throw composeError("Specify a Compose file (with --compose-file)");
  const workingDir =
    first === "-" && options.files.length === 1 ? deps.cwd : dirname(resolve(deps.cwd, first));
  const dicts = await readAll(options, deps);
  const file = loadFiles(
    dicts,
    { workingDir, interpolates: options.interpolates ?? true, verb: options.verb },
    {
      lookUp: name => deps.environment[name],
      readText: path => readBytes(path).toString("utf8"),
      warn: line => deps.warn(line),
    },
  );
  if (options.verb === "deploy") {
    for (const note of passedOver(dicts)) deps.warn(note);
    for (const [name, service] of Object.entries(file.services)) {
      checkImage(name, serviceOf(service).image ?? "");
    }
  }
  return file;
}
