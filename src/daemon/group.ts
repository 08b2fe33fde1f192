import type { PeerCertificate } from "node:tls";
import { newDeferred } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import { nodeNameOf } from "../pki/core/names.ts";
import type { RaftNode } from "../raft/ports.ts";
import { type AskGroupRequest, GroupService } from "../rpc/gen/swarmd/v1/group.ts";
import type { Handlers } from "../rpc/handlers.ts";
import { CLIENT_LIMITS, PeerChannel } from "../rpc/peer-channel.ts";
import type { Access } from "../rpc/ports.ts";
import type { StateStore } from "../state/ports.ts";

export const GROUP_ACCESS: Readonly<Record<string, Access>> = { ask: "anyone" };

/** A manager that does not answer within this counts as not there. */
const ASK_TIMEOUT_MS = 1_500;
/** Between two questions of a running manager; each goes to the next of the others. */
const ASK_EVERY_MS = 3_000;

export type GroupVerdict = "member" | "retired" | "unknown";

/**
 * What this manager says of another's membership. A removal is final once applied: a state that
 * is not older than the asker's log and lacks it has removed it, or belongs to a newer group made
 * by force or from a backup, whose indexes begin above all of the old one.
 */
export function groupHandlers(deps: {
  readonly raft: RaftNode;
  readonly store: StateStore;
}): Handlers<typeof GroupService> {
  return {
    ask: async ({ raftId, commit }) => {
      const { applied, leaderId } = deps.raft.status();
      const known = deps.store.view.table("members").get(String(raftId)) !== undefined;
      const verdict: GroupVerdict = known ? "member" : applied >= commit ? "retired" : "unknown";
      return { verdict, hasLeader: leaderId !== 0 };
    },
  };
}

export interface GroupAnswer {
  readonly addr: string;
  readonly verdict: GroupVerdict;
  readonly hasLeader: boolean;
}

export interface AskDeps {
  readonly identity: { current(): { readonly caPem: string; readonly clusterId: string } };
  readonly clock: Clock;
}

/**
 * Asks one manager. Our certificate is not shown: the manager may have removed it, or it may have
 * ended. Null when no manager of our cluster answers at the address in time.
 */
export async function askGroup(
  addr: string,
  request: AskGroupRequest,
  deps: AskDeps,
  signal: AbortSignal,
): Promise<GroupAnswer | null> {
  const { caPem, clusterId } = deps.identity.current();
  const verifyPeer = (cert: PeerCertificate): Error | undefined => {
    const name = nodeNameOf(cert.subject);
    if (name?.role === "manager" && name.clusterId === clusterId) return undefined;
    return new SwarmError("unavailable", `no manager of this cluster answers at ${addr}`);
  };
  const tls = { caPem, own: null, verifyPeer };
  const channel = new PeerChannel({ addr, tls, limits: CLIENT_LIMITS }, deps);
  try {
    const options = { signal, timeoutMs: ASK_TIMEOUT_MS };
    const { verdict, hasLeader } = await channel.unary(GroupService.ask, request, options);
    if (verdict !== "member" && verdict !== "retired")
      return { addr, verdict: "unknown", hasLeader };
    return { addr, verdict, hasLeader };
  } catch {
    signal.throwIfAborted();
    return null;
  } finally {
    channel.close();
  }
}

/** How a manager asks the others about itself. */
export interface GroupAsking extends AskDeps {
  /** The cluster ports of the others, as far as known. */
  others(): readonly string[];
  request(): AskGroupRequest;
}

/** Asks all at once; those that answered. */
export async function askAll(
  addrs: readonly string[],
  request: AskGroupRequest,
  deps: AskDeps,
  signal: AbortSignal,
): Promise<readonly GroupAnswer[]> {
  const answers = await Promise.all(addrs.map(addr => askGroup(addr, request, deps, signal)));
  return answers.filter(answer => answer !== null);
}

/**
 * Before a manager that was away takes part again: the address of one that no longer counts it, or
 * null as soon as another does under a leader, or all have answered or not in time.
 */
export async function askBeforeStart(
  asking: GroupAsking,
  signal: AbortSignal,
): Promise<string | null> {
  const known = newDeferred<string | null>();
  const all = asking.others().map(async addr => {
    const answer = await askGroup(addr, asking.request(), asking, signal);
    if (answer?.verdict === "retired") known.resolve(addr);
    if (answer?.verdict === "member" && answer.hasLeader) known.resolve(null);
  });
  Promise.all(all).then(() => known.resolve(null), known.reject);
  return known.promise;
}

/** Resolves with the address that said so when this manager turns out to be no member any more. */
export async function untilRetired(asking: GroupAsking, signal: AbortSignal): Promise<string> {
  for (let turn = 0; ; turn += 1) {
    await sleep(asking.clock, ASK_EVERY_MS, signal);
    const others = asking.others();
    const addr = others[turn % Math.max(1, others.length)];
    if (addr === undefined) continue;
    const answer = await askGroup(addr, asking.request(), asking, signal);
    if (answer?.verdict === "retired") return addr;
  }
}
