import type { Value, WriteRecord } from "./history.ts";

/**
 * What an object may be, as its one client knows from its own requests in their order. An update
 * names the version that it read, so a later acknowledged one makes an earlier unknown one void; a
 * creation and a removal name none and may still come true.
 */
export class Register {
  /** In the order in which they may have come about; the newest last. */
  #possible: readonly Value[] = [null];

  get possible(): readonly Value[] {
    return this.#possible;
  }

  wrote(write: Pick<WriteRecord, "action" | "outcome" | "value">): void {
    if (write.outcome === "refused") return;
    if (write.outcome === "unknown") {
      this.#possible = [...this.#possible.filter(value => value !== write.value), write.value];
      return;
    }
    const open = this.#possible.at(-1);
    const removalOpen = write.action === "update" && open === null && this.#possible.length > 1;
    this.#possible = removalOpen ? [write.value, null] : [write.value];
  }

  /** False, and nothing learned, when it cannot be so. */
  saw(value: Value): boolean {
    const at = this.#possible.indexOf(value);
    if (at < 0) return false;
    this.#possible = this.#possible.slice(at);
    return true;
  }
}
