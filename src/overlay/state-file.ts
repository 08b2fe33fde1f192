import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoOf, SwarmError } from "../base/errors.ts";

/** A JSON value in a file, replaced whole: written beside, synced, renamed. */
export class StateFile<T> {
  readonly #path: string;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Null when there is none. Throws data_loss when it is not JSON. */
  async load(): Promise<T | null> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return null;
      throw error;
    }
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw new SwarmError("data_loss", `${this.#path} is damaged`, { path: this.#path }, error);
    }
  }

  /** The value as it is when its turn comes, after the saves before it. */
  save(value: () => T): Promise<void> {
    const saved = this.#last.then(() => this.#replace(JSON.stringify(value())));
    this.#last = saved.catch(() => undefined);
    return saved;
  }

  async #replace(text: string): Promise<void> {
    const temporary = `${this.#path}.tmp`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.#path);
    const directory = await open(dirname(this.#path), "r");
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }
}
