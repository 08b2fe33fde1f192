import { X509Certificate } from "node:crypto";
import { newDeferred, withSignal } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, isSwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Cluster, NextRoot, Node } from "../model/rows.ts";
import { newJoinToken } from "../pki/ca.ts";
import type { StateStore } from "../state/ports.ts";

const RETRY_MS = 1_000;
/** Judgements of that many certificates are kept; more and they are made anew. */
const MAX_KNOWN = 20_000;

/**
 * Tells whose certificate is not what the cluster wants now: not of the next root while one is to
 * take over, or of a generation before the present one, so that the node may trust one that has
 * gone.
 */
export class CertificateAudit {
  #rootPem = "";
  /** By certificate: whether the root above has signed it. */
  readonly #known = new Map<string, boolean>();

  needsRenewal(node: Node, cluster: Cluster): boolean {
    if (node.certificatePem === "") return true;
    if (cluster.nextRoot) return !this.#isOf(node.certificatePem, cluster.nextRoot);
    return (node.rootGeneration ?? 0) < (cluster.rootGeneration ?? 0);
  }

  #isOf(pem: string, root: NextRoot): boolean {
    if (root.certPem !== this.#rootPem || this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#rootPem = root.certPem;
    const known = this.#known.get(pem);
    if (known !== undefined) return known;
    const issuer = parse(root.certPem);
    const is = issuer !== null && parse(pem)?.verify(issuer.publicKey) === true;
    this.#known.set(pem, is);
    return is;
  }
}

function parse(pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem);
  } catch {
    // Not a certificate: then the root has not signed it.
    return null;
  }
}

export interface RootRotationDeps {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly ids: IdSource;
  readonly logger: Logger;
}

/**
 * On the leader: ends a rotation of the root when every node has a certificate of the next one.
 * The dispatcher asks the nodes to renew. From then on only the next root is trusted, join tokens
 * are for it, and nodes renew once more to forget the old one.
 */
export class RootRotation {
  readonly #deps: RootRotationDeps;
  readonly #audit: CertificateAudit;

  constructor(deps: RootRotationDeps, audit: CertificateAudit) {
    this.#deps = deps;
    this.#audit = audit;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { store, clock, logger } = this.#deps;
    let changed = newDeferred<void>();
    const stop = store.onCommit(commit => {
      const matters = commit.events.some(({ table }) => table === "nodes" || table === "cluster");
      if (matters) changed.resolve();
    });
    try {
      while (!signal.aborted) {
        changed = newDeferred();
        try {
          await this.#tryFinish(signal);
        } catch (error) {
          if (signal.aborted) return;
          if (!isSwarmError(error, "out_of_sequence")) {
            logger.warn("cannot end the rotation of the root", { error: errorMessage(error) });
          }
          await sleep(clock, RETRY_MS, signal);
          continue;
        }
        await withSignal(changed.promise, signal);
      }
    } finally {
      stop();
    }
  }

  async #tryFinish(signal: AbortSignal): Promise<void> {
    const { store, ids, logger } = this.#deps;
    const [cluster] = store.view.table("cluster").all();
    if (!cluster?.nextRoot) return;
    for (const node of store.view.table("nodes").all()) {
      if (this.#audit.needsRenewal(node, cluster)) return;
    }
    const { certPem, keyPem } = cluster.nextRoot;
    const fields = {
      rootCa: { certPem, keyPem },
      nextRoot: null,
      rootRotationInProgress: false,
      joinTokens: { worker: newJoinToken(certPem, ids), manager: newJoinToken(certPem, ids) },
      rootGeneration: (cluster.rootGeneration ?? 0) + 1,
    };
    const { id, version: ifVersion } = cluster;
    await store.submit([{ op: "patch", table: "cluster", id, fields, ifVersion }], signal);
    logger.info("the root certificate has been replaced");
  }
}
