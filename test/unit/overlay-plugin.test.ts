import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { PluginServer } from "../../src/overlay/plugin-server.ts";

/** What the Engine is told when its plugin cannot do what it asks. */

function post(socketPath: string, path: string): Promise<{ status: number; body: unknown }> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, path, method: "POST" }, answer => {
      let text = "";
      answer.on("data", chunk => {
        text += String(chunk);
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: JSON.parse(text) }));
    });
    request.on("error", reject);
    request.end("{}");
  });
}

t.test("a refusal reaches network and IPAM drivers in their own words", async t => {
  // Not tap's folder: a socket's path has 107 bytes at most, and what is longer is cut.
  const dir = mkdtempSync(join(tmpdir(), "swarmd-plugin-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const socketPath = join(dir, "plugin.sock");
  const refuse = async (): Promise<object> => {
    throw new SwarmError("resource_exhausted", "address 10.0.1.9 is in use");
  };
  const methods = { "IpamDriver.RequestAddress": refuse };
  const server = new PluginServer({ socketPath, methods }, { logger: silentLogger });
  await server.listen();
  t.teardown(() => server.close());
  t.same(await post(socketPath, "/IpamDriver.RequestAddress"), {
    status: 200,
    body: { Err: "address 10.0.1.9 is in use", Error: "address 10.0.1.9 is in use" },
  });
  t.match(await post(socketPath, "/IpamDriver.Other"), { status: 404 });
});
