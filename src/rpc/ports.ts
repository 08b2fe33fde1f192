import type { NodeRole } from "../model/rows.ts";

/** Who is on the other end of a connection, from its verified certificate and nothing else. */
export interface PeerIdentity {
  /** CN. */
  readonly nodeId: string;
  /** OU. */
  readonly role: NodeRole;
  /** O. */
  readonly clusterId: string;
}

/** Who may call an RPC. Default deny: a method without an entry is refused. */
export type Access = "anyone" | "node" | "manager";

/** This node's credentials at the moment; a renewal replaces them and new connections use them. */
export interface Identity extends PeerIdentity {
  /** Certificate chain, leaf first. */
  readonly certPem: string;
  readonly keyPem: string;
  /** The roots it trusts. */
  readonly caPem: string;
}

export interface IdentitySource {
  current(): Identity;
  /** Called after each replacement. Returns an unsubscribe. */
  onChange(listener: (identity: Identity) => void): () => void;
}
