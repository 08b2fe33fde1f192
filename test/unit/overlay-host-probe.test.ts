import t from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import type { Commands } from "../../src/overlay/commands.ts";
import { HostProbe } from "../../src/overlay/host-probe.ts";

/** A host on which every program works, but for those that are taken away. */
class Host implements Commands {
  readonly lacks = new Set<string>();
  runs = 0;

  async run(command: readonly string[]): Promise<string> {
    this.runs += 1;
    const [program = ""] = command;
    if (!this.lacks.has(program)) return "";
    throw new SwarmError("failed_precondition", `${program}: not found`);
  }
}

/** What the probe says of a program that is not there needs root to be looked for. */
const skip = process.getuid?.() === 0 ? false : "needs root";

t.test("a host that has everything is looked at once", { skip }, async t => {
  const host = new Host();
  const probe = new HostProbe({ commands: host });
  const [first, second] = await Promise.all([probe.facts(), probe.facts()]);
  t.same(first, { problem: "", ipv6: true, wireguard: "", sctp: "", warnings: [] });
  t.equal(second, first);
  const { runs } = host;
  t.equal(await probe.facts(), first);
  t.equal(host.runs, runs, "nothing was run again");
});

t.test("one that lacks something is looked at again", { skip }, async t => {
  for (const [program, lack] of [
    ["nft", { problem: /missing programs: nft/ }],
    ["wg", { problem: "", wireguard: /missing program: wg/ }],
    ["conntrack", { problem: "", wireguard: "", warnings: [/no conntrack: /] }],
  ] as const) {
    const host = new Host();
    host.lacks.add(program);
    const probe = new HostProbe({ commands: host });
    t.match(await probe.facts(), lack, program);
    host.lacks.clear();
    t.same(await probe.facts(), { problem: "", ipv6: true, wireguard: "", sctp: "", warnings: [] });
  }
});

t.test("what of SCTP the kernel lacks is named", { skip }, async t => {
  const host = new Host();
  host.lacks.add("test");
  const probe = new HostProbe({ commands: host });
  t.match(await probe.facts(), { sctp: /tracks no SCTP connections/ });
  host.lacks.add("sh");
  t.match(await new HostProbe({ commands: host }).facts(), { sctp: /the kernel has no SCTP/ });
});
