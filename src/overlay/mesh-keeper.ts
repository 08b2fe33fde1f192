import type { Timer } from "../base/clock.ts";
import type { AuditLog } from "./audit-log.ts";
import { HOST_SCOPE } from "./audit-log.ts";
import type { MeshFacts } from "./core/plan.ts";
import { Lane, type LaneDeps } from "./lane.ts";
import type { Mesh } from "./mesh.ts";

/** Hosts that are to meet by new keys are looked for this often, */
const QUICK_MS = 500;
/** this many times; then whenever the audit comes. */
const MAX_QUICK = 60;

export interface MeshKeeperDeps extends LaneDeps {
  readonly mesh: Mesh;
  readonly audits: AuditLog;
}

/** Keeps the encrypted mesh as it should be, and looks on while its keys change. */
export class MeshKeeper {
  readonly #deps: MeshKeeperDeps;
  readonly #lane: Lane;
  #timer: Timer | null = null;
  #looks = 0;

  constructor(deps: MeshKeeperDeps) {
    this.#deps = deps;
    this.#lane = new Lane("encrypted mesh", () => this.#sync(), deps);
  }

  /** Resolves when the mesh is as the tables, as of now, want it. */
  request(): Promise<void> {
    this.#looks = 0;
    return this.#lane.request();
  }

  /** For who wants to use it; null when there is none here, or none is needed. */
  async facts(): Promise<MeshFacts | null> {
    if (this.#deps.mesh.problem !== "") return null;
    await this.request();
    return this.#deps.mesh.facts;
  }

  async audit(): Promise<void> {
    const { mesh, audits } = this.#deps;
    const wrong = await mesh.audit();
    if (wrong !== null) audits.looked(HOST_SCOPE, wrong);
    if (wrong !== null || mesh.isMoving) await this.#lane.request();
  }

  close(): void {
    this.#timer?.cancel();
  }

  async #sync(): Promise<void> {
    const { mesh, clock, signal } = this.#deps;
    await mesh.sync();
    this.#timer?.cancel();
    if (mesh.lagging.length === 0 || this.#looks >= MAX_QUICK || signal.aborted) return;
    this.#looks += 1;
    this.#timer = clock.setTimer("mesh", QUICK_MS, () => void this.#lane.request());
  }
}
