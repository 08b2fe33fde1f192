import { SwarmError } from "../../base/errors.ts";
import { swarmDto } from "../dto/swarm.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { NODE_STATE_TEXT, noManager } from "../node-state.ts";
import { badVersion, boolParam, strictBoolParam, versionParam } from "../query.ts";
import {
  decodeInitRequest,
  decodeJoinRequest,
  readInitRequest,
  readJoinRequest,
} from "../swarm-requests.ts";

async function inspect(exchange: Exchange): Promise<void> {
  exchange.reply(200, swarmDto(await exchange.control().call("swarm.get", {}, exchange.signal)));
}

function refuseIfInSwarm(exchange: Exchange): void {
  if (exchange.deps.lifecycle.state().localNodeState === "inactive") return;
  throw new SwarmError("unavailable", NODE_STATE_TEXT.alreadyInSwarm);
}

async function init(exchange: Exchange): Promise<void> {
  const body = decodeInitRequest(await exchange.json());
  if (body["ForceNewCluster"] !== true) refuseIfInSwarm(exchange);
  const request = readInitRequest(body);
  exchange.reply(200, await exchange.deps.lifecycle.init(request, exchange.signal));
}

async function join(exchange: Exchange): Promise<void> {
  const body = decodeJoinRequest(await exchange.json());
  refuseIfInSwarm(exchange);
  await exchange.deps.lifecycle.join(readJoinRequest(body), exchange.signal);
  exchange.replyEmpty(200);
}

async function leave(exchange: Exchange): Promise<void> {
  const { lifecycle } = exchange.deps;
  if (lifecycle.state().localNodeState === "inactive") {
    throw new SwarmError("unavailable", NODE_STATE_TEXT.noSwarm);
  }
  const force = boolParam(exchange.query, "force");
  if (!force) await refuseManagerLeave(exchange);
  await lifecycle.leave(force, exchange.signal);
  exchange.replyEmpty(200);
}

const LEAVE_AS_MANAGER =
  "You are attempting to leave the swarm on a node that is participating as a manager. ";
const LEAVE_RESTORE =
  "The only way to restore a swarm that has lost consensus is to reinitialize it with " +
  "`--force-new-cluster`. Use `--force` to suppress this message.";

/** A manager only leaves by force; Docker's words say what would be lost (moby cluster.Leave). */
async function refuseManagerLeave(exchange: Exchange): Promise<void> {
  const { lifecycle } = exchange.deps;
  const refuse = (text: string): SwarmError => new SwarmError("unavailable", text);
  const state = lifecycle.state();
  if (state.localNodeState === "locked") {
    throw refuse(
      "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this " +
        "message.",
    );
  }
  if (!state.isManager) return;
  const control = lifecycle.control();
  if (control === null) {
    throw refuse(
      `${LEAVE_AS_MANAGER}Doing so may lose the consensus of your cluster. ${LEAVE_RESTORE}`,
    );
  }
  const { managers } = await control.call("system.status", {}, exchange.signal);
  const reachable = managers.filter(manager => manager.reachable).length;
  const losesQuorum = reachable - 1 < Math.floor(managers.length / 2) + 1;
  if (reachable === 1 && managers.length === 1) {
    throw refuse(
      `${LEAVE_AS_MANAGER}Removing the last manager erases all current state of the swarm. ` +
        "Use `--force` to ignore this message. ",
    );
  }
  const loss = losesQuorum
    ? `Removing this node leaves ${reachable - 1} managers out of ${managers.length}. Without a ` +
      "Raft quorum your swarm will be inaccessible. "
    : "";
  throw refuse(LEAVE_AS_MANAGER + loss + LEAVE_RESTORE);
}

function rotateParam(query: URLSearchParams, name: string): boolean {
  return strictBoolParam(query, name, raw => `invalid value for ${name}: ${raw}`);
}

async function update(exchange: Exchange): Promise<void> {
  const { query } = exchange;
  const args = {
    spec: await exchange.jsonObject("swarm.Spec"),
    version: versionParam(query, badVersion("swarm")),
    rotateWorkerToken: rotateParam(query, "rotateWorkerToken"),
    rotateManagerToken: rotateParam(query, "rotateManagerToken"),
    rotateUnlockKey: rotateParam(query, "rotateManagerUnlockKey"),
  };
  const control = exchange.control();
  await control.call("swarm.update", args, exchange.signal);
  exchange.replyEmpty(200);
}

async function unlockKey(exchange: Exchange): Promise<void> {
  exchange.control();
  const key = await exchange.deps.lifecycle.unlockKey(exchange.signal);
  exchange.reply(200, { UnlockKey: key });
}

async function unlock(exchange: Exchange): Promise<void> {
  const { lifecycle } = exchange.deps;
  const body = await exchange.jsonObject("swarm.UnlockRequest");
  const state = lifecycle.state();
  if (lifecycle.control() !== null) throw new SwarmError("already_exists", "swarm is not locked");
  if (state.localNodeState !== "locked") throw noManager(state);
  await lifecycle.unlock(String(body["UnlockKey"] ?? ""), exchange.signal);
  exchange.replyEmpty(200);
}

export const SWARM_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/swarm", handler: inspect },
  { method: "POST", pattern: "/swarm/init", handler: init },
  { method: "POST", pattern: "/swarm/join", handler: join },
  { method: "POST", pattern: "/swarm/leave", handler: leave },
  { method: "POST", pattern: "/swarm/update", handler: update },
  { method: "GET", pattern: "/swarm/unlockkey", handler: unlockKey },
  { method: "POST", pattern: "/swarm/unlock", handler: unlock },
];
