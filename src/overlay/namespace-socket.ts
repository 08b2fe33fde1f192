import { spawn } from "node:child_process";
import type { Socket } from "node:dgram";
import { SwarmError } from "../base/errors.ts";

const OPEN_TIMEOUT_MS = 10_000;

/** Opens it in there, passes it on (SCM_RIGHTS) and closes its own. */
const OPENER = `
const udp = require("dgram").createSocket({ type: "udp4" });
udp.on("error", error => { process.stderr.write(error.message); process.exit(1); });
udp.bind(Number(process.argv[1]), () =>
  process.send("udp", udp, () => { udp.close(); process.disconnect(); }));
`;

/** A UDP socket on that port in a network namespace. Throws failed_precondition when it cannot. */
export function openUdpSocket(namespace: string, port: number): Promise<Socket> {
  const enter = [`--net=/run/netns/${namespace}`, "--"];
  const child = spawn("nsenter", [...enter, process.execPath, "-e", OPENER, `${port}`], {
    env: { PATH: process.env["PATH"] ?? "" },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    timeout: OPEN_TIMEOUT_MS,
  });
  return new Promise((resolve, reject) => {
    let said = "";
    let socket: Socket | null = null;
    const fail = (why: string): void => {
      socket?.close();
      reject(new SwarmError("failed_precondition", `cannot open a socket in ${namespace}: ${why}`));
    };
    child.stderr?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    child.on("message", (_kind, handle) => {
      socket = handle as Socket;
    });
    child.on("error", error => fail(error.message));
    child.on("close", () => {
      if (socket !== null) resolve(socket);
      else fail(said || "the helper ended early");
    });
  });
}
