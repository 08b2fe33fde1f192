import type { PeerInfo, StateMachine } from "../../src/raft/ports.ts";

const CHUNK_BYTES = 64 << 10;

interface Image {
  readonly items: readonly (readonly [number, string])[];
  readonly members: readonly PeerInfo[];
}

/** A state machine that keeps every entry, as text, with its index. */
export class ListMachine implements StateMachine {
  #items: (readonly [number, string])[] = [];
  #members: PeerInfo[] = [];
  restores = 0;

  get texts(): readonly string[] {
    return this.#items.map(([, text]) => text);
  }

  get indexes(): readonly number[] {
    return this.#items.map(([index]) => index);
  }

  apply({ index, data }: { readonly index: number; readonly data: Uint8Array }): unknown {
    const text = Buffer.from(data).toString();
    this.#items.push([index, text]);
    return { index, text };
  }

  applyMember(
    _index: number,
    { op, peer }: { readonly op: "put" | "remove"; readonly peer: PeerInfo },
  ): void {
    this.#members = this.#members.filter(member => member.raftId !== peer.raftId);
    if (op === "put") this.#members.push(peer);
  }

  members(): readonly PeerInfo[] {
    return this.#members;
  }

  snapshot(): AsyncIterable<Uint8Array> {
    const image: Image = { items: [...this.#items], members: [...this.#members] };
    return chunked(Buffer.from(JSON.stringify(image)));
  }

  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const parts: Uint8Array[] = [];
    for await (const chunk of chunks) parts.push(chunk);
    const image: Image = JSON.parse(Buffer.concat(parts).toString());
    this.#items = [...image.items];
    this.#members = [...image.members];
    this.restores += 1;
  }
}

async function* chunked(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    yield bytes.subarray(at, at + CHUNK_BYTES);
  }
}
