import type { Change } from "../model/change.ts";
import type { StateView } from "../model/view.ts";
import type { RaftView } from "./operations.ts";
import type { MembershipPort, NodeAsker, TokenSource } from "./ports.ts";

/** What an operation works with. Reads are of the live view, synchronously. */
export interface OperationContext {
  readonly view: StateView;
  readonly nowMs: number;
  readonly members: MembershipPort;
  readonly tokens: TokenSource;
  readonly signal: AbortSignal;
  /** Null while this manager does not lead. */
  readonly asker: NodeAsker | null;
  /** Gives others the event loop when it is their turn; rejects when the signal has aborted. */
  pause(): Promise<void>;
  status(): RaftView;
  /** Replicates one transaction; rejects as StateStore.submit. */
  submit(changes: readonly Change[]): Promise<void>;
  /** Runs `work` alone among the writes that name one of `keys`. */
  exclusive<T>(keys: readonly string[], work: () => Promise<T>): Promise<T>;
}
