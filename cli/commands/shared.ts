import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { CliError, EXIT_USAGE } from "../errors.ts";

/** Gathers a repeatable flag. */
export function collect(value: string, all: readonly string[]): readonly string[] {
  return [...all, value];
}

export function addListFlags(command: Command): Command {
  return command
    .option("-f, --filter <key=value>", "filter output, repeatable", collect, [])
    .option("--format <template>", "'table', 'json' or a Go template")
    .option("--json", "one JSON object a line")
    .option("-q, --quiet", "only display IDs");
}

/** `key=value` words as a map; a word without `=` gets an empty value, as docker's labels. */
export function parseLabels(words: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const word of words) {
    const at = word.indexOf("=");
    const key = at < 0 ? word : word.slice(0, at);
    if (key === "") throw new CliError(`invalid label '${word}': empty name`, EXIT_USAGE);
    labels[key] = at < 0 ? "" : word.slice(at + 1);
  }
  return labels;
}

/** Does `work` for each; goes on after a failure and reports all of them at the end (exit 1). */
export async function eachOf(
  context: CliContext,
  refs: readonly string[],
  work: (ref: string) => Promise<void>,
): Promise<void> {
  const failures: string[] = [];
  for (const ref of refs) {
    try {
      await work(ref);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      failures.push(error.message);
    }
    if (context.signal.aborted) break;
  }
  if (failures.length > 0) throw new CliError(failures.join("\n"));
}
