import type { Command } from "commander";

/** `swarmd daemon`: loads the daemon only when it is asked for. */
export function addDaemonCommand(program: Command): void {
  program
    .command("daemon")
    .description("Run the daemon in the foreground")
    .allowUnknownOption()
    .argument("[flags...]", "see `swarmd daemon --help`")
    .helpOption(false)
    .action(async (flags: string[]) => {
      const { runDaemon } = await import("../../src/daemon/main.ts");
      // Everything has ended in order; a timer of a call that is over must not hold the process.
      process.exit(await runDaemon(flags));
    });
}
