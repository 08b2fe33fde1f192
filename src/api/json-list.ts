import type { ServerResponse } from "node:http";
import { writeChunk } from "./stream.ts";

/** Items turned into JSON before other work gets a turn. */
const ITEMS_PER_TURN = 200;

/**
 * Writes a JSON array, in slices when it is long: it neither holds the event loop nor stands in
 * memory as one text. A client that reads slowly holds the writing back.
 */
export async function replyList<T>(
  response: ServerResponse,
  items: readonly T[],
  toJson: (item: T) => unknown,
): Promise<void> {
  const textOf = (slice: readonly T[]): string =>
    slice.map(item => JSON.stringify(toJson(item))).join(",");
  if (items.length <= ITEMS_PER_TURN) {
    const body = Buffer.from(`[${textOf(items)}]\n`);
    response.writeHead(200, {
      "Content-Type": "application/json",
      "Content-Length": body.length,
    });
    response.end(body);
    return;
  }
  response.writeHead(200, { "Content-Type": "application/json" });
  for (let at = 0; at < items.length; at += ITEMS_PER_TURN) {
    const slice = textOf(items.slice(at, at + ITEMS_PER_TURN));
    if (!(await writeChunk(response, (at === 0 ? "[" : ",") + slice))) return;
    await new Promise<void>(resolve => setImmediate(resolve));
  }
  response.end("]\n");
}
