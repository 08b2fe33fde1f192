import { SwarmError } from "../../base/errors.ts";

/** What is wrong with a compose file, in the words of the docker command line. */
export function composeError(message: string): SwarmError {
  return new SwarmError("invalid_argument", message);
}

/** A string as Go's %q writes it, for the characters that names and templates have. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}
