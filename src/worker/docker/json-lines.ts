import type { Readable } from "node:stream";
import { SwarmError } from "../../base/errors.ts";

/** A longer line is no message of the Engine's. */
const LINE_LIMIT_CHARS = 1024 * 1024;

/** The JSON values of a stream that has one a line (events, pull progress). */
export async function* readJsonLines(stream: Readable): AsyncGenerator<unknown, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    rest += decoder.decode(chunk, { stream: true });
    for (;;) {
      const end = rest.indexOf("\n");
      if (end < 0) break;
      const line = rest.slice(0, end).trim();
      rest = rest.slice(end + 1);
      if (line !== "") yield JSON.parse(line);
    }
    if (rest.length > LINE_LIMIT_CHARS) {
      throw new SwarmError("internal", "the Docker Engine sent a message without an end");
    }
  }
  if (rest.trim() !== "") yield JSON.parse(rest);
}
