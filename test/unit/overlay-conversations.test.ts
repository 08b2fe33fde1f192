import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import type { LineListener, LinePrograms } from "../../src/overlay/commands.ts";
import { Conversations, IDLE_MS, MAX_CONVERSATIONS } from "../../src/overlay/conversations.ts";
import { countServed, parseFlows } from "../../src/overlay/core/actual.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** Answers as `nft -i` 1.0.6 and `ip -force -batch -` 6.1 do, in pieces as pipes may give them. */
class Programs implements LinePrograms {
  readonly started: string[] = [];
  readonly done: string[] = [];
  killed = 0;
  /** Of the next ones: they end instead of reading. */
  deaf = false;
  /** Says nothing any more. */
  stuck = false;
  /** Inodes of namespaces that are not as they were. */
  readonly others = new Map<string, number | null>();

  start(command: readonly string[], { onSaid, onEnded }: LineListener) {
    const text = command.join(" ");
    this.started.push(text);
    const isNft = text.includes("nft");
    let isOver = false;
    const end = (): void => {
      if (!isOver) onEnded();
      isOver = true;
    };
    if (this.deaf) setImmediate(end);
    const say = (line: string): void => {
      for (const piece of line.match(/[\s\S]{1,7}/g) ?? []) onSaid(piece);
    };
    const read = (line: string): void => {
      if (line.startsWith("swarmd_mark_")) {
        if (isNft) {
          say(`Error: syntax error, unexpected newline, expecting string\n${line}\n      ^\n`);
        } else say(`Object "${line}" is unknown, try "ip help".\nCommand failed -:3\n`);
      } else if (line.includes("nope")) {
        say(
          isNft
            ? `Error: No such file\n${line}\n    ^^^^\n`
            : `Cannot find it\nCommand failed -:2\n`,
        );
      } else this.done.push(line);
    };
    return {
      write: (input: string): void => {
        if (this.stuck) return;
        setImmediate(() => {
          for (const line of input.split("\n")) if (!isOver && line !== "") read(line);
        });
      },
      kill: async () => {
        this.killed += 1;
        end();
      },
    };
  }
}

function world() {
  const programs = new Programs();
  const clock = new VirtualClock();
  const inodeOf = async (name: string): Promise<number | null> =>
    programs.others.has(name) ? (programs.others.get(name) ?? null) : 1;
  const talks = new Conversations({ programs, inodeOf, clock, logger: silentLogger });
  return { programs, clock, talks };
}

for (const speaker of ["nft", "ip"] as const) {
  t.test(`one ${speaker} does many changes, and says which it cannot do`, async t => {
    const { programs, talks } = world();
    t.equal(await talks.ask("a", speaker, "first"), true);
    t.equal(await talks.ask("a", speaker, "second\nthird"), true);
    await t.rejects(talks.ask("a", speaker, "nope"), /No such file|Cannot find it/);
    t.equal(
      await talks.ask("a", speaker, "fourth"),
      true,
      "what was wrong before is not said again",
    );
    t.same(programs.done, ["first", "second", "third", "fourth"]);
    t.equal(programs.started.length, 1);
    t.equal(await talks.ask("b", speaker, "fifth"), true);
    t.equal(programs.started.length, 2, "each namespace has its own");
  });
}

t.test("a namespace of the same name is another one", async t => {
  const { programs, talks } = world();
  await talks.ask("a", "nft", "first");
  programs.others.set("a", 2);
  await talks.ask("a", "nft", "second");
  t.equal(programs.started.length, 2);
  t.equal(programs.killed, 1);
  programs.others.set("a", null);
  t.equal(await talks.ask("a", "nft", "third"), false, "and without one there is nothing to say");
  t.equal(talks.size, 0);
});

t.test("programs do not outlive their use", async t => {
  const { programs, clock, talks } = world();
  await talks.ask("a", "nft", "first");
  await talks.ask("a", "ip", "second");
  await talks.ask("b", "ip", "third");
  await talks.forget("a");
  t.equal(programs.killed, 2);
  clock.advance(2 * IDLE_MS);
  t.equal(talks.size, 0, "nobody asked for a while");
  for (let i = 0; i <= MAX_CONVERSATIONS; i += 1) await talks.ask(`n${i}`, "nft", "more");
  t.equal(talks.size, MAX_CONVERSATIONS, "the oldest made room");
  await talks.close();
  t.equal(programs.killed, programs.started.length);
  t.equal(await talks.ask("a", "nft", "last"), false, "no program is started after the end");
});

t.test("where a program does not listen, each change starts one", async t => {
  const { programs, talks } = world();
  programs.deaf = true;
  t.equal(await talks.ask("a", "nft", "first"), false);
  t.equal(await talks.ask("a", "nft", "second"), false);
  t.equal(programs.started.length, 1, "it is tried once");
  programs.deaf = false;
  t.equal(await talks.ask("a", "ip", "third"), true, "the other one may do");
  t.equal(await talks.ask("a", "ip", "x".repeat(100_000)), false, "and long ones go the other way");
});

t.test("a program that hangs fails the change, whose outcome is not known", async t => {
  const { programs, clock, talks } = world();
  await talks.ask("a", "nft", "first");
  programs.stuck = true;
  const asked = talks.ask("a", "nft", "second");
  await new Promise(resolve => setImmediate(resolve));
  clock.advance(30_000);
  await t.rejects(asked, { code: "unavailable" });
  programs.stuck = false;
  t.equal(await talks.ask("a", "nft", "third"), true, "another one is started");
});

t.test("flows are read from what conntrack lists", async t => {
  const text = [
    "udp      17 29 src=10.0.3.11 dst=10.0.3.2 sport=4000 dport=53 [UNREPLIED] " +
      "src=10.0.3.12 dst=10.0.3.11 sport=53 dport=4000 mark=0 use=1",
    "udp      17 12 src=fd00::11 dst=fd00::2 sport=1 dport=2 src=fd00::12 dst=fd00::11 sport=2 dport=1",
    "",
  ].join("\n");
  t.same([...parseFlows(text)], ["10.0.3.2 10.0.3.12", "fd00::2 fd00::12"]);
});

t.test("connections that a container serves are counted from its own sockets", async t => {
  const head =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
  const row = (local: string, state: string): string =>
    `   0: ${local} 0B01000A:9C40 ${state} 00000000:00000000 00:00000000 00000000     0\n`;
  const mapped = "0000000000000000FFFF00000501000A";
  const text =
    head +
    row("00000000:0050", "0A") +
    row("0501000A:0050", "01") +
    row("0501000A:0050", "03") +
    row("0501000A:0050", "08") +
    row("0501000A:0050", "06") +
    row("0501000A:D431", "01") +
    row("0100007F:0050", "01");
  t.equal(countServed(text), 2, "not what it has begun itself, nor its own, nor what has ended");
  const six = row(`${"0".repeat(32)}:1F90`, "0A") + row(`${mapped}:1F90`, "01");
  const local = row("00000000000000000000000001000000:1F90", "01");
  t.equal(countServed(text + head + six + local), 3);
  t.equal(countServed(""), 0);
});
