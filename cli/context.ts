import type { ApiClient } from "./client.ts";

/** What a command works with; nothing else reaches the outside. */
export interface CliContext {
  client(): ApiClient;
  /** Writes to standard output as it is. */
  out(text: string): void;
  /** All of standard input, byte for byte. */
  input(): Promise<Uint8Array>;
  /** The first line of standard input; typed at a terminal it is asked for, and not shown. */
  secret(prompt: string): Promise<string>;
  /** Writes a line to standard error. */
  warn(line: string): void;
  readonly stdoutIsTty: boolean;
  readonly columns: number;
  nowMs(): number;
  sleep(ms: number): Promise<void>;
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
}
