/** What the demonstration shows: filled by the story, the watcher and the traffic, read by the screen. */

/** The fault of a host on which nothing runs. */
export const NO_POWER = "no power";

export const STEPS = [
  "hosts",
  "cluster",
  "deploy",
  "scale",
  "update",
  "power off",
  "power on",
] as const;
export type StepName = (typeof STEPS)[number];

export type Mood = "good" | "busy" | "bad" | "dim";

export interface HostRow {
  readonly name: string;
  readonly addr: string;
  /** As the cluster says: leader, manager, worker; empty before it is in one. */
  readonly role: string;
  readonly state: string;
  readonly mood: Mood;
}

export interface TaskChip {
  readonly host: string;
  readonly slot: number;
  /** For example `v1`. */
  readonly version: string;
  /** `lost`: its host has no power, whatever the cluster still believes. */
  readonly phase: "running" | "starting" | "stopping" | "failed" | "lost";
}

export interface ServiceLine {
  readonly image: string;
  readonly running: number;
  readonly replicas: number;
  /** Null while no update has been asked for. */
  readonly update: { readonly state: string; readonly done: number } | null;
}

export interface TrafficLine {
  readonly perSecond: number;
  readonly answered: number;
  /** Of the answered: those that needed another try. */
  readonly retried: number;
  readonly failed: number;
  /** Answers of the last second by version. */
  readonly shares: Readonly<Record<string, number>>;
  /** Answers a second, oldest first. */
  readonly history: readonly number[];
}

export interface EventLine {
  readonly atMs: number;
  readonly text: string;
  readonly kind: "command" | "fact" | "fault" | "result";
}

const MAX_EVENTS = 1_000;

export class Board {
  readonly startedMs = performance.now();
  readonly events: EventLine[] = [];
  /** What was done to a host and shows before the cluster notices: "swarmd killed". */
  readonly faults = new Map<string, string>();
  step: StepName = "hosts";
  finished = false;
  caption = "";
  hosts: readonly HostRow[] = [];
  tasks: readonly TaskChip[] = [];
  service: ServiceLine | null = null;
  traffic: TrafficLine | null = null;
  readonly #listeners = new Set<(event: EventLine) => void>();

  elapsedMs(): number {
    return performance.now() - this.startedMs;
  }

  say(text: string, kind: EventLine["kind"] = "fact"): void {
    const event = { atMs: this.elapsedMs(), text, kind };
    this.events.push(event);
    if (this.events.length > MAX_EVENTS) this.events.shift();
    for (const listener of this.#listeners) listener(event);
  }

  onEvent(listener: (event: EventLine) => void): void {
    this.#listeners.add(listener);
  }

  begin(step: StepName, caption: string): void {
    this.step = step;
    this.caption = caption;
  }
}
