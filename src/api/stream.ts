import type { ServerResponse } from "node:http";

/** Resolves when there is room for more; false when the client has gone. */
export async function writeChunk(
  response: ServerResponse,
  chunk: string | Buffer,
): Promise<boolean> {
  if (response.destroyed) return false;
  if (response.write(chunk)) return true;
  await new Promise<void>(resolve => {
    const done = (): void => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
  return !response.destroyed;
}
