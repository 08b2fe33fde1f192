import { type ChildProcess, spawn } from "node:child_process";
import type { Lab } from "../lab/lab.ts";
import type { Container } from "./e2e.ts";

/** Many requests from outside the cluster. */
export interface Load {
  readonly failed: number;
  /** Bodies, in order of arrival. */
  readonly answers: readonly string[];
  /** Each kind once. */
  readonly errors: readonly string[];
}

/** Which of two tasks answers is chance: that one of them does not among so many, is none. */
export const ENOUGH_REQUESTS = 40;
const CONCURRENCY = 8;
const TIMEOUT_MS = 300_000;

/** A new connection for each request; one is failed when it has no whole answer within 5 s. */
const SCRIPT = `
const { get } = await import("node:http");
const [urls, count, concurrency] = JSON.parse(process.argv[1]);
const answers = [], errors = new Set();
let next = 0, failed = 0;
const ask = url => new Promise(resolve => {
  const fail = error => { failed += 1; errors.add(url + " " + (error.code ?? error.message)); resolve(); };
  const request = get(url, { agent: false, timeout: 5000 }, answer => {
    let text = "";
    answer.on("data", chunk => { text += chunk; });
    answer.on("error", fail);
    answer.on("end", () => {
      if (answer.statusCode !== 200) return fail(new Error("status " + answer.statusCode));
      answers.push(text.trim());
      resolve();
    });
  });
  request.on("timeout", () => request.destroy(new Error("timeout")));
  request.on("error", fail);
});
const worker = async () => { while (next < count) { next += 1; await ask(urls[next % urls.length]); } };
await Promise.all(Array.from({ length: concurrency }, worker));
console.log(JSON.stringify({ failed, answers, errors: [...errors] }));
`;

/** `count` requests over all urls in turn. */
export async function requestMany(lab: Lab, urls: readonly string[], count: number): Promise<Load> {
  const what = JSON.stringify([urls, count, Math.min(CONCURRENCY, count)]);
  const command = [process.execPath, "--input-type=module", "-e", SCRIPT, what];
  const { code, stdout, stderr } = await lab.asClient(command, { timeoutMs: TIMEOUT_MS });
  if (code !== 0) throw new Error(`the client failed: ${stderr}`);
  return JSON.parse(stdout) as Load;
}

/** Answers each datagram with the address it came from. */
const UDP_ECHO = `
const { createSocket } = require("node:dgram");
let open = 0;
for (const options of [{ type: "udp4" }, { type: "udp6", ipv6Only: true }]) {
  const socket = createSocket(options);
  socket.on("message", (_, from) => socket.send(from.address, from.port, from.address));
  socket.bind(7, () => { open += 1; if (open === 2) console.log("ready"); });
}
`;
const UDP_ASK = `
const [host, port] = JSON.parse(process.argv[1]);
const socket = require("node:dgram").createSocket(host.includes(":") ? "udp6" : "udp4");
setTimeout(() => { console.log("no answer"); process.exit(); }, 3000);
socket.on("message", text => { console.log(String(text)); process.exit(); });
socket.send("x", port, host);
`;

export interface UdpEcho {
  stop(): void;
}

/** On UDP port 7, in the network of a container: its image has no server for datagrams. */
export async function startUdpEcho(lab: Lab, container: Container): Promise<UdpEcho> {
  const host = lab.host(container.host);
  const pid = (await host.docker(["inspect", "-f", "{{.State.Pid}}", container.id])).trim();
  const enter = ["nsenter", "-t", pid, "-n", process.execPath, "-e", UDP_ECHO];
  const [program = "", ...args] = host.execCommand(enter);
  const child: ChildProcess = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((resolve, reject) => {
    child.once("exit", code => reject(new Error(`the UDP server ended with ${code}`)));
    child.stdout?.once("data", () => resolve());
  });
  child.removeAllListeners("exit");
  return { stop: () => void child.kill("SIGKILL") };
}

/**
 * A datagram every few ms until its input ends, and a few at least: it may have ended before the
 * first. Then waits for the last answers, as long as an answer may take that is not lost.
 */
const UDP_FLOW = `
const [host, everyMs, lateMs] = JSON.parse(process.argv[1]);
const socket = require("node:dgram").createSocket("udp4");
let sent = 0, received = 0, isOver = false;
socket.on("message", () => { received += 1; });
const end = () => { console.log(JSON.stringify({ sent, received })); process.exit(); };
const timer = setInterval(() => {
  sent += 1;
  socket.send("x", 7, host);
  if (!isOver || sent < 10) return;
  clearInterval(timer);
  socket.on("message", () => { if (received >= sent) end(); });
  setTimeout(end, lateMs);
}, everyMs);
process.stdin.resume();
process.stdin.on("end", () => { isOver = true; });
`;
const FLOW_EVERY_MS = 10;
const LATEST_ANSWER_MS = 10_000;

export interface UdpFlow {
  /** Ends it; what it sent, and what came back. */
  end(): Promise<{ readonly sent: number; readonly received: number }>;
}

/** From one container to another, where `startUdpEcho` has begun. */
export async function startUdpFlow(lab: Lab, from: Container, addr: string): Promise<UdpFlow> {
  const host = lab.host(from.host);
  const pid = (await host.docker(["inspect", "-f", "{{.State.Pid}}", from.id])).trim();
  const what = JSON.stringify([addr, FLOW_EVERY_MS, LATEST_ANSWER_MS]);
  const enter = ["nsenter", "-t", pid, "-n", process.execPath, "-e", UDP_FLOW, what];
  const [program = "", ...args] = host.execCommand(enter);
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  return {
    end: async () => {
      const ended = new Promise<void>(resolve => child.once("close", () => resolve()));
      child.stdin.end();
      await ended;
      return JSON.parse(said) as { sent: number; received: number };
    },
  };
}

/** What a client outside the cluster is answered; "no answer" after 3 s. */
export async function askUdp(lab: Lab, host: string, port: number): Promise<string> {
  const what = JSON.stringify([host, port]);
  const { stdout } = await lab.asClient([process.execPath, "-e", UDP_ASK, what]);
  return stdout.trim();
}

const UDP_SEND = `
const [host, port, hex] = JSON.parse(process.argv[1]);
const socket = require("node:dgram").createSocket("udp4");
socket.send(Buffer.from(hex, "hex"), port, host, () => socket.close());
`;

/** One datagram from outside the cluster. */
export async function sendUdp(lab: Lab, host: string, port: number, hex: string): Promise<void> {
  await lab.asClient([process.execPath, "-e", UDP_SEND, JSON.stringify([host, port, hex])]);
}
