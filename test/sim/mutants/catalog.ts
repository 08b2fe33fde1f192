import type { Edit } from "./copy.ts";
import { RAFT_MUTANTS } from "./raft.ts";
import { STORAGE_MUTANTS } from "./storage.ts";

/**
 * A bug that somebody could have written, as a change of the source for one build: the product holds
 * no trace of it. It must be found, or the tests are worth less than they say.
 */
export interface Mutant {
  readonly name: string;
  /** What goes wrong, for the table. */
  readonly what: string;
  readonly edits: readonly Edit[];
  /** Found by the simulator within few seeds: `npm test` looks for it each time. */
  readonly quick: boolean;
}

export const MUTANTS: readonly Mutant[] = [...STORAGE_MUTANTS, ...RAFT_MUTANTS];
