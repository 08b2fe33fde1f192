import { SwarmError } from "../../base/errors.ts";
import { encodeConfChange } from "../core/conf-change-codec.ts";
import {
  EMPTY_CONF_STATE,
  type RaftCoreApi,
  type RaftInitialState,
  type Transition,
} from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";
import {
  type AppendBatch,
  EMPTY_BATCH,
  type StorageIdentity,
  type StoredState,
} from "../storage/raft-storage.ts";
import { encodePeer } from "./member-context.ts";
import { coreConfig, type DriverDeps, type DriverOptions } from "./options.ts";

/** The term in which a cluster's first member is taken to have been elected. */
const FIRST_TERM = 1;

export interface LoadedMember {
  readonly core: RaftCoreApi;
  readonly initial: RaftInitialState;
}

/**
 * Opens the storage as `options.start` says, restores the state machine from the snapshot and
 * builds the core. What is committed after the snapshot is applied when the driver runs.
 */
export async function loadMember(options: DriverOptions, deps: DriverDeps): Promise<LoadedMember> {
  const { storage, stateMachine, rng, log } = deps;
  const identity = { clusterId: options.clusterId, raftId: options.self.raftId };
  const stored = await storage.open(identity);
  try {
    const state =
      stored === null ? await create(options, deps, identity) : checked(options, stored);
    const { hardState, snapshot, entries } = state;
    if (snapshot !== null) {
      await stateMachine.restore(storage.readSnapshot(snapshot), snapshot.index);
    }
    const initial: RaftInitialState = {
      hardState,
      snapshot,
      entries,
      conf: snapshot?.conf ?? EMPTY_CONF_STATE,
      applied: snapshot?.index ?? 0,
    };
    const trace = (transition: Transition): void => log.debug("raft transition", { ...transition });
    return { core: deps.createCore(coreConfig(options), { rng, initial, trace }), initial };
  } catch (error) {
    await storage.close();
    throw error;
  }
}

function checked(options: DriverOptions, stored: StoredState): StoredState {
  if (options.start !== "bootstrap") return stored;
  throw new SwarmError(
    "failed_precondition",
    "the data directory holds a cluster already: a new one needs an empty directory",
  );
}

async function create(
  options: DriverOptions,
  deps: DriverDeps,
  identity: StorageIdentity,
): Promise<StoredState> {
  if (options.start === "restart") {
    throw new SwarmError(
      "data_loss",
      `the Raft log of member ${identity.raftId} is gone. It must not come back under this id: ` +
        "remove this node from the cluster and join it again, or restore a backup",
      { raftId: identity.raftId },
    );
  }
  const first = options.start === "bootstrap" ? firstEntries(options.self) : EMPTY_BATCH;
  await deps.storage.create(identity, first);
  const hardState = first.hardState ?? { term: 0, vote: 0, commit: 0 };
  return { identity, hardState, snapshot: null, entries: first.entries };
}

/** The log of a new cluster begins with its first member, committed by definition. */
function firstEntries(self: PeerInfo): AppendBatch {
  const data = encodeConfChange({
    transition: "auto",
    changes: [{ op: "add-voter", id: self.raftId }],
    context: encodePeer(self),
  });
  return {
    snapshot: null,
    hardState: { term: FIRST_TERM, vote: 0, commit: 1 },
    entries: [{ index: 1, term: FIRST_TERM, kind: "conf-change", data }],
  };
}
