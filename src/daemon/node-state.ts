import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoOf, errorMessage, SwarmError } from "../base/errors.ts";

/** What a node must remember of its membership besides its certificate. */
export interface NodeState {
  readonly format: 1;
  /** host:port. */
  readonly listenAddr: string;
  /** host:port under which others reach it. */
  readonly advertiseAddr: string;
  readonly dataPathAddr: string;
  /** How the advertised address was decided; absent: not known. */
  readonly advertised?: AdvertisedBy;
  /** Raft id of this node's present membership; 0 while it is no manager. */
  readonly raftId: number;
  /** The group has accepted it: its log must be there from now on. */
  readonly raftJoined: boolean;
  /** Cluster ports of managers, as last told; never empty. */
  readonly managers: readonly string[];
  /** The node has left: what remains on disk is to be removed. */
  readonly leaving?: boolean;
}

/** By which it is decided anew at each start. */
export interface AdvertisedBy {
  /** The daemon's `--advertise-addr` then; empty: none. */
  readonly setting: string;
  /** `init`, `join` or `restore` named the address itself. */
  readonly asked: boolean;
}

const FORMAT = 1;

/**
 * `node.json` in the data directory: present exactly while the node is in a cluster. Replaced
 * whole: written beside, synced, renamed, and the directory synced.
 */
export class NodeStateFile {
  readonly #path: string;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Null when the node is in no cluster. Throws data_loss on a file that is not ours. */
  async load(): Promise<NodeState | null> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return null;
      throw new SwarmError("failed_precondition", `${this.#path}: ${errorMessage(error)}`);
    }
    const state = parseState(text);
    if (state !== null) return state;
    throw new SwarmError(
      "data_loss",
      `${this.#path} is damaged: remove the data directory and join the cluster again`,
    );
  }

  /**
   * Throws failed_precondition when it cannot be written; the old file stays then. Saves that
   * overlap are made one after the other.
   */
  save(state: NodeState): Promise<void> {
    const saved = this.#last.then(() => this.#save(state));
    this.#last = saved.catch(() => undefined);
    return saved;
  }

  async #save(state: NodeState): Promise<void> {
    try {
      await this.#replace(`${JSON.stringify(state, null, 2)}\n`);
    } catch (error) {
      throw new SwarmError("failed_precondition", `${this.#path}: ${errorMessage(error)}`);
    }
  }

  async #replace(text: string): Promise<void> {
    const temporary = `${this.#path}.tmp`;
    try {
      const file = await open(temporary, "w", 0o600);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, this.#path);
    } finally {
      await rm(temporary, { force: true });
    }
    await syncDirectory(dirname(this.#path));
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
    await syncDirectory(dirname(this.#path));
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function parseState(text: string): NodeState | null {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof raw !== "object" || raw === null) return null;
  const fields = raw as Record<string, unknown>;
  const { format, listenAddr, advertiseAddr, dataPathAddr, raftId, managers } = fields;
  const strings = [listenAddr, advertiseAddr, dataPathAddr].every(v => typeof v === "string");
  if (format !== FORMAT || !strings || typeof raftId !== "number" || !Array.isArray(managers)) {
    return null;
  }
  return {
    format: FORMAT,
    listenAddr: String(listenAddr),
    advertiseAddr: String(advertiseAddr),
    dataPathAddr: String(dataPathAddr),
    raftId,
    raftJoined: fields["raftJoined"] === true,
    managers: managers.map(String),
    ...(fields["leaving"] === true ? { leaving: true } : {}),
    ...advertisedBy(fields["advertised"]),
  };
}

function advertisedBy(raw: unknown): Pick<NodeState, "advertised"> {
  if (typeof raw !== "object" || raw === null) return {};
  const { setting, asked } = raw as Record<string, unknown>;
  return { advertised: { setting: String(setting ?? ""), asked: asked === true } };
}
