import { createPublicKey } from "node:crypto";
import type { NodeRole } from "../../src/model/rows.ts";
import { createRootCa, newJoinToken, type RootCa, signNodeCertificate } from "../../src/pki/ca.ts";
import { DEFAULT_CERT_EXPIRY_MS } from "../../src/pki/core/csr-policy.ts";
import { newKeyPair } from "../../src/pki/keys.ts";
import type { Identity, IdentitySource } from "../../src/rpc/ports.ts";
import { KernelRng, newIdSource, realClock } from "../../src/system/real.ts";

export const testRng = new KernelRng();
export const testIds = newIdSource();

/** A root with a cluster id, and identities of nodes at will. */
export class TestCa {
  readonly root: RootCa;
  readonly clusterId = testIds.newId();
  readonly tokens: { readonly worker: string; readonly manager: string };

  private constructor(root: RootCa) {
    this.root = root;
    this.tokens = {
      worker: newJoinToken(root.certPem, testIds),
      manager: newJoinToken(root.certPem, testIds),
    };
  }

  static async create(): Promise<TestCa> {
    return new TestCa(await createRootCa({ nowMs: realClock.nowMs(), rng: testRng }));
  }

  /** `issuedMs`: when it was issued; `clusterId`: for a certificate that is wrong about it. */
  async identity(
    role: NodeRole,
    options: {
      readonly nodeId?: string;
      readonly issuedMs?: number;
      readonly expiryMs?: number;
      readonly clusterId?: string;
    } = {},
  ): Promise<Identity> {
    const pair = await newKeyPair();
    const name = {
      nodeId: options.nodeId ?? testIds.newId(),
      role,
      clusterId: options.clusterId ?? this.clusterId,
    };
    const request = {
      publicKey: createPublicKey(pair.privateKey),
      name,
      expiryMs: options.expiryMs ?? DEFAULT_CERT_EXPIRY_MS,
      nowMs: options.issuedMs ?? realClock.nowMs(),
    };
    const certPem = signNodeCertificate(request, this.root, testRng);
    return { ...name, certPem, keyPem: pair.keyPem, caPem: this.root.certPem };
  }
}

/** An identity that a test replaces by hand. */
export class TestIdentitySource implements IdentitySource {
  readonly #listeners = new Set<(identity: Identity) => void>();
  #identity: Identity;

  constructor(identity: Identity) {
    this.#identity = identity;
  }

  current(): Identity {
    return this.#identity;
  }

  replace(identity: Identity): void {
    this.#identity = identity;
    for (const listener of [...this.#listeners]) listener(identity);
  }

  onChange(listener: (identity: Identity) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
