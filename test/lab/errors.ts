/** The lab could not do what it was asked to; the command line exits with 1. */
export class LabError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "LabError";
  }
}

/** The request itself is wrong; the command line exits with 2. */
export class UsageError extends LabError {
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}
