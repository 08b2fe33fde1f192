import { errorMessage, SwarmError } from "../base/errors.ts";
import type { NodeQuestion } from "../model/data-path.ts";
import type { Answer, Ask } from "../rpc/gen/swarmd/v1/dispatcher.ts";

/** Answers what managers ask of this node's data path. Throws what the asker is to read. */
export type AnswerSource = (question: NodeQuestion, signal: AbortSignal) => Promise<object>;

/** Questions that are worked on at once; more are refused. */
const MAX_AT_ONCE = 16;

/** The questions of one session; those of a session that ends are given up. */
export class Answers {
  readonly #source: AnswerSource;
  readonly #ended = new AbortController();
  #atWork = 0;

  constructor(source: AnswerSource) {
    this.#source = source;
  }

  /** Never rejects: what went wrong is the answer. */
  async to({ id, questionJson }: Ask): Promise<Answer> {
    if (this.#atWork >= MAX_AT_ONCE) return refusal(id, "the node is asked too much at once");
    this.#atWork += 1;
    try {
      const question = JSON.parse(questionJson) as NodeQuestion;
      const answer = await this.#source(question, this.#ended.signal);
      return { id, answerJson: JSON.stringify(answer), error: "" };
    } catch (error) {
      return refusal(id, errorMessage(error));
    } finally {
      this.#atWork -= 1;
    }
  }

  close(): void {
    this.#ended.abort(new SwarmError("canceled", "the session ended"));
  }
}

function refusal(id: string, error: string): Answer {
  return { id, answerJson: "", error: error === "" ? "no reason was given" : error };
}

/** For nodes without a data path. */
export const noAnswers: AnswerSource = () => {
  throw new SwarmError("failed_precondition", "overlay networks are off on this node");
};
