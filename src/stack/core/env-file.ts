import { composeError } from "./errors.ts";
import type { LookUp } from "./interpolate.ts";

/**
 * The variables of an env_file: NAME=VALUE a line, # comments; a name alone takes the caller's
 * value and is left out when there is none. Throws in docker's words, naming the file.
 */
export function parseEnvFile(path: string, text: string, lookUp: LookUp): [string, string][] {
  const variables: [string, string][] = [];
  for (const raw of text.replace(/^\ufeff/, "").split(/\r?\n/)) {
    const line = raw.trimStart();
    if (line === "" || line.startsWith("#")) continue;
    const at = line.indexOf("=");
    const name = at < 0 ? line : line.slice(0, at);
    if (name === "") throw invalid(path, `no variable name on line '${line}'`);
    if (/[ \t]/.test(name)) throw invalid(path, `variable '${name}' contains whitespaces`);
    const value = at < 0 ? lookUp(name) : line.slice(at + 1);
    if (value !== undefined) variables.push([name, value]);
  }
  return variables;
}

function invalid(path: string, why: string): Error {
  return composeError(`invalid env file (${path}): ${why}`);
}
