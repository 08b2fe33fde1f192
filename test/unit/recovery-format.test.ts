import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import { DATA_FORMAT, ensureDataFormat, MIGRATIONS } from "../../src/daemon/data-format.ts";

const deps = { logger: silentLogger };

function recordIn(dataDir: string): unknown {
  return JSON.parse(readFileSync(join(dataDir, "format.json"), "utf8"));
}

t.test("a directory says which format it has", async t => {
  const dataDir = t.testdir();
  await ensureDataFormat({ dataDir, productVersion: "0.1.0" }, deps);
  t.same(recordIn(dataDir), { format: DATA_FORMAT, by: "0.1.0" });
  await ensureDataFormat({ dataDir, productVersion: "0.2.0" }, deps);
  t.same(recordIn(dataDir), { format: DATA_FORMAT, by: "0.1.0" }, "it is left alone");
  t.same(readdirSync(dataDir), ["format.json"]);
  t.equal(MIGRATIONS.length, DATA_FORMAT - 1, "a way from every format");
});

t.test("one of a newer swarmd is refused", async t => {
  const dataDir = t.testdir({ "format.json": '{"format":7,"by":"9.9.9"}' });
  await t.rejects(ensureDataFormat({ dataDir, productVersion: "0.1.0" }, deps), {
    code: "failed_precondition",
    message: /written by swarmd 9\.9\.9 in format 7; this is swarmd 0\.1\.0, .* up to 1\. Start/,
  });
});

t.test("a damaged record is no format", async t => {
  for (const text of ["", "null", "[]", '{"format":"1"}', '{"format":0}', '{"by":"x"}']) {
    const dataDir = t.testdir({ "format.json": text });
    await t.rejects(ensureDataFormat({ dataDir, productVersion: "0.1.0" }, deps), {
      code: "data_loss",
    });
  }
});

t.test("an older one is brought on step by step, and again where it was cut short", async t => {
  const dataDir = t.testdir({ data: "one" });
  const path = join(dataDir, "data");
  let broken = true;
  const step = (from: number, word: string) => ({
    from,
    what: `write ${word}`,
    run: async () => {
      writeFileSync(path, `${readFileSync(path, "utf8")} ${word}`);
      if (from === 2 && broken) throw new Error("power loss");
    },
  });
  const options = {
    dataDir,
    productVersion: "3.0.0",
    format: 3,
    migrations: [step(1, "two"), step(2, "three")],
  };
  await t.rejects(ensureDataFormat(options, deps), /power loss/);
  t.match(recordIn(dataDir), { format: 2 });
  broken = false;
  await ensureDataFormat(options, deps);
  t.equal(readFileSync(path, "utf8"), "one two three three");
  t.same(recordIn(dataDir), { format: 3, by: "3.0.0" });
  const gap = { ...options, format: 5 };
  await t.rejects(ensureDataFormat(gap, deps), { message: /a version in between first/ });
});
