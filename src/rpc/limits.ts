/**
 * Every bound of the cluster port in one place. Sizes in bytes unless named otherwise. "Stranger"
 * is a connection without client certificate: someone who wants to join, or anyone at all.
 */
export const RPC_LIMITS = {
  /** A TCP connection that has not finished its TLS handshake by then is closed. */
  handshakeMs: 10_000,
  /** Handshakes begun in one turn of the event loop. */
  maxHandshakesPerTurn: 8,
  /** Open connections of all kinds. */
  maxConnections: 16_384,
  maxConnectionsPerIp: 4_096,
  /** Unfinished handshakes and strangers' connections together, from one address. */
  maxStrangersPerIp: 128,
  maxMessageBytes: 4 * 1024 * 1024,
  maxStrangerMessageBytes: 64 * 1024,
  maxStreams: 1_024,
  maxStrangerStreams: 8,
  /** What one HTTP/2 session may hold in buffers. */
  maxSessionMb: 256,
  maxStrangerSessionMb: 4,
  /** A stranger's connection ends after this, whatever it does. */
  maxStrangerAgeMs: 60_000,
  maxStrangerIdleMs: 20_000,
  /** The server pings a silent connection this often and closes it when no answer comes. */
  serverKeepaliveMs: 10_000,
  serverKeepaliveTimeoutMs: 5_000,
  /** What was said last on a connection that is cut has this long to arrive. */
  farewellMs: 500,
  /** Open connections are looked through this often for expired or withdrawn certificates. */
  sweepMs: 30_000,
} as const;

export type RpcLimits = { readonly [K in keyof typeof RPC_LIMITS]: number };
