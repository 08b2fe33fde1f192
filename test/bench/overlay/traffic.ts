import { type ChildProcess, spawn } from "node:child_process";
import type { LabHost } from "../../lab/host.ts";
import type { Lab } from "../../lab/lab.ts";
import { must, run } from "../../lab/run.ts";

/** Packets between two containers on two hosts, for whichever system made the network. */
export interface Place {
  readonly host: LabHost;
  /** Of the container's process, as its host sees it. */
  readonly pid: number;
}

const SECONDS = 4;
const BITS_PER_GBIT = 1e9;
const CONNECTIONS = 3_000;
const LOOKUPS = 3_000;
const CONCURRENCY = 8;
export const IPERF_PORT = 5_201;
const CONNECT_PORT = 5_202;

/** Runs in the network of the container: its image has nothing but busybox. */
function enter({ host, pid }: Place, command: readonly string[]): string[] {
  return host.execCommand(["nsenter", "-t", `${pid}`, "-n", ...command]);
}

const CONNECT_SERVER = `require("node:net").createServer(s => { s.on("error", () => {}); s.end("x"); })
  .listen(${CONNECT_PORT}, () => console.log("ready"));`;
const CONNECT_CLIENT = `
const { connect } = require("node:net");
const [host, count, concurrency] = JSON.parse(process.argv[1]);
let next = 0, failed = 0;
const one = () => new Promise(done => { const s = connect(${CONNECT_PORT}, host);
  s.on("error", () => { failed += 1; done(); }); s.on("data", () => {}); s.on("close", done); });
const worker = async () => { while (next < count) { next += 1; await one(); } };
const since = performance.now();
Promise.all(Array.from({ length: concurrency }, worker)).then(() =>
  console.log(JSON.stringify({ perS: count / (performance.now() - since) * 1000, failed })));
`;
const LOOKUP_CLIENT = `
const [name, count] = JSON.parse(process.argv[1]);
const socket = require("node:dgram").createSocket("udp4");
const labels = name.split(".").flatMap(l => [l.length, ...Buffer.from(l)]);
const times = []; let id = 0, since = 0; const start = performance.now();
const ask = () => { id += 1; since = performance.now();
  socket.send(Buffer.from([id >> 8 & 255, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]), 53, "127.0.0.11"); };
socket.on("message", () => { times.push(performance.now() - since);
  if (times.length < count) return ask();
  times.sort((a, b) => a - b);
  console.log(JSON.stringify({ perS: count / (performance.now() - start) * 1000, p99Ms: times[Math.floor(count * 0.99)] }));
  process.exit(); });
ask();
`;

/** Servers in the container's network, until they are stopped. */
export async function startServers(place: Place): Promise<readonly ChildProcess[]> {
  const iperf = start(enter(place, ["iperf3", "-s", "-p", `${IPERF_PORT}`, "--forceflush"]));
  const plain = start(enter(place, [process.execPath, "-e", CONNECT_SERVER]));
  await Promise.all([iperf, plain].map(untilSpeaks));
  return [iperf, plain];
}

function start([program = "", ...args]: readonly string[]): ChildProcess {
  return spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
}

function untilSpeaks(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("exit", code => reject(new Error(`a server of the benchmark ended with ${code}`)));
    child.stdout?.once("data", () => resolve());
  });
}

interface IperfResult {
  readonly end: { readonly sum_received: { readonly bits_per_second: number } };
}

async function iperf(where: string, command: readonly string[]): Promise<number> {
  const text = await must(where, command);
  return (JSON.parse(text) as IperfResult).end.sum_received.bits_per_second / BITS_PER_GBIT;
}

const client = (address: string): string[] => [
  ...["iperf3", "-J", "-c", address, "-p", `${IPERF_PORT}`, "-t", `${SECONDS}`],
];

/** One TCP stream, Gbit/s. */
export function throughput(from: Place, address: string): Promise<number> {
  return iperf(from.host.name, enter(from, client(address)));
}

/** The same from outside the cluster. */
export function throughputOutside(lab: Lab, address: string): Promise<number> {
  return iperf("client", lab.clientCommand(client(address)));
}

const ANSWERS_CLIENT = `
const socket = require("node:net").connect(${CONNECT_PORT}, process.argv[1]);
const end = code => process.exit(code);
setTimeout(end, 3000, 1); socket.on("data", () => end(0)); socket.on("error", () => end(1));
`;

/** Whether a connection is made and answered within 3 s. */
export async function answers(from: Place, address: string): Promise<boolean> {
  const result = await run(enter(from, [process.execPath, "-e", ANSWERS_CLIENT, address]));
  return result.code === 0;
}

/** New connections a second, eight at a time. */
export async function connections(from: Place, address: string): Promise<number> {
  const what = JSON.stringify([address, CONNECTIONS, CONCURRENCY]);
  const command = enter(from, [process.execPath, "-e", CONNECT_CLIENT, what]);
  const { perS, failed } = JSON.parse(await must(from.host.name, command)) as {
    readonly perS: number;
    readonly failed: number;
  };
  if (failed > 0) throw new Error(`${failed} of ${CONNECTIONS} connections failed`);
  return perS;
}

export interface LookupSpeed {
  readonly perS: number;
  readonly p99Ms: number;
}

/** One after the other, through the container's own resolver. */
export async function lookups(from: Place, name: string): Promise<LookupSpeed> {
  const what = JSON.stringify([name, LOOKUPS]);
  const command = enter(from, [process.execPath, "-e", LOOKUP_CLIENT, what]);
  return JSON.parse(await must(from.host.name, command)) as LookupSpeed;
}
