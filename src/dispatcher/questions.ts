import { type Deferred, newDeferred, withSignal } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { NodeQuestion } from "../model/data-path.ts";
import type { Answer } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import type { NodeSession } from "./node-session.ts";

/** Questions that wait for an answer at once. */
const MAX_OPEN_QUESTIONS = 2_048;
/** A node's answer is not trusted to be small. */
const MAX_ANSWER_CHARS = 512 * 1024;

export interface QuestionsDeps {
  readonly ids: IdSource;
  readonly clock: Clock;
  readonly session: (nodeId: string) => NodeSession | undefined;
}

interface Open {
  readonly nodeId: string;
  readonly answer: Deferred<unknown>;
}

/** What the leader asks nodes over their sessions. */
export class Questions {
  readonly #deps: QuestionsDeps;
  readonly #open = new Map<string, Open>();

  constructor(deps: QuestionsDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#open.size;
  }

  /**
   * The node's answer, as it came. Throws `unavailable` when the node has no session or loses it,
   * `deadline_exceeded` when it does not answer in time, `failed_precondition` when it cannot.
   */
  async ask(
    nodeId: string,
    question: NodeQuestion,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<unknown> {
    const { ids, clock, session } = this.#deps;
    const to = session(nodeId);
    if (to === undefined) throw new SwarmError("unavailable", "the node has no session");
    if (this.#open.size >= MAX_OPEN_QUESTIONS) {
      throw new SwarmError("resource_exhausted", "too many questions to nodes; try again later");
    }
    const id = ids.newId();
    const answer = newDeferred<unknown>();
    this.#open.set(id, { nodeId, answer });
    const timer = clock.setTimer("question", timeoutMs, () => {
      const text = `the node did not answer within ${timeoutMs} ms`;
      answer.reject(new SwarmError("deadline_exceeded", text));
    });
    try {
      to.send({
        body: { $case: "ask", value: { id, questionJson: JSON.stringify(question) } },
      });
      return await withSignal(answer.promise, signal);
    } finally {
      timer.cancel();
      this.#open.delete(id);
    }
  }

  /** Taken only from the node that was asked. */
  onAnswer(nodeId: string, { id, answerJson, error }: Answer): void {
    const open = this.#open.get(id);
    if (open === undefined || open.nodeId !== nodeId) return;
    if (error !== "") open.answer.reject(new SwarmError("failed_precondition", error));
    else if (answerJson.length > MAX_ANSWER_CHARS) {
      open.answer.reject(new SwarmError("resource_exhausted", "the node's answer is too long"));
    } else open.answer.resolve(parsed(answerJson));
  }

  onSessionEnd(nodeId: string): void {
    for (const open of this.#open.values()) {
      if (open.nodeId !== nodeId) continue;
      open.answer.reject(new SwarmError("unavailable", "the node's session ended"));
    }
  }

  close(): void {
    for (const { answer } of this.#open.values()) {
      answer.reject(new SwarmError("unavailable", "the leader changed while nodes were asked"));
    }
  }
}

/** What is no JSON answers nothing. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}
