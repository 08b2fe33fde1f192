/**
 * Something to start in place of swarmd when the lab itself is tested: it takes the daemon's
 * flags, answers on the socket with what it was told, and obeys SIGTERM.
 */
import { appendFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

function flag(name) {
  const at = process.argv.indexOf(`--${name}`);
  if (at < 0) throw new Error(`--${name} is missing`);
  return process.argv[at + 1];
}

const socket = flag("socket");
const starts = join(flag("data-dir"), "starts");

appendFileSync(starts, `${process.pid}\n`);
rmSync(socket, { force: true });
createServer((request, response) => {
  response.setHeader("content-type", "application/json");
  const body = {
    path: request.url,
    docker: flag("docker-host"),
    Swarm: { LocalNodeState: "inactive" },
  };
  response.end(JSON.stringify(body));
}).listen(socket, () => process.stdout.write(`stand-in answers on ${socket}\n`));

process.on("SIGTERM", () => {
  process.stdout.write("stand-in stops\n");
  process.exit(0);
});
