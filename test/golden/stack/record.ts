import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RecordingSwarm } from "../../support/recording-swarm.ts";
import { STACK_CASES, type StackCase } from "./cases.ts";
import { goldenName, outcomeOf, requestsOf, type StackOutcome } from "./outcome.ts";

/**
 * Records what docker's own command line makes of the cases:
 *
 *   tsx test/golden/stack/record.ts [WORDS OF A CASE'S NAME]
 *
 * The goldens are of docker 28.2.2; DOCKER names another program.
 */
const files = fileURLToPath(new URL("files", import.meta.url));
const goldens = fileURLToPath(new URL("goldens", import.meta.url));
const docker = process.env["DOCKER"] ?? "docker";

interface Ran {
  readonly out: string;
  readonly err: string;
  readonly failed: boolean;
}

function run(words: readonly string[], one: StackCase, socket: string): Promise<Ran> {
  const env = {
    PATH: process.env["PATH"],
    HOME: files,
    DOCKER_HOST: `unix://${socket}`,
    DOCKER_CONFIG: join(files, "docker-config"),
    ...one.environment,
  };
  return new Promise((resolve, reject) => {
    const child = spawn(docker, ["stack", ...words], { cwd: files, env });
    let [out, err] = ["", ""];
    child.stdout.on("data", chunk => {
      out += String(chunk);
    });
    child.stderr.on("data", chunk => {
      err += String(chunk);
    });
    child.on("error", reject);
    child.on("close", code => resolve({ out, err, failed: code !== 0 }));
    child.stdin.on("error", () => child.stdin.destroy());
    child.stdin.end(one.input ?? "");
  });
}

async function record(one: StackCase): Promise<StackOutcome> {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-stack-"));
  const swarm = new RecordingSwarm(dir, one.world ?? {});
  await swarm.listen();
  let outcome: StackOutcome | null = null;
  for (const words of one.runs) {
    const from = swarm.requests.length;
    const ran = await run(words, one, swarm.socket);
    outcome = outcomeOf(requestsOf(swarm, from), ran, files, words[0] === "deploy");
  }
  swarm.close();
  rmSync(dir, { recursive: true, force: true });
  if (outcome === null) throw new Error(`${one.name}: nothing to run`);
  return outcome;
}

const wanted = process.argv.slice(2).join(" ");
for (const one of STACK_CASES) {
  if (!one.name.includes(wanted)) continue;
  const outcome = await record(one);
  writeFileSync(join(goldens, goldenName(one.name)), `${JSON.stringify(outcome, null, 1)}\n`);
  process.stdout.write(`${one.name}: ${outcome.requests.length} requests\n`);
}
