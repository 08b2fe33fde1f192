/** A failure the user can act on; its message is printed as it is. */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.name = "CliError";
    this.exitCode = exitCode;
  }
}

/** Exit codes: 0 done, 1 the daemon refused or something failed, 2 the command was misused. */
export const EXIT_USAGE = 2;
