import { newDeferred } from "../base/async.ts";
import { Backoff } from "../base/backoff.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { NodeRole } from "../model/rows.ts";
import { checkBundle, type Validity } from "../pki/certificate.ts";
import { makeCsr } from "../pki/csr.ts";
import { newKeyPair } from "../pki/keys.ts";
import type { Identity } from "../rpc/ports.ts";
import { planRenewal } from "./core/renewal.ts";
import type { Credentials } from "./identity-store.ts";

/** Between tries (SwarmKit ca/renewer.go). */
const RETRY = { baseMs: 5_000, maxMs: 3_600_000 };
/** A timer's reach is 24 days, and clocks jump: the wall clock is asked again this often. */
const MAX_SLEEP_MS = 3_600_000;

export interface RenewedCertificate {
  readonly certPem: string;
  readonly caPem: string;
}

export interface RenewerDeps {
  readonly store: {
    current(): Identity;
    validity(): Validity;
    replace(credentials: Credentials): Promise<void>;
  };
  /** Sends the request to a manager; `renewThroughManagers` is the one in production. */
  readonly renew: (csrPem: string, signal: AbortSignal) => Promise<RenewedCertificate>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/**
 * Keeps this node's certificate young: a new key and certificate at a random 50-80 % of the old
 * one's life, or at once when the manager says that the node's role is another.
 */
export class Renewer {
  readonly #deps: RenewerDeps;
  #wake = newDeferred<void>();
  #wantedRole: NodeRole | null = null;
  #asked = false;
  #problem = "";

  constructor(deps: RenewerDeps) {
    this.#deps = deps;
  }

  /** Why the last try to renew failed; empty when it worked. */
  get problem(): string {
    return this.#problem;
  }

  /** The manager says which role this node has; renews when the certificate says another. */
  roleIs(role: NodeRole): void {
    this.#wantedRole = role;
    if (role === this.#deps.store.current().role) return;
    this.#wake.resolve();
  }

  /** A manager wants this node to have a newer certificate, as when the root changes. */
  renewSoon(): void {
    this.#asked = true;
    this.#wake.resolve();
  }

  /** Runs until the signal aborts; a failed renewal is tried again, never thrown. */
  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(RETRY, this.#deps.rng);
    while (!signal.aborted) {
      try {
        await this.#untilDue(signal);
        const asked = this.#asked;
        this.#asked = false;
        await this.renewNow(signal).catch((error: unknown) => {
          this.#asked ||= asked;
          throw error;
        });
        this.#checkRole();
        this.#problem = "";
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        await this.#afterFailure(error, backoff.nextMs(), signal);
      }
    }
  }

  /** One renewal, at once. Rejects when the manager refuses or answers with something unusable. */
  async renewNow(signal: AbortSignal): Promise<void> {
    const { store, logger } = this.#deps;
    const before = store.current();
    const pair = await newKeyPair();
    const { certPem, caPem } = await this.#deps.renew(makeCsr(pair.privateKey), signal);
    const parts = { cert: "the new certificate", key: "the new key", ca: "the new root" };
    const { name } = checkBundle({ certPem, caPem }, pair.privateKey, parts);
    if (name.nodeId !== before.nodeId || name.clusterId !== before.clusterId) {
      throw new SwarmError("data_loss", "the manager answered with another node's certificate");
    }
    await store.replace({ certPem, keyPem: pair.keyPem, caPem });
    logger.info("renewed node certificate", { role: name.role, was: before.role });
  }

  /** A manager behind the others may still issue the old role: that is a reason to wait. */
  #checkRole(): void {
    const { role } = this.#deps.store.current();
    if (this.#wantedRole === null || this.#wantedRole === role) return;
    throw new SwarmError("unavailable", `the new certificate still says ${role}`);
  }

  /** Resolves at the planned time, or at once while the certificate's role is not the wanted. */
  async #untilDue(signal: AbortSignal): Promise<void> {
    const { store, clock, rng } = this.#deps;
    const renewAtMs = planRenewal(store.validity(), rng);
    for (;;) {
      signal.throwIfAborted();
      if (this.#asked) return;
      if (this.#wantedRole !== null && this.#wantedRole !== store.current().role) return;
      const waitMs = renewAtMs - clock.nowMs();
      if (waitMs <= 0) return;
      await this.#sleepOrWake(Math.min(waitMs, MAX_SLEEP_MS), signal);
    }
  }

  async #sleepOrWake(delayMs: number, signal: AbortSignal): Promise<void> {
    this.#wake = newDeferred();
    const controller = new AbortController();
    const limit = AbortSignal.any([signal, controller.signal]);
    try {
      await Promise.race([sleep(this.#deps.clock, delayMs, limit), this.#wake.promise]);
    } finally {
      controller.abort(new SwarmError("canceled", "woken"));
    }
  }

  async #afterFailure(error: unknown, delayMs: number, signal: AbortSignal): Promise<void> {
    const { clock, logger, store } = this.#deps;
    const leftMs = store.validity().notAfterMs - clock.nowMs();
    this.#problem = `cannot renew this node's certificate: ${errorMessage(error)}`;
    const log = leftMs > 0 ? logger.warn.bind(logger) : logger.error.bind(logger);
    log("certificate renewal failed", { error: errorMessage(error), delayMs, leftMs });
    await sleep(clock, delayMs, signal).catch(() => undefined);
  }
}
