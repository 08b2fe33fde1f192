import type { LogFields, Logger } from "../../src/base/logger.ts";
import type { World } from "./world.ts";

const FNV_PRIME = 0x01000193;
const FNV_OFFSET = 0x811c9dc5;

/** Lines kept of what happened, and a hash of everything, told or not. */
export class Trace {
  readonly #world: World;
  readonly #full: boolean;
  readonly #maxLines: number;
  readonly #lines: string[] = [];
  #hash = FNV_OFFSET;

  /** `full` keeps every message and log line too. */
  constructor(options: { readonly full: boolean; readonly maxLines: number }, world: World) {
    this.#world = world;
    this.#full = options.full;
    this.#maxLines = options.maxLines;
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  get full(): boolean {
    return this.#full;
  }

  /** Something worth a line in every trace. */
  note(text: string): void {
    for (let i = 0; i < text.length; i += 1) this.#add(text.charCodeAt(i));
    this.#keep(text);
  }

  /** Something that only a full trace tells; `numbers` stand for it in the hash. */
  detail(text: () => string, ...numbers: readonly number[]): void {
    this.#add(Math.floor(this.#world.nowMs * 1000));
    for (const number of numbers) this.#add(number);
    if (this.#full) this.#keep(text());
  }

  /** Log lines of a process; warnings and worse in every trace. */
  logger(name: string): Logger {
    const detail = (message: string, fields?: LogFields): void =>
      this.detail(() => `${name}: ${message}${told(fields)}`, message.length);
    const note = (message: string, fields?: LogFields): void => {
      if (this.#full) this.#keep(`${name}: ${message}${told(fields)}`);
    };
    return {
      debug: detail,
      info: detail,
      warn: note,
      error: note,
      child: () => this.logger(name),
    };
  }

  #add(number: number): void {
    this.#hash = Math.imul(this.#hash ^ number, FNV_PRIME);
  }

  #keep(text: string): void {
    this.#lines.push(`${(this.#world.nowMs / 1000).toFixed(4).padStart(10)} ${text}`);
    if (this.#lines.length > 2 * this.#maxLines) this.#lines.splice(0, this.#maxLines);
  }
}

function told(fields: LogFields | undefined): string {
  return fields === undefined || Object.keys(fields).length === 0
    ? ""
    : ` ${JSON.stringify(fields)}`;
}
