import { SwarmError } from "../base/errors.ts";
import type { AgentPort, AssignmentChange } from "../model/assignment.ts";
import { isOverlayChange } from "../model/overlay.ts";
import type { Assignments } from "../rpc/gen/swarmd/v1/dispatcher.ts";

export interface AssignmentIntakeDeps {
  readonly agent: Pick<AgentPort, "applyAssignments" | "programmed">;
  /** The data path is as the assignments up to this number want it, and the leader waits for that. */
  readonly onProgrammed: (sequence: number) => void;
  /** The session is worth nothing any more: the next one begins with everything. */
  readonly onBroken: (error: unknown) => void;
}

/** Hands the assignments of one session to the agent, in order and each whole. */
export class AssignmentIntake {
  readonly #deps: AssignmentIntakeDeps;
  #applying: Promise<void> = Promise.resolve();
  #gathered: AssignmentChange[] = [];
  #sequence = 0;
  #programmed = 0;
  #said = 0;

  constructor(deps: AssignmentIntakeDeps) {
    this.#deps = deps;
  }

  /** A gap breaks the session. */
  take(message: Assignments): void {
    if (!message.complete && message.appliesTo !== this.#sequence) {
      const { appliesTo } = message;
      const text = `assignments apply to ${appliesTo} but this node is at ${this.#sequence}`;
      this.#deps.onBroken(new SwarmError("internal", text));
      return;
    }
    this.#sequence = message.resultsIn;
    for (const json of message.changesJson) {
      this.#gathered.push(JSON.parse(json) as AssignmentChange);
    }
    if (!message.last) return;
    const changes = this.#gathered;
    this.#gathered = [];
    this.#applying = this.#applying
      .then(() => this.#deps.agent.applyAssignments(changes, message.complete))
      .then(() => {
        const isWaitedFor = message.complete || changes.some(isOverlayChange);
        this.#follow(message.resultsIn, isWaitedFor).catch(this.#deps.onBroken);
      })
      .catch(this.#deps.onBroken);
  }

  /**
   * What the data path has followed since this was last asked, or said to be waited for; null when
   * there is nothing new.
   */
  takeProgrammed(): number | null {
    if (this.#programmed <= this.#said) return null;
    this.#said = this.#programmed;
    return this.#programmed;
  }

  /** Resolves when nothing is being applied any more. */
  async settle(): Promise<void> {
    await this.#applying.catch(() => undefined);
  }

  /** Tells the leader when the data path has followed: tasks elsewhere may wait for it to end. */
  async #follow(sequence: number, isWaitedFor: boolean): Promise<void> {
    await this.#deps.agent.programmed();
    this.#programmed = Math.max(this.#programmed, sequence);
    if (!isWaitedFor) return;
    const news = this.takeProgrammed();
    if (news !== null) this.#deps.onProgrammed(news);
  }
}
