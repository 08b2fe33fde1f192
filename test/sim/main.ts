import { errorMessage } from "../../src/base/errors.ts";
import { parseSimArgs, type SimCommand, USAGE } from "./args.ts";
import { buildSimulator } from "./bundle.ts";
import { mutantsTable } from "./mutants/table.ts";

const EXIT_USAGE = 2;

/** `npm run sim`; see `USAGE`. */
async function main(args: readonly string[]): Promise<number> {
  let command: SimCommand;
  try {
    command = parseSimArgs(args);
  } catch (error) {
    process.stderr.write(`sim: ${errorMessage(error)}\n${USAGE}\n`);
    return EXIT_USAGE;
  }
  if (command.kind === "help") {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (command.kind === "mutants") return (await mutantsTable(command)) === 0 ? 0 : 1;
  const simulator = await buildSimulator();
  try {
    return (await simulator.run(args, { live: true })).code;
  } finally {
    await simulator.remove();
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`sim: ${errorMessage(error)}\n`);
  process.exitCode = 1;
}
