import type { Change, Commit } from "../model/change.ts";
import type { StateView } from "../model/view.ts";

/** A stream of whole commits; a reader that falls behind gets `resync` and re-reads the view. */
export type WatchEvent =
  | { readonly kind: "commit"; readonly commit: Commit }
  | { readonly kind: "resync" };

export interface Watch extends AsyncIterable<WatchEvent> {
  close(): void;
}

/** The replicated state as the rest of a manager sees it (implemented by `store.ts`). */
export interface StateStore {
  /** Live; read it synchronously, never keep it across an await. */
  readonly view: StateView;
  /**
   * Replicates one transaction; resolves with its Raft index when it is committed and applied
   * here. Rejects with SwarmError: already_exists, out_of_sequence, not_found (the state refused
   * it, nothing changed), not_leader, resource_exhausted, invalid_argument (too large), or
   * unknown_outcome (see RaftNode.propose).
   */
  submit(changes: readonly Change[], signal: AbortSignal): Promise<{ readonly index: number }>;
  /** Bounded stream of commits from now on. */
  watch(options: { readonly maxCommits: number }): Watch;
  /** Called synchronously after each applied commit, also on followers. Returns an unsubscribe. */
  onCommit(listener: (commit: Commit) => void): () => void;
  /** Called after a snapshot replaced the state. Returns an unsubscribe. */
  onRestore(listener: () => void): () => void;
}
