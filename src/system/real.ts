import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import { pino } from "pino";
import type { Clock, Timer } from "../base/clock.ts";
import { type IdSource, RngIdSource } from "../base/ids.ts";
import type { LogFields, Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";

/** The only place that touches the process' clock and timers. */
export const realClock: Clock = {
  nowMs: () => Date.now(),
  monoMs: () => performance.now(),
  setTimer: (_name: string, delayMs: number, fn: () => void): Timer => {
    const handle = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** The kernel's randomness, fetched in blocks. */
export class KernelRng implements Rng {
  static readonly #BLOCK_BYTES = 1024;
  #block = randomBytes(KernelRng.#BLOCK_BYTES);
  #offset = 0;

  uint32(): number {
    if (this.#offset + 4 > this.#block.length) {
      this.#block = randomBytes(KernelRng.#BLOCK_BYTES);
      this.#offset = 0;
    }
    const value = this.#block.readUInt32LE(this.#offset);
    this.#offset += 4;
    return value;
  }
}

export function newIdSource(): IdSource {
  return new RngIdSource(new KernelRng());
}

export type LogLevel = "debug" | "info" | "warn" | "error";

/** JSON lines on standard error through pino. */
export function newLogger(options: { readonly level: LogLevel }): Logger {
  const destination = pino.destination({ dest: 2, sync: true });
  const root = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
    },
    destination,
  );
  return wrap(root);
}

function wrap(log: pino.Logger): Logger {
  return {
    debug: (message: string, fields: LogFields = {}) => log.debug(fields, message),
    info: (message: string, fields: LogFields = {}) => log.info(fields, message),
    warn: (message: string, fields: LogFields = {}) => log.warn(fields, message),
    error: (message: string, fields: LogFields = {}) => log.error(fields, message),
    child: (fields: LogFields) => wrap(log.child(fields)),
  };
}
