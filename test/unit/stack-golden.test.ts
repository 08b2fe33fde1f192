import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { addStackFileCommands } from "../../cli/commands/stack-deploy.ts";
import { STACK_CASES, type StackCase } from "../golden/stack/cases.ts";
import { goldenName, outcomeOf, requestsOf, type StackOutcome } from "../golden/stack/outcome.ts";
import { runProgram } from "../support/cli-rig.ts";
import { RecordingSwarm } from "../support/recording-swarm.ts";

/**
 * `swarmd stack` makes of a compose file what `docker stack` makes of it: the same requests, the
 * same words, the same merged file. Docker's side is recorded (test/golden/stack/record.ts).
 */
const files = fileURLToPath(new URL("../golden/stack/files", import.meta.url));
const goldens = fileURLToPath(new URL("../golden/stack/goldens", import.meta.url));
/** What only swarmd says: what of a failed deployment is done. */
const PARTIAL = /^The stack is deployed in part\./;

async function outcomeHere(one: StackCase, dir: string): Promise<StackOutcome | null> {
  const swarm = new RecordingSwarm(dir, one.world ?? {});
  await swarm.listen();
  const environment = {
    HOME: files,
    DOCKER_CONFIG: join(files, "docker-config"),
    ...one.environment,
  };
  let outcome: StackOutcome | null = null;
  for (const words of one.runs) {
    const from = swarm.requests.length;
    const ran = await runProgram(
      swarm.socket,
      ["stack", ...words],
      (program, context) =>
        addStackFileCommands(program.command("stack"), context, { environment, cwd: files }),
      Buffer.from(one.input ?? ""),
    );
    const failed = ran.error !== null;
    const own = ran.err.split("\n").filter(line => !PARTIAL.test(line));
    const err = [...own, ran.error?.message ?? ""].join("\n");
    outcome = outcomeOf(
      requestsOf(swarm, from),
      { ...ran, err, failed },
      files,
      words[0] === "deploy",
    );
  }
  swarm.close();
  return outcome;
}

for (const one of STACK_CASES) {
  t.test(one.name, async t => {
    const dir = mkdtempSync(join(tmpdir(), "swarmd-stack-"));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const text = readFileSync(join(goldens, goldenName(one.name)), "utf8");
    const golden = JSON.parse(text) as StackOutcome;
    const outcome = await outcomeHere(one, dir);
    if (one.foundBefore === true) {
      t.same(outcome?.err, golden.err);
      t.same(outcome?.requests, [], "nothing is asked, nothing is made");
      return;
    }
    t.same(outcome, golden);
  });
}
