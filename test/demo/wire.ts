/** What the demonstration and its client, a process of its own, tell each other: JSON, a line each. */

/** Where requests may go, replaced as a whole. */
export interface Backend {
  /** The task's id. */
  readonly id: string;
  readonly addr: string;
  readonly port: number;
}

export interface ClientOrder {
  readonly backends: readonly Backend[];
}

/** A try that did not succeed; the request may have been answered by another. */
export interface FailedTry {
  readonly backend: string;
  readonly why: "refused" | "no answer" | "broken off" | "bad answer";
}

/** What happened since the report before. */
export interface ClientReport {
  readonly answered: number;
  readonly retried: number;
  readonly failed: number;
  readonly byVersion: Readonly<Record<string, number>>;
  readonly failedTries: readonly FailedTry[];
}
