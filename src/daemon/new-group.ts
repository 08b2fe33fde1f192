import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import { nextTurn } from "../raft/driver/turns.ts";
import type { StorageIdentity } from "../raft/storage/raft-storage.ts";
import { AesGcmSealer } from "../raft/storage/sealer.ts";
import {
  type RaftLogDeps,
  readStoredGroup,
  type StoredGroup,
  writeNewGroup,
} from "../recovery/raft-log.ts";
import type { StateImage } from "../state/core/snapshot-codec.ts";
import { syncDir } from "../tls/private-files.ts";
import { loadDek } from "./dek-file.ts";
import { raftDirOf } from "./manager.ts";

/*
 * A new group's log is written beside the old one: in `raft.building`, then, whole and durable,
 * renamed to `raft.next-ID`. It takes the old one's place when node.json names that Raft id, which
 * is the moment of the change: a crash before leaves the old group, one after the new.
 */
const BUILDING = "raft.building";
const NEXT = /^raft\.next-(\d+)$/;

interface Deps {
  readonly identity: { readonly unlockKey: string | null };
  readonly clock: Clock;
  readonly logger: Logger;
}

async function logDeps(dir: string, { identity, clock, logger }: Deps): Promise<RaftLogDeps> {
  const sealer = new AesGcmSealer({ dek: await loadDek(dir, identity.unlockKey) });
  return { sealer, clock, logger, nextTurn };
}

/** Reads the log of this node's stopped member. */
export async function readOldGroup(
  dataDir: string,
  identity: StorageIdentity,
  deps: Deps,
): Promise<StoredGroup> {
  const dir = raftDirOf(dataDir);
  return readStoredGroup({ dir, identity }, await logDeps(dir, deps));
}

/** Prepares the log that `adoptNewGroup` puts in place. */
export async function prepareNewGroup(
  dataDir: string,
  group: { readonly identity: StorageIdentity; readonly term: number; readonly image: StateImage },
  deps: Deps,
): Promise<void> {
  await eraseNewGroups(dataDir);
  const { identity, term, image } = group;
  const dir = join(dataDir, BUILDING);
  await writeNewGroup({ dir, identity, term }, image, await logDeps(dir, deps));
  await rename(dir, join(dataDir, `raft.next-${identity.raftId}`));
  await syncDir(dataDir);
}

/** Puts the prepared log of member `raftId` in place, if there is one; removes any other. */
export async function adoptNewGroup(dataDir: string, raftId: number): Promise<void> {
  for (const name of await newGroups(dataDir)) {
    if (NEXT.exec(name)?.[1] === String(raftId)) {
      await rm(raftDirOf(dataDir), { recursive: true, force: true });
      await rename(join(dataDir, name), raftDirOf(dataDir));
      await syncDir(dataDir);
    } else await rm(join(dataDir, name), { recursive: true, force: true });
  }
}

/** Removes what was prepared and never taken into use. */
export async function eraseNewGroups(dataDir: string): Promise<void> {
  for (const name of await newGroups(dataDir)) {
    await rm(join(dataDir, name), { recursive: true, force: true });
  }
}

async function newGroups(dataDir: string): Promise<readonly string[]> {
  return (await readdir(dataDir)).filter(name => name === BUILDING || NEXT.test(name));
}
