import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { StateView } from "../model/view.ts";
import type { ConfState } from "../raft/core/types.ts";
import { LevelRaftStorage } from "../raft/storage/level-storage.ts";
import type { StorageIdentity } from "../raft/storage/raft-storage.ts";
import type { Sealer } from "../raft/storage/sealer.ts";
import { encodeImage, type StateImage } from "../state/core/snapshot-codec.ts";
import { ReplicatedStore } from "../state/store.ts";

/** Applying yields to the event loop after this many entries: the API still answers. */
const ENTRIES_PER_TURN = 64;

export interface RaftLogDeps {
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly nextTurn: () => Promise<void>;
}

/** What a member knows when it is stopped. */
export interface StoredGroup {
  readonly view: StateView;
  readonly lastIndex: number;
  readonly term: number;
}

/**
 * The state in a member's directory, its whole log applied. That includes entries the member does
 * not know to be committed: each was proposed by somebody who may have been told that it is (the
 * commit index on disk lags behind), and none contradicts a committed one. Throws data_loss.
 */
export async function readStoredGroup(
  options: { readonly dir: string; readonly identity: StorageIdentity },
  deps: RaftLogDeps,
): Promise<StoredGroup> {
  const storage = newStorage(options.dir, deps);
  const stored = await storage.open(options.identity);
  if (stored === null) {
    await storage.close();
    throw new SwarmError("data_loss", `${options.dir} holds no Raft log: restore a backup`);
  }
  try {
    const { snapshot, entries, hardState } = stored;
    const store = new ReplicatedStore({}, deps);
    if (snapshot !== null) await store.restore(storage.readSnapshot(snapshot), snapshot.index);
    for (const [i, { kind, index, data }] of entries.entries()) {
      // Who was a member does not matter any more.
      if (kind === "normal" && data.length > 0) store.apply({ index, data });
      if (i % ENTRIES_PER_TURN === 0) await deps.nextTurn();
    }
    const lastIndex = entries.at(-1)?.index ?? snapshot?.index ?? 0;
    return { view: store.view, lastIndex, term: hardState.term };
  } finally {
    await storage.close();
  }
}

/**
 * Writes a directory that its only member, `identity.raftId`, can be started from: a snapshot of
 * `image` and an empty log. Durable when it resolves. `dir` must be empty or absent.
 */
export async function writeNewGroup(
  options: { readonly dir: string; readonly identity: StorageIdentity; readonly term: number },
  image: StateImage,
  deps: RaftLogDeps,
): Promise<void> {
  const { dir, identity, term } = options;
  const storage = newStorage(dir, deps);
  if ((await storage.open(identity)) !== null) {
    await storage.close();
    throw new SwarmError("failed_precondition", `${dir} holds a Raft log already`);
  }
  try {
    const conf = soleVoter(identity.raftId);
    const meta = { index: image.index, term, conf };
    const writer = await storage.newSnapshot(meta);
    for (const chunk of encodeImage(image)) {
      if (chunk.length > 0) await writer.write(chunk);
      await deps.nextTurn();
    }
    await writer.commit();
    const hardState = { term, vote: 0, commit: image.index };
    await storage.create(identity, { snapshot: meta, hardState, entries: [] });
  } finally {
    await storage.close();
  }
}

function newStorage(dir: string, { sealer, clock }: RaftLogDeps): LevelRaftStorage {
  return new LevelRaftStorage({ dir, keepOldSnapshots: 0 }, { sealer, clock });
}

function soleVoter(raftId: number): ConfState {
  return { voters: [raftId], learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false };
}
