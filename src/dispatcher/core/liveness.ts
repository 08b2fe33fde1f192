/**
 * Which nodes have been heard of lately. Time is passed in (monotonic ms). The table lives on the
 * leader only and starts empty with each term: every node known to the state then gets a full
 * grace, doubled, before silence counts (a new leader has not had the chance to hear it).
 */
export interface LivenessOptions {
  /** Silence after which a node is down. */
  readonly graceMs: number;
  /** The same for nodes a new leader has not heard yet. */
  readonly firstGraceMs: number;
  /** A check that comes later than this after the one before was held up itself. */
  readonly maxCheckGapMs: number;
}

export class Liveness {
  readonly #deadlines = new Map<string, number>();
  #options: LivenessOptions;
  #lastCheckMs: number | null = null;

  constructor(options: LivenessOptions) {
    this.#options = options;
  }

  get graceMs(): number {
    return this.#options.graceMs;
  }

  setOptions(options: LivenessOptions): void {
    this.#options = options;
  }

  /** A node the state knows and this leader has not heard yet. */
  expect(nodeId: string, monoMs: number): void {
    if (!this.#deadlines.has(nodeId)) {
      this.#deadlines.set(nodeId, monoMs + this.#options.firstGraceMs);
    }
  }

  /** Anything at all came from the node. */
  heard(nodeId: string, monoMs: number): void {
    this.#deadlines.set(nodeId, monoMs + this.#options.graceMs);
  }

  forget(nodeId: string): void {
    this.#deadlines.delete(nodeId);
  }

  /**
   * Nodes whose silence has lasted too long; each is reported once. When this process itself was
   * held up (paused, swamped), the lost time is given to every node: late timers must never expire
   * a whole cluster.
   */
  expired(monoMs: number): string[] {
    const gapMs = this.#lastCheckMs === null ? 0 : monoMs - this.#lastCheckMs;
    this.#lastCheckMs = monoMs;
    if (gapMs > this.#options.maxCheckGapMs) {
      for (const [nodeId, deadlineMs] of this.#deadlines) {
        this.#deadlines.set(nodeId, deadlineMs + gapMs);
      }
      return [];
    }
    const late = [...this.#deadlines].filter(([, deadlineMs]) => monoMs >= deadlineMs);
    for (const [nodeId] of late) this.#deadlines.delete(nodeId);
    return late.map(([nodeId]) => nodeId).sort();
  }
}
