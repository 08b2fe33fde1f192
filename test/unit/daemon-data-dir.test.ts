import { stat } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { lockDataDir } from "../../src/daemon/data-dir.ts";

t.test("the data directory is made, with all above it, for its owner only", async t => {
  const dir = join(t.testdir(), "a", "b", "c");
  const lock = await lockDataDir(dir);
  t.equal((await stat(dir)).mode & 0o777, 0o700);
  await t.rejects(lockDataDir(dir), { code: "failed_precondition", message: /another swarmd/ });
  await lock.release();
  await (await lockDataDir(dir)).release();
});

t.test("one that cannot be made is refused at once", async t => {
  const dir = t.testdir({ file: "x" });
  for (const path of ["/proc/nope", "/proc/nope/deeper", join(dir, "file"), join(dir, "file/x")]) {
    await t.rejects(lockDataDir(path), {
      code: "failed_precondition",
      message: /cannot use the data directory/,
    });
  }
});
