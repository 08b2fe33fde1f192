/** Where metrics are served: an address and a port. */
export interface HttpAddress {
  readonly host: string;
  readonly port: number;
}

const PORT_MAX = 65_535;

/** Reads ADDRESS:PORT; null when it is none. An interface or a name would hide who can reach it. */
export function parseHttpAddress(text: string): HttpAddress | null {
  const [, v6, v4, port = ""] =
    /^(?:\[([0-9a-fA-F:.]+)\]|(localhost|\d+\.\d+\.\d+\.\d+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? v4;
  const isPort = port !== "" && Number(port) <= PORT_MAX;
  return host === undefined || !isPort ? null : { host, port: Number(port) };
}

/** Whether only this host can reach it. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
