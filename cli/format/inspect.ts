import { ApiError } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import { compileTemplate } from "./template.ts";

export interface InspectFlags {
  readonly pretty?: boolean;
  readonly format?: string;
}

/**
 * `inspect` of any object: JSON by default, a template, or a readable form. What was found is
 * printed even when some names are unknown; those are errors at the end, as docker does.
 */
export async function inspectObjects<T>(
  context: CliContext,
  refs: readonly string[],
  flags: InspectFlags,
  how: {
    readonly fetch: (ref: string) => Promise<T>;
    readonly pretty: (value: T, context: CliContext) => string;
  },
): Promise<void> {
  const values: T[] = [];
  const failures: string[] = [];
  for (const ref of refs) {
    try {
      values.push(await how.fetch(ref));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      failures.push(error.message);
    }
  }
  if (flags.pretty === true || flags.format === "pretty") {
    context.out(values.map(value => how.pretty(value, context)).join("\n"));
  } else if (flags.format !== undefined && flags.format !== "json") {
    const print = compileTemplate(flags.format);
    for (const value of values) context.out(`${print(value)}\n`);
  } else context.out(`${JSON.stringify(values, null, 4)}\n`);
  if (failures.length > 0) throw new CliError(failures.join("\n"));
}
