import {
  Client,
  credentials,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { CAService } from "../../src/rpc/gen/swarmd/v1/ca.ts";
import { ControlService } from "../../src/rpc/gen/swarmd/v1/control.ts";
import { DispatcherService } from "../../src/rpc/gen/swarmd/v1/dispatcher.ts";
import { MembershipService } from "../../src/rpc/gen/swarmd/v1/membership.ts";
import { RaftService } from "../../src/rpc/gen/swarmd/v1/raft.ts";

/**
 * A program of its own: calls every RPC of a cluster port with an empty message and prints what it
 * was told, by method. Reads `Stranger` as JSON from standard input.
 */
export interface Stranger {
  readonly addr: string;
  readonly caPem: string;
  /** Null: without a certificate. */
  readonly own: { readonly certPem: string; readonly keyPem: string } | null;
}

/** gRPC status by method, `OK` included; a call that is served without end is `OPEN`. */
export type Told = Readonly<Record<string, string>>;

const CALL_TIMEOUT_MS = 4_000;
const SERVICES: readonly ServiceDefinition[] = [
  CAService,
  ControlService,
  DispatcherService,
  MembershipService,
  RaftService,
];

function codeOf(error: ServiceError | null): string {
  if (error === null) return "OK";
  const name = status[error.code] ?? String(error.code);
  return name === "DEADLINE_EXCEEDED" ? "OPEN" : name;
}

const EMPTY = (): Buffer => Buffer.alloc(0);
const AS_IS = (bytes: Buffer): Buffer => bytes;

function call(client: Client, { path, requestStream, responseStream }: Method): Promise<string> {
  const options = { deadline: Date.now() + CALL_TIMEOUT_MS };
  return new Promise(resolve => {
    const answer = (error: ServiceError | null): void => resolve(codeOf(error));
    if (!requestStream && !responseStream) {
      client.makeUnaryRequest(path, EMPTY, AS_IS, Buffer.alloc(0), options, answer);
      return;
    }
    if (requestStream && !responseStream) {
      client.makeClientStreamRequest(path, EMPTY, AS_IS, options, answer);
      return;
    }
    const stream = requestStream
      ? client.makeBidiStreamRequest(path, EMPTY, AS_IS, options)
      : client.makeServerStreamRequest(path, EMPTY, AS_IS, Buffer.alloc(0), options);
    stream.on("data", () => undefined);
    stream.on("error", (error: ServiceError) => answer(error));
    stream.on("end", () => answer(null));
  });
}

type Method = MethodDefinition<unknown, unknown>;

async function main(): Promise<void> {
  let text = "";
  for await (const chunk of process.stdin) text += String(chunk);
  const { addr, caPem, own } = JSON.parse(text) as Stranger;
  const pem = (value: string | undefined): Buffer | null =>
    value === undefined ? null : Buffer.from(value);
  const tls = credentials.createSsl(Buffer.from(caPem), pem(own?.keyPem), pem(own?.certPem), {
    checkServerIdentity: () => undefined,
  });
  const client = new Client(addr, tls, { "grpc.enable_retries": 0 });
  const methods = SERVICES.flatMap(service => Object.values(service) as Method[]);
  const told = await Promise.all(
    methods.map(async method => [method.path, await call(client, method)] as const),
  );
  client.close();
  process.stdout.write(`${JSON.stringify(Object.fromEntries(told))}\n`);
}

await main();
