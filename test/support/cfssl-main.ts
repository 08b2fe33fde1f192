import { createInterface } from "node:readline";
import type { RootCa } from "../../src/pki/ca.ts";
import { CfsslStandIn } from "./cfssl.ts";

/**
 * A program of its own: an external CA on a host. Reads its root and options as a line of JSON from
 * standard input, prints its URL, and then a line for every certificate that it was asked for. Ends
 * with its input.
 */
interface Wanted {
  readonly root: RootCa;
  readonly host: string;
  readonly port: number;
  readonly clientsPem: string;
}

const lines = createInterface({ input: process.stdin });
lines.once("line", line => {
  const { root, ...options } = JSON.parse(line) as Wanted;
  const onRequest = ({ subject, profile }: { subject: object; profile: string }): void => {
    process.stdout.write(`${JSON.stringify({ ...subject, profile })}\n`);
  };
  void CfsslStandIn.start(root, { ...options, onRequest }).then(server => {
    process.stdout.write(`${server.url}\n`);
  });
});
lines.once("close", () => process.exit(0));
