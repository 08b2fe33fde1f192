import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import type { StateView } from "../model/view.ts";
import type { RaftNode } from "../raft/ports.ts";
import { ReplicatedStore } from "../state/store.ts";
import { type BackupHeader, encodeBackup, openBackup } from "./backup-file.ts";

export interface BackupOptions {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly productVersion: string;
  /** Empty: the file is not encrypted. */
  readonly passphrase: string;
}

/**
 * The whole state as a backup file, as of one moment after the call: it holds every write that was
 * acknowledged before. Rejects with unavailable without a quorum.
 */
export async function takeBackup(
  options: BackupOptions,
  deps: { readonly raft: RaftNode; readonly store: ReplicatedStore; readonly clock: Clock },
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const { raft, store, clock } = deps;
  await raft.readBarrier(signal);
  // State, index and term belong together: no await between them.
  const chunks = store.snapshot();
  const { passphrase, ...whose } = options;
  const { index } = store.view;
  const { term } = raft.status();
  return encodeBackup({ ...whose, index, term, takenAtMs: clock.nowMs() }, chunks, passphrase);
}

export interface LoadedBackup {
  readonly header: BackupHeader;
  readonly view: StateView;
}

/** Reads a backup to its end, so that nothing is done with one that is damaged. */
export async function loadBackup(
  source: AsyncIterable<Uint8Array>,
  passphrase: string,
  deps: { readonly clock: Clock; readonly logger: Logger },
): Promise<LoadedBackup> {
  const { header, chunks } = await openBackup(source, passphrase);
  const store = new ReplicatedStore({}, deps);
  await store.restore(chunks, header.index);
  return { header, view: store.view };
}
