import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { Client, type MethodDefinition } from "@grpc/grpc-js";

/**
 * The two calls of etcd's `KV` service that the benchmark makes, with the fields it uses. The members
 * under test serve them too, so that one and the same client measures both.
 */
export interface Put {
  readonly key: string;
  readonly value: Uint8Array;
}

export interface Found {
  /** Null when there is no such key. */
  readonly value: Uint8Array | null;
}

const KEY = 1;
const VALUE = 2;
const RESPONSE_KVS = 2;
const KV_KEY = 1;
const KV_VALUE = 5;
/** A protobuf tag of a field of bytes: number, then wire type 2. */
const BYTES_TYPE = 2;

function tagOf(field: number): number {
  return (field << 3) | BYTES_TYPE;
}

/** Calls `see` with every field of bytes. */
function readBytes(bytes: Uint8Array, see: (field: number, value: Uint8Array) => void): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type === BYTES_TYPE) see(field, reader.bytes());
    else reader.skip(type);
  }
}

export function encodePut({ key, value }: Put): Buffer {
  const size = varintBytes(value.length);
  const bytes = Buffer.allocUnsafe(2 + key.length + 1 + size + value.length);
  let at = putKey(bytes, key);
  bytes[at] = tagOf(VALUE);
  at += 1;
  for (let left = value.length, i = 0; i < size; i += 1, left >>>= 7) {
    bytes[at + i] = (left & 0x7f) | (i + 1 < size ? 0x80 : 0);
  }
  bytes.set(value, at + size);
  return bytes;
}

export function encodeKey(key: string): Buffer {
  const bytes = Buffer.allocUnsafe(2 + key.length);
  putKey(bytes, key);
  return bytes;
}

/** Keys here are ASCII and shorter than 128. */
function putKey(bytes: Buffer, key: string): number {
  bytes[0] = tagOf(KEY);
  bytes[1] = key.length;
  return 2 + bytes.write(key, 2, "latin1");
}

function varintBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4;
}

export function decodePut(bytes: Uint8Array): Put {
  let key = "";
  let value: Uint8Array = new Uint8Array();
  readBytes(bytes, (field, found) => {
    if (field === KEY) key = Buffer.from(found).toString();
    if (field === VALUE) value = found;
  });
  return { key, value };
}

export function encodeFound({ value }: Found): Buffer {
  const writer = new BinaryWriter();
  if (value !== null) {
    const kv = new BinaryWriter();
    kv.uint32(tagOf(KV_VALUE)).bytes(value);
    writer.uint32(tagOf(RESPONSE_KVS)).bytes(kv.finish());
  }
  return Buffer.from(writer.finish());
}

function decodeFound(bytes: Uint8Array): Found {
  let value: Uint8Array | null = null;
  readBytes(bytes, (field, kv) => {
    if (field !== RESPONSE_KVS) return;
    readBytes(kv, (inner, found) => {
      if (inner === KV_KEY) value ??= new Uint8Array();
      if (inner === KV_VALUE) value = found;
    });
  });
  return { value };
}

const PUT: MethodDefinition<Put, true> = {
  path: "/etcdserverpb.KV/Put",
  requestStream: false,
  responseStream: false,
  requestSerialize: encodePut,
  requestDeserialize: decodePut,
  responseSerialize: () => Buffer.alloc(0),
  responseDeserialize: () => true as const,
};

const RANGE: MethodDefinition<string, Found> = {
  path: "/etcdserverpb.KV/Range",
  requestStream: false,
  responseStream: false,
  requestSerialize: encodeKey,
  requestDeserialize: bytes => decodePut(bytes).key,
  responseSerialize: encodeFound,
  responseDeserialize: decodeFound,
};

export const KV_SERVICE = { put: PUT, range: RANGE } as const;

/** A client of either system; linearizable reads, writes that are durable when they resolve. */
export class KvClient extends Client {
  put(put: Put, timeoutMs: number): Promise<void> {
    return this.#call(PUT, put, timeoutMs).then(() => undefined);
  }

  range(key: string, timeoutMs: number): Promise<Found> {
    return this.#call(RANGE, key, timeoutMs);
  }

  #call<Req, Res>(method: MethodDefinition<Req, Res>, req: Req, timeoutMs: number): Promise<Res> {
    const { path, requestSerialize, responseDeserialize } = method;
    const deadline = Date.now() + timeoutMs;
    return new Promise((resolve, reject) => {
      this.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        req,
        { deadline },
        (error, answer) => {
          if (error === null && answer !== undefined) resolve(answer);
          else reject(error ?? new Error("no answer"));
        },
      );
    });
  }
}
