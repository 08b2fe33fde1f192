import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { StateFile } from "./state-file.ts";

const KEY_FILE = "wireguard.json";

export interface MeshKeyPair {
  readonly generation: number;
  readonly privateKey: string;
  readonly publicKey: string;
}

/** Of before keys had generations: one pair. */
type OldFile = Omit<MeshKeyPair, "generation">;
type Stored = { readonly keys: readonly MeshKeyPair[] } | OldFile;

/** The node's own key pairs of the encrypted mesh: they never leave their folder. */
export class MeshKeys {
  readonly #file: StateFile<Stored>;
  #keys: readonly MeshKeyPair[] = [];

  constructor(dir: string) {
    this.#file = new StateFile(join(dir, KEY_FILE));
  }

  /** Throws data_loss when the file cannot be read. */
  async load(): Promise<void> {
    const stored = await this.#file.load();
    if (stored === null) return;
    this.#keys = "keys" in stored ? stored.keys : [{ generation: 1, ...stored }];
  }

  get newest(): MeshKeyPair | null {
    return this.#keys.at(-1) ?? null;
  }

  of(generation: number): MeshKeyPair | null {
    return this.#keys.find(key => key.generation === generation) ?? null;
  }

  /** Has keys of exactly these generations, new ones where there were none. */
  async keep(generations: readonly number[]): Promise<void> {
    const wanted = [...generations].sort((a, b) => a - b);
    const keys = wanted.map(generation => this.of(generation) ?? newPair(generation));
    const isSame = keys.length === this.#keys.length && keys.every(key => this.#keys.includes(key));
    if (isSame) return;
    await this.#file.save(() => ({ keys }));
    this.#keys = keys;
  }
}

function newPair(generation: number): MeshKeyPair {
  const { privateKey } = generateKeyPairSync("x25519");
  const jwk = privateKey.export({ format: "jwk" });
  return { generation, privateKey: base64(jwk.d ?? ""), publicKey: base64(jwk.x ?? "") };
}

function base64(base64url: string): string {
  return Buffer.from(base64url, "base64url").toString("base64");
}
