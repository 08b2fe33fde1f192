import t from "tap";
import { HostCommands } from "../../src/overlay/commands.ts";
import { MAX_INPUT_CHARS, Shells } from "../../src/overlay/shells.ts";
import { realClock } from "../../src/system/real.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const LIMITS = { env: process.env, timeoutMs: 1_000, maxOutputBytes: 1_000_000 };

t.test("a program's words, input, output and failure are its own", async t => {
  for (const commands of [new HostCommands({ clock: realClock }), new HostCommands()]) {
    const words = ["it's", 'a "b"', "$HOME `id`", "two\nlines", "", "\\n"];
    const said = await commands.run(["printf", "%s|", ...words]);
    t.equal(said, `${words.join("|")}|`);
    t.equal(await commands.run(["cat"], "one\ntwo $HOME '\n"), "one\ntwo $HOME '\n");
    t.equal(await commands.run(["cat"]), "", "no input is an end, not a wait");
    t.equal(await commands.run(["printf", "no line break"]), "no line break");
    const long = "x".repeat(MAX_INPUT_CHARS - 1);
    t.equal(await commands.run(["cat"], `${long}\n`), `${long}\n`, "more than fits a pipe's page");
    const longer = "y".repeat(3 * MAX_INPUT_CHARS);
    t.equal(await commands.run(["cat"], longer), longer, "more than a shell is given");
    const fails = ["sh", "-c", "echo out; echo why >&2; exit 3"];
    await t.rejects(commands.run(fails), { message: /^sh -c .*: why$/s });
    await t.rejects(commands.run(["sh", "-c", "exit 3"]), { message: /ended with 3$/ });
    t.equal(await commands.run(["echo", "goes on"]), "goes on\n");
  }
  const missing = new HostCommands({ clock: realClock }).run(["no-such-program"]);
  await t.rejects(missing, { code: "failed_precondition", message: /no-such-program/ });
});

t.test("programs run side by side, more than there are shells", async t => {
  const commands = new HostCommands({ clock: realClock });
  const numbers = Array.from({ length: 20 }, (_, i) => i);
  const said = await Promise.all(
    numbers.map(i => commands.run(["sh", "-c", `echo ${i}; cat`], "")),
  );
  t.same(
    said,
    numbers.map(i => `${i}\n`),
  );
});

t.test("large output comes whole, and none of it is taken for the end", async t => {
  const commands = new HostCommands({ clock: realClock });
  const script = "i=0; while [ $i -lt 20000 ]; do echo swarmd_end_$i; i=$((i+1)); done";
  const said = await commands.run(["sh", "-c", script]);
  t.equal(said.split("\n").length, 20_001);
});

t.test("a program that does not end is ended, and the next one has a shell", async t => {
  const clock = new VirtualClock();
  const shells = new Shells(LIMITS, { clock });
  const stuck = shells.run(["sleep", "1000"], "");
  await clock.advance(LIMITS.timeoutMs);
  await t.rejects(Promise.resolve(stuck), { code: "unavailable", message: "it took too long" });
  t.match(await shells.run(["echo", "on"], ""), { code: 0, stdout: "on\n" });
});

t.test("a program that says too much is ended", async t => {
  const shells = new Shells({ ...LIMITS, maxOutputBytes: 10_000 }, { clock: new VirtualClock() });
  await t.rejects(Promise.resolve(shells.run(["yes"], "")), { message: "it said too much" });
});
