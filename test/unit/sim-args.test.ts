import t from "tap";
import { parseSimArgs, USAGE } from "../sim/args.ts";

t.test("the simulator's command line", async t => {
  t.same(parseSimArgs([]), {
    kind: "seeds",
    seed: 1,
    seeds: 1,
    ticks: 3_000,
    trace: false,
    untilFailure: false,
  });
  t.match(parseSimArgs(["--seed", "7", "--seeds", "9", "--ticks", "20", "--trace"]), {
    kind: "seeds",
    seed: 7,
    seeds: 9,
    ticks: 20,
    trace: true,
  });
  t.same(parseSimArgs(["--mutants", "--only", "a,b", "--suites", "sim"]), {
    kind: "mutants",
    only: ["a", "b"],
    suites: ["sim"],
    seeds: 300,
    ticks: 3_000,
  });
  t.same(parseSimArgs(["--help"]), { kind: "help" });
  t.match(USAGE, /--until-failure/);
  for (const bad of [
    ["--seed", "x"],
    ["--seeds", "0"],
    ["--ticks", "1.5"],
    ["--seed", "-1"],
  ]) {
    t.throws(() => parseSimArgs(bad), { message: /seed|tick/ });
  }
  t.throws(() => parseSimArgs(["--sed", "1"]), { message: /--sed/ });
  t.throws(() => parseSimArgs(["extra"]), { message: /extra/ });
});
