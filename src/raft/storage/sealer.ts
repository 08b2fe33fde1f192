import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { assert, SwarmError } from "../../base/errors.ts";

/** Encryption at rest of log entries and snapshot chunks. */
export interface Sealer {
  /**
   * `place` says where the bytes belong (an index, a chunk number); it is authenticated but not
   * stored, so that a record moved elsewhere does not open.
   */
  seal(plain: Uint8Array, place: Uint8Array): Uint8Array;
  /** Throws data_loss when the bytes were sealed with another key or for another place. */
  open(sealed: Uint8Array, place: Uint8Array): Uint8Array;
}

/** Stores as is; for tests. */
export const plainSealer: Sealer = {
  seal: plain => plain,
  open: sealed => sealed,
};

export const DEK_BYTES = 32;
const SALT_BYTES = 8;
const COUNTER_BYTES = 4;
const NONCE_BYTES = SALT_BYTES + COUNTER_BYTES;
const TAG_BYTES = 16;
const COUNTER_LIMIT = 2 ** 32;
const ALGORITHM = "aes-256-gcm";

/**
 * AES-256-GCM (NIST SP 800-38D) under a data encryption key. A nonce is a random salt of this
 * object followed by a counter, so nonces repeat only if two salts of 64 random bits do.
 * Sealed form: nonce, ciphertext, tag.
 */
export class AesGcmSealer implements Sealer {
  readonly #key: Uint8Array;
  #salt = randomBytes(SALT_BYTES);
  #counter = 0;

  constructor(options: { readonly dek: Uint8Array }) {
    assert(options.dek.length === DEK_BYTES, `a data encryption key has ${DEK_BYTES} bytes`);
    this.#key = Uint8Array.from(options.dek);
  }

  seal(plain: Uint8Array, place: Uint8Array): Uint8Array {
    const nonce = this.#nextNonce();
    const cipher = createCipheriv(ALGORITHM, this.#key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(place);
    const body = cipher.update(plain);
    const rest = cipher.final();
    return Buffer.concat([nonce, body, rest, cipher.getAuthTag()]);
  }

  open(sealed: Uint8Array, place: Uint8Array): Uint8Array {
    if (sealed.length < NONCE_BYTES + TAG_BYTES) throw wrongKey("it is too short");
    const tagAt = sealed.length - TAG_BYTES;
    const decipher = createDecipheriv(ALGORITHM, this.#key, sealed.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(place);
    decipher.setAuthTag(sealed.subarray(tagAt));
    try {
      const body = decipher.update(sealed.subarray(NONCE_BYTES, tagAt));
      const rest = decipher.final();
      return rest.length === 0 ? body : Buffer.concat([body, rest]);
    } catch (error) {
      throw wrongKey("the key or the place is not the one it was sealed with", error);
    }
  }

  #nextNonce(): Buffer {
    if (this.#counter === COUNTER_LIMIT) {
      this.#salt = randomBytes(SALT_BYTES);
      this.#counter = 0;
    }
    const nonce = Buffer.allocUnsafe(NONCE_BYTES);
    this.#salt.copy(nonce);
    nonce.writeUInt32BE(this.#counter, SALT_BYTES);
    this.#counter += 1;
    return nonce;
  }
}

function wrongKey(why: string, cause?: unknown): SwarmError {
  return new SwarmError("data_loss", `an encrypted record does not open: ${why}`, {}, cause);
}
