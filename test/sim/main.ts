import { buildSimulator } from "./bundle.ts";
import { mutantsTable } from "./mutants/table.ts";

/**
 * `npm run sim -- --seed N [--seeds K] [--ticks M] [--trace]`, or `--mutants`: see
 * docs/design/simulator.md. A tick is a tenth of a second of simulated time.
 */
async function main(args: readonly string[]): Promise<number> {
  if (args.includes("--mutants")) return (await mutantsTable(args)) === 0 ? 0 : 1;
  const simulator = await buildSimulator();
  try {
    return (await simulator.run(args, { live: true })).code;
  } finally {
    await simulator.remove();
  }
}

process.exitCode = await main(process.argv.slice(2));
