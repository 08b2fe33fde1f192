import { SwarmError } from "../../base/errors.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { boolParam } from "../query.ts";
import { writeChunk } from "../stream.ts";

/** Base64 of the passphrase, UTF-8; it must not stand in a URL. */
const PASSPHRASE_HEADER = "x-swarmd-passphrase";
const FILE_TYPE = "application/octet-stream";

async function backup(exchange: Exchange): Promise<void> {
  const { response, signal, deps } = exchange;
  // Says in Docker's words why a node that is no manager cannot.
  exchange.control();
  const file = await deps.lifecycle.backup(passphraseOf(exchange), signal);
  response.writeHead(200, { "Content-Type": FILE_TYPE });
  for await (const chunk of file) {
    if (!(await writeChunk(response, Buffer.from(chunk)))) return;
  }
  response.end();
}

async function restore(exchange: Exchange): Promise<void> {
  const { query, request, signal, deps } = exchange;
  const text = (name: string): string => query.get(name) ?? "";
  const wanted = {
    listenAddr: text("listenAddr"),
    advertiseAddr: text("advertiseAddr"),
    dataPathAddr: text("dataPathAddr"),
    passphrase: passphraseOf(exchange),
    force: boolParam(query, "force"),
  };
  exchange.reply(200, await deps.lifecycle.restore(wanted, request, signal));
}

function passphraseOf({ request }: Exchange): string {
  const value = request.headers[PASSPHRASE_HEADER];
  if (value === undefined) return "";
  const passphrase = Buffer.from(String(value), "base64").toString("utf8");
  if (passphrase !== "") return passphrase;
  throw new SwarmError(
    "invalid_argument",
    `${PASSPHRASE_HEADER}: base64 of a passphrase is needed`,
  );
}

/** swarmd's own: a cluster as a file, and back. */
export const BACKUP_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/swarmd/v1/backup", handler: backup },
  { method: "POST", pattern: "/swarmd/v1/restore", handler: restore },
];
