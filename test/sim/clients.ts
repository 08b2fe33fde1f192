import { isSwarmError } from "../../src/base/errors.ts";
import type { Change } from "../../src/model/change.ts";
import type { Config } from "../../src/model/rows.ts";
import {
  isLinearizable,
  type Operation,
  REGISTER,
  type RegisterInput,
  type RegisterOutput,
} from "../support/linearizability.ts";
import type { Chance } from "./chance.ts";
import type { Cluster } from "./cluster.ts";
import type { ManagerHost } from "./host.ts";
import type { SimManager } from "./manager.ts";

const CALL_TIMEOUT_MS = 4_000;
/** A register with this many calls, or calls without an answer, is left for a new one. */
const MAX_CALLS = 60;
const MAX_UNKNOWN = 6;
/** Share of writes that go to whichever manager, not to the leader. */
const MISDIRECTED = 0.1;
const FAILED_PAUSE_MS = 150;
/** Share of calls that a read follows at once, and of these the next call. */
const CHECKED = 0.3;
const HURRIED = 0.5;

interface Call {
  input: RegisterInput | null;
  calledAt: number;
  returnedAt: number | undefined;
  output: RegisterOutput | undefined;
}

interface Register {
  readonly id: string;
  readonly calls: Call[];
  unknown: number;
  created: boolean;
}

type Outcome = RegisterOutput | "not-done" | "unknown";

/**
 * Clients that read and write registers (rows of the config table) through the managers, one call
 * at a time each, and the history of what they were told.
 */
export class Clients {
  readonly #cluster: Cluster;
  readonly #chance: Chance;
  readonly #open: Register[] = [];
  readonly #all: Register[] = [];
  #moment = 0;
  #values = 0;
  #names = 0;
  #ackedIndex = 0;
  #stopped = false;
  acknowledged = 0;
  reads = 0;
  unknown = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#chance = cluster.chance("clients");
  }

  start(): void {
    const { plan } = this.#cluster;
    for (let i = 0; i < plan.keys; i += 1) this.#open.push(this.#newRegister());
    for (let i = 0; i < plan.clients; i += 1) void this.#client();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Null, or the register whose history no order of its calls explains. */
  check(): { readonly id: string; readonly history: string } | null {
    for (const register of this.#all) {
      const history = known(register);
      if (!isLinearizable(REGISTER, history)) {
        return { id: register.id, history: told(history) };
      }
    }
    return null;
  }

  async #client(): Promise<void> {
    const { world, weather, plan } = this.#cluster;
    let hurried = false;
    while (!this.#stopped) {
      if (!hurried) await weather.sleep(this.#chance.exponential(plan.thinkMs));
      hurried = false;
      const at = this.#chance.int(0, this.#open.length - 1);
      const register = this.#open[at];
      if (register === undefined) continue;
      if (isFull(register)) {
        this.#open[at] = this.#newRegister();
        continue;
      }
      const outcome = await this.#call(register);
      if (outcome === "not-done") await world.sleep(FAILED_PAUSE_MS);
      else if (this.#chance.is(this.#leaders().length > 1 ? 1 : CHECKED)) {
        // What was just done must show, also at one who does not know that he leads no more.
        await this.read(register, this.#selfStyledLeader());
        hurried = this.#chance.is(HURRIED);
      }
    }
  }

  #newRegister(): Register {
    this.#names += 1;
    const register = { id: `register-${this.#names}`, calls: [], unknown: 0, created: false };
    this.#all.push(register);
    return register;
  }

  #newValue(): string {
    this.#values += 1;
    return String(this.#values);
  }

  async #call(register: Register): Promise<Outcome> {
    if (!register.created) return this.#create(register);
    if (this.#chance.is(this.#cluster.plan.readShare)) return this.read(register);
    if (this.#chance.is(0.5)) return this.#write(register);
    if (this.#chance.is(0.9)) return this.#compareAndSet(register);
    return this.#record(register, { op: "delete" }, this.#writer(), manager =>
      this.#submit(manager, [{ op: "delete", table: "configs", id: register.id }]),
    );
  }

  async #create(register: Register): Promise<Outcome> {
    const value = this.#newValue();
    const { id } = register;
    const input: RegisterInput = { op: "create", value };
    const outcome = await this.#record(register, input, this.#writer(), manager =>
      this.#submit(manager, [{ op: "create", table: "configs", row: { id, ...rowOf(id, value) } }]),
    );
    register.created ||= outcome !== "not-done" && outcome !== "unknown";
    return outcome;
  }

  #write(register: Register): Promise<Outcome> {
    const value = this.#newValue();
    const { id } = register;
    const fields = rowOf(id, value);
    return this.#record(register, { op: "write", value }, this.#writer(), manager =>
      this.#submit(manager, [{ op: "patch", table: "configs", id, fields }]),
    );
  }

  #compareAndSet(register: Register): Promise<Outcome> {
    const value = this.#newValue();
    const { id } = register;
    return this.#record(register, null, this.#writer(), (manager, call) => {
      const row = manager.store.view.table("configs").get(id);
      if (row === undefined) return Promise.resolve("not-done");
      call.input = { op: "cas", from: labelOf(row), value };
      const ifVersion = row.version;
      const fields = rowOf(id, value);
      return this.#submit(manager, [{ op: "patch", table: "configs", id, fields, ifVersion }]);
    });
  }

  /** Reads a register at some manager, or at `host`. */
  read(register: Register, host: ManagerHost | null = this.#anyone()): Promise<Outcome> {
    const leastIndex = this.#ackedIndex;
    return this.#record(register, { op: "read" }, host, async manager => {
      const { signal, done } = timeout(manager);
      try {
        await manager.raft.readBarrier(signal);
      } catch {
        return "not-done";
      } finally {
        done();
      }
      this.reads += 1;
      const { index } = manager.store.view;
      if (index < leastIndex) {
        this.#cluster.witness.fail(
          "reads-are-current",
          `member ${manager.raftId} serves a read at ${index}; ${leastIndex} had been acknowledged`,
        );
      }
      const row = manager.store.view.table("configs").get(register.id);
      return { value: row === undefined ? null : labelOf(row) };
    });
  }

  /** Reads every register in use at every host given: what was acknowledged must show. */
  async readAll(hosts: readonly ManagerHost[]): Promise<void> {
    for (const host of hosts) for (const register of this.#open) await this.read(register, host);
  }

  async #submit(manager: SimManager, changes: readonly Change[]): Promise<Outcome> {
    const { signal, done } = timeout(manager);
    try {
      const { index } = await manager.store.submit(changes, signal);
      this.#ackedIndex = Math.max(this.#ackedIndex, index);
      this.acknowledged += 1;
      return { done: true };
    } catch (error) {
      if (isSwarmError(error, "unknown_outcome")) return "unknown";
      const refused = ["already_exists", "out_of_sequence", "not_found"] as const;
      return refused.some(code => isSwarmError(error, code)) ? { done: false } : "not-done";
    } finally {
      done();
    }
  }

  async #record(
    register: Register,
    input: RegisterInput | null,
    host: ManagerHost | null,
    work: (manager: SimManager, call: Call) => Promise<Outcome>,
  ): Promise<Outcome> {
    if (host === null) return "not-done";
    this.#moment += 1;
    const call: Call = { input, calledAt: this.#moment, returnedAt: undefined, output: undefined };
    register.calls.push(call);
    let outcome: Outcome;
    try {
      outcome = await this.#cluster.ask(host, manager => work(manager, call));
    } catch {
      outcome = "unknown";
    }
    this.#moment += 1;
    if (outcome === "not-done" || (outcome === "unknown" && input?.op === "read")) {
      register.calls.splice(register.calls.indexOf(call), 1);
    } else if (outcome === "unknown") {
      register.unknown += 1;
      this.unknown += 1;
    } else {
      call.returnedAt = this.#moment;
      call.output = outcome;
    }
    return outcome;
  }

  #writer(): ManagerHost | null {
    return this.#chance.is(MISDIRECTED) ? this.#anyone() : this.#cluster.leader;
  }

  #leaders(): ManagerHost[] {
    const { managers } = this.#cluster;
    return managers.filter(({ manager }) => manager?.raft.status().role === "leader");
  }

  /** One of those who think that they lead, the true one less often. */
  #selfStyledLeader(): ManagerHost | null {
    const leaders = this.#leaders();
    if (leaders.length === 0) return this.#anyone();
    const rivals = leaders.filter(host => host !== this.#cluster.leader);
    return this.#chance.pick(rivals.length > 0 && this.#chance.is(0.8) ? rivals : leaders);
  }

  #anyone(): ManagerHost | null {
    const up = this.#cluster.managers.filter(host => host.manager !== null);
    return up.length === 0 ? null : this.#chance.pick(up);
  }
}

function isFull({ calls, unknown }: Register): boolean {
  return calls.length >= MAX_CALLS || unknown >= MAX_UNKNOWN;
}

function rowOf(id: string, value: string): Pick<Config, "spec"> {
  return { spec: { Name: id, Labels: { value } } };
}

function labelOf(row: Config): string {
  return row.spec.Labels?.["value"] ?? "";
}

/** Without the calls that were never made. */
function known({ calls }: Register): Operation<RegisterInput, RegisterOutput>[] {
  return calls.flatMap(({ input, ...rest }) => (input === null ? [] : [{ input, ...rest }]));
}

function told(history: readonly Operation<RegisterInput, RegisterOutput>[]): string {
  return history
    .map(({ input, calledAt, returnedAt, output }) => {
      const answer = output === undefined ? "?" : JSON.stringify(output);
      return `  ${calledAt}..${returnedAt ?? ""} ${JSON.stringify(input)} -> ${answer}`;
    })
    .join("\n");
}

function timeout(manager: SimManager): { signal: AbortSignal; done: () => void } {
  const controller = new AbortController();
  const timer = manager.process.clock.setTimer("client", CALL_TIMEOUT_MS, () => controller.abort());
  return { signal: controller.signal, done: () => timer.cancel() };
}
