import type { PeerInfo, StateMachine } from "../../../src/raft/ports.ts";
import { decodePut } from "./kv-wire.ts";

const CHUNK_BYTES = 128 << 10;

interface Image {
  readonly rows: readonly (readonly [string, string])[];
  readonly members: readonly PeerInfo[];
}

/** A map of keys to values, as small as a state machine can be: what is measured is the log. */
export class KvMachine implements StateMachine {
  #rows = new Map<string, Uint8Array>();
  #members: readonly PeerInfo[] = [];

  get(key: string): Uint8Array | null {
    return this.#rows.get(key) ?? null;
  }

  get size(): number {
    return this.#rows.size;
  }

  apply({ data }: { readonly data: Uint8Array }): unknown {
    const { key, value } = decodePut(data);
    this.#rows.set(key, value);
    return null;
  }

  applyMember(
    _index: number,
    { op, peer }: { readonly op: "put" | "remove"; readonly peer: PeerInfo },
  ): void {
    const others = this.#members.filter(member => member.raftId !== peer.raftId);
    this.#members = op === "put" ? [...others, peer] : others;
  }

  members(): readonly PeerInfo[] {
    return this.#members;
  }

  snapshot(): AsyncIterable<Uint8Array> {
    return lines([...this.#rows], this.#members);
  }

  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const rows = new Map<string, Uint8Array>();
    let rest = "";
    const take = (line: string): void => {
      const image: Image = JSON.parse(line);
      for (const [key, value] of image.rows) rows.set(key, Buffer.from(value, "base64"));
      this.#members = image.members;
    };
    for await (const chunk of chunks) {
      const parts = (rest + Buffer.from(chunk).toString()).split("\n");
      rest = parts.pop() ?? "";
      parts.forEach(take);
    }
    this.#rows = rows;
  }
}

/** Lines of JSON, each with as many rows as make a chunk. */
async function* lines(
  rows: readonly (readonly [string, Uint8Array])[],
  members: readonly PeerInfo[],
): AsyncGenerator<Uint8Array, void> {
  let at = 0;
  do {
    const some: [string, string][] = [];
    for (let bytes = 0; at < rows.length && bytes < CHUNK_BYTES / 2; at += 1) {
      const [key, value] = rows[at] ?? ["", new Uint8Array()];
      some.push([key, Buffer.from(value).toString("base64")]);
      bytes += key.length + value.length;
    }
    yield Buffer.from(`${JSON.stringify({ rows: some, members } satisfies Image)}\n`);
  } while (at < rows.length);
}
