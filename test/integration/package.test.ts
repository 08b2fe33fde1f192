import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import t from "tap";
import packageJson from "../../package.json" with { type: "json" };
import { Lab } from "../lab/lab.ts";
import { plainEnv, run } from "../lab/run.ts";

/** What a user unpacks below /usr/local, on hosts that have nothing of the checkout. */

const CHECKOUT = resolve(import.meta.dirname, "../..");
const TIMEOUT_MS = 300_000;
const folder = mkdtempSync("/tmp/swarmd-package-test-");
const prefix = join(folder, "usr/local");
const lab = Lab.open(join(folder, "lab"));
t.setTimeout(TIMEOUT_MS);
t.teardown(async () => {
  await lab.down();
  rmSync(folder, { recursive: true, force: true });
});

async function output(...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, { env: plainEnv() });
  if (code !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout;
}

t.before(async () => {
  const files = ["a.tar.gz", "b.tar.gz"].map(name => join(folder, name));
  for (const file of files)
    await output("npm", "--prefix", CHECKOUT, "run", "-s", "package", "--", file);
  await output("cmp", ...files);
  await output("mkdir", "-p", join(prefix, "bin"));
  await output("chmod", "2775", join(prefix, "bin"));
  await output("tar", "-xzf", files[0] ?? "", "-C", prefix);
});

t.test("holds the program, its unit, its documents and completions", async t => {
  t.equal(await output(join(prefix, "bin/swarmd"), "--version"), `${packageJson.version}\n`);
  t.equal(statSync(join(prefix, "bin")).mode & 0o7777, 0o2775, "a folder there stays as it was");
  const unit = await output("cat", join(prefix, "lib/systemd/system/swarmd.service"));
  t.match(unit, /^ExecStart=\/usr\/local\/bin\/swarmd daemon$/m);
  t.same(readdirSync(join(prefix, "share/doc/swarmd")).sort(), [
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "errors.md",
    "operations.md",
  ]);
  await output("bash", "-n", join(prefix, "share/bash-completion/completions/swarmd"));
});

t.test("runs a cluster", async t => {
  await lab.up({ managers: 1, workers: 1, swarmdBin: join(prefix, "bin/swarmd") });
  const nodes = await lab.host("m1").exec(["swarmd", "node", "ls"]);
  t.match(nodes, /m1 +Ready +Active +Leader/);
  t.match(nodes, /w1 +Ready +Active/);
});
