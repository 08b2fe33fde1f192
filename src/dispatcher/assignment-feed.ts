import type { Clock, Timer } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Commit, RowEvent } from "../model/change.ts";
import type { StateView } from "../model/view.ts";
import { concernsNodes } from "./core/assignments.ts";
import type { NetworkTables } from "./core/network-tables.ts";
import { News, type Round } from "./core/news.ts";
import type { NodeSession } from "./node-session.ts";
import type { TaskEnds } from "./task-ends.ts";

/** Telling gives the event loop a turn after this long. */
const MAX_SLICE_MS = 10;
/** A round that took long is not followed by the next one at once: more commits share that one. */
const PAUSE_PER_WORK = 2;
/** SwarmKit gathers as long at all times (dispatcher.go, batchingWaitTime). */
const MAX_PAUSE_MS = 100;

export interface AssignmentFeedDeps {
  readonly view: StateView;
  readonly clock: Clock;
  readonly logger: Logger;
  /** By node. */
  readonly sessions: ReadonlyMap<string, NodeSession>;
  readonly tables: NetworkTables;
  readonly ends: TaskEnds;
}

/**
 * Tells every node what commits change for it: at once when there is little to do, and in rounds
 * with pauses between when there is much, so that neither the event loop nor the processor is taken
 * up by it. What a node is told is the difference to what it knows, as of when it is told.
 */
export class AssignmentFeed {
  readonly #deps: AssignmentFeedDeps;
  #news = new News();
  #timer: Timer | null = null;
  #isTelling = false;
  #tookMs = 0;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(deps: AssignmentFeedDeps) {
    this.#deps = deps;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  onCommit(commit: Commit): void {
    const { ends, tables, view } = this.#deps;
    for (const event of commit.events) {
      if (event.table !== "tasks") continue;
      if (concernsNodes(event.before, event.after)) this.#addTask(event);
      if (ends.observe(event.before, event.after)) this.#news.addEnding(event.id);
    }
    this.#news.addNetwork(tables.observe(commit, view));
    this.#next();
  }

  /** Notes a task under the nodes it was and is on. */
  #addTask({ id, before, after }: Extract<RowEvent, { table: "tasks" }>): void {
    for (const row of [before, after]) {
      if (row !== null && row.nodeId !== "") this.#news.addTask(id, row.nodeId);
    }
  }

  #next(): void {
    if (this.#isTelling || this.#timer !== null || this.#stopped || this.#news.isEmpty) return;
    const waitMs = this.#notBeforeMs - this.#deps.clock.monoMs();
    if (waitMs <= 0) this.#begin();
    else this.#after(waitMs, () => this.#begin());
  }

  #begin(): void {
    const round = this.#news.take();
    this.#news = new News();
    this.#isTelling = true;
    this.#tookMs = 0;
    this.#tell(round, round.nodeIds ?? [...this.#deps.sessions.keys()], 0);
  }

  /** Tells the nodes from that place of the list on. */
  #tell(round: Round, nodeIds: readonly string[], from: number): void {
    const { clock } = this.#deps;
    const startMs = clock.monoMs();
    let at = from;
    while (at < nodeIds.length) {
      this.#tellOne(round, nodeIds[at] ?? "");
      at += 1;
      if (clock.monoMs() - startMs >= MAX_SLICE_MS) break;
    }
    this.#tookMs += clock.monoMs() - startMs;
    if (at < nodeIds.length) this.#after(0, () => this.#tell(round, nodeIds, at));
    else this.#end(round);
  }

  /** A node that cannot be told loses its session, and comes again for everything. */
  #tellOne({ tasksOf, network, ending }: Round, nodeId: string): void {
    const { sessions, view, ends, logger } = this.#deps;
    const session = sessions.get(nodeId);
    if (session === undefined) return;
    try {
      const sequence = session.sendIncremental(view, tasksOf(nodeId), network);
      if (sequence !== null) ends.sent(ending, session.id, sequence);
    } catch (error) {
      logger.error("a node could not be told of its tasks", {
        node: nodeId,
        error: errorMessage(error),
      });
      session.close(error);
    }
  }

  #end({ ending }: Round): void {
    this.#isTelling = false;
    const pauseMs = Math.min(MAX_PAUSE_MS, this.#tookMs * PAUSE_PER_WORK);
    this.#notBeforeMs = this.#deps.clock.monoMs() + pauseMs;
    if (ending.length > 0) this.#deps.ends.told(ending);
    this.#next();
  }

  #after(delayMs: number, fn: () => void): void {
    if (this.#stopped) return;
    this.#timer = this.#deps.clock.setTimer("assignments", delayMs, () => {
      this.#timer = null;
      fn();
    });
  }
}
