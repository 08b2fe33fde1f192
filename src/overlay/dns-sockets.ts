import { type ChildProcess, spawn } from "node:child_process";
import type { Socket as UdpSocket } from "node:dgram";
import type { Server as TcpServer } from "node:net";
import { SwarmError } from "../base/errors.ts";

/** Sockets of one network's name server, open in that network's namespace. */
export interface DnsSockets {
  readonly udp: UdpSocket;
  readonly tcp: TcpServer;
}

const DNS_PORT = 53;
const OPEN_TIMEOUT_MS = 10_000;

/**
 * Opens them in there and passes them on (SCM_RIGHTS). It must close its own: two readers of one
 * socket would share the queries out between them.
 */
const OPENER = `
const addr = process.argv[1], port = ${DNS_PORT};
const fail = error => { process.stderr.write(error.message); process.exit(1); };
const udp = require("dgram").createSocket({ type: "udp4", reuseAddr: true });
const tcp = require("net").createServer();
udp.on("error", fail); tcp.on("error", fail);
udp.bind(port, addr, () => tcp.listen(port, addr, () =>
  process.send("udp", udp, () => { udp.close(); process.send("tcp", tcp, () => {
    tcp.close(); process.disconnect();
  }); })));
`;

/** Throws failed_precondition when they cannot be opened. */
export function openDnsSockets(namespace: string, addr: string): Promise<DnsSockets> {
  const enter = [`--net=/run/netns/${namespace}`, "--"];
  const child = spawn("nsenter", [...enter, process.execPath, "-e", OPENER, addr], {
    env: { PATH: process.env["PATH"] ?? "" },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    timeout: OPEN_TIMEOUT_MS,
  });
  return receive(child, `name server on ${addr} in ${namespace}`);
}

function receive(child: ChildProcess, what: string): Promise<DnsSockets> {
  return new Promise((resolve, reject) => {
    let said = "";
    let udp: UdpSocket | null = null;
    let tcp: TcpServer | null = null;
    const fail = (why: string): void => {
      udp?.close();
      tcp?.close();
      reject(new SwarmError("failed_precondition", `cannot open the ${what}: ${why}`));
    };
    child.stderr?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    child.on("message", (kind, handle) => {
      if (kind === "udp") udp = handle as UdpSocket;
      else if (kind === "tcp") tcp = handle as TcpServer;
    });
    child.on("error", error => fail(error.message));
    child.on("close", () => {
      if (udp !== null && tcp !== null) resolve({ udp, tcp });
      else fail(said || "the helper ended early");
    });
  });
}
