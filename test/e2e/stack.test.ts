import t from "tap";
import {
  containersOf,
  labUnavailable,
  must,
  startLab,
  swarmd,
  until,
  untilRunning,
} from "../support/e2e.ts";

/** Compose files on a real cluster, by `swarmd` alone. */
const TIMEOUT_MS = 300_000;
const APP = "swarmd/app:1";
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

t.test("a stack is deployed, redeployed, pruned and removed", { skip }, async t => {
  const lab = await startLab(t, "stack", { managers: 1, workers: 0 });
  const hosts = lab.hosts();
  const m1 = lab.host("m1");
  const file = (replicas: number, more = ""): string =>
    `services: {app: {image: "${APP}", deploy: {replicas: ${replicas}}}${more}}`;
  const deploy = async (input: string, ...flags: string[]): Promise<string> => {
    const result = await swarmd(m1, ["stack", "deploy", "-c", "-", ...flags, "st"], { input });
    t.equal(result.code, 0, result.stderr);
    return result.stdout;
  };
  const other = `, other: {image: "${APP}", networks: [own]}}\nnetworks: {own: `;
  t.equal(
    await deploy(file(1, other)),
    "Creating network st_default\nCreating network st_own\n" +
      "Creating service st_app\nCreating service st_other\n",
  );
  await untilRunning(m1, "st_app", 1);
  const [before] = await untilRunning(m1, "st_other", 1);
  t.match(await deploy(file(2), "--prune"), /^Removing service st_other\nUpdating service st_app/);
  await untilRunning(m1, "st_app", 2);
  await until("the pruned task is gone", async () => {
    const all = await Promise.all(hosts.map(containersOf));
    return !all.flat().some(one => one.labels["com.docker.swarm.task.id"] === before?.ID);
  });
  const failed = await swarmd(m1, ["stack", "deploy", "-c", "-", "st"], {
    input: file(3, `, bad: {image: "${APP}", networks: [nowhere]}`),
  });
  t.match(failed, { code: 1, stdout: "", stderr: 'service bad: undefined network "nowhere"\n' });
  t.equal((await untilRunning(m1, "st_app", 2)).length, 2, "nothing was changed");
  t.match(await must(m1, "stack", "rm", "st"), /^Removing service st_app$/m);
});
