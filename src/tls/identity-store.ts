import { lstat, readdir, readlink, symlink } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, isSwarmError, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import {
  checkBundle,
  nodeNameOfCertificate,
  parseCertificate,
  type Validity,
} from "../pki/certificate.ts";
import { loadPrivateKey } from "../pki/keys.ts";
import type { Identity, IdentitySource } from "../rpc/ports.ts";
import {
  checkPrivateDir,
  ensurePrivateDir,
  readPrivateFile,
  removeTree,
  renamePrivate,
  syncDir,
  writeNewPrivateFile,
} from "./private-files.ts";
import { isSealedPrivateKey, openPrivateKey, sealPrivateKey } from "./unlock-key.ts";

const CERT = "node.crt";
const KEY = "node.key";
const CA = "ca.crt";
const FILES = [CERT, KEY, CA] as const;
const CURRENT = "current";
const GENERATION = /^generation-(\d{1,15})$/;
const MAX_FILE_BYTES = 256 * 1024;

/** What a replacement consists of; id, role and cluster are read from the certificate. */
export interface Credentials {
  readonly certPem: string;
  readonly keyPem: string;
  readonly caPem: string;
}

interface Loaded {
  readonly identity: Identity;
  readonly validity: Validity;
}

/** What is on disk: a whole identity, or one whose private key is sealed with an unlock key. */
interface Stored {
  readonly loaded: Loaded | null;
  readonly sealed: Credentials | null;
}

/**
 * This node's certificate and key on disk, `<data-dir>/certificates`.
 *
 * Each replacement is a directory `generation-N` of its own, written and synced before the link
 * `current` is renamed onto it, so that a crash leaves either the old certificate with the old key
 * or the new one with the new. `node.crt`, `node.key` and `ca.crt` are links through `current`, for
 * people and other programs; this class reads the generation itself.
 */
export class IdentityStore implements IdentitySource {
  readonly #dir: string;
  readonly #logger: Logger;
  readonly #listeners = new Set<(identity: Identity) => void>();
  #loaded: Loaded | null;
  /** Read, but of no use before `unlock`. */
  #sealed: Credentials | null;
  #unlockKey: string | null = null;
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, stored: Stored, logger: Logger) {
    this.#dir = dir;
    this.#loaded = stored.loaded;
    this.#sealed = stored.sealed;
    this.#logger = logger;
  }

  /**
   * Reads what is there. Throws failed_precondition when files are open to others or not ours,
   * data_loss when key, certificate and root do not belong together.
   */
  static async open(
    options: { readonly dataDir: string },
    deps: { readonly logger: Logger },
  ): Promise<IdentityStore> {
    const dir = join(options.dataDir, "certificates");
    const generation = (await checkPrivateDir(dir)) ? await currentGeneration(dir) : null;
    const none = { loaded: null, sealed: null };
    const stored = generation === null ? none : await load(join(dir, generation));
    return new IdentityStore(dir, stored, deps.logger);
  }

  /** Whether this node has an identity: it is part of a cluster. */
  get present(): boolean {
    return this.#loaded !== null || this.#sealed !== null;
  }

  /** There is an identity, and an unlock key is needed to use it. */
  get locked(): boolean {
    return this.#sealed !== null;
  }

  /** Whose locked identity it is, by its certificate; null when it is not locked. */
  get lockedName(): { readonly nodeId: string; readonly clusterId: string } | null {
    if (this.#sealed === null) return null;
    return nodeNameOfCertificate(parseCertificate(this.#sealed.certPem, CERT));
  }

  /** What the private key on disk is sealed with; null = nothing. */
  get unlockKey(): string | null {
    return this.#unlockKey;
  }

  /** Opens a locked identity. Throws unauthenticated when the key is not the one. */
  unlock(unlockKey: string): void {
    const sealed = this.#sealed;
    if (sealed === null) return;
    const keyPem = openPrivateKey(sealed.keyPem, unlockKey);
    this.#loaded = verify({ ...sealed, keyPem }, this.#dir);
    this.#sealed = null;
    this.#unlockKey = unlockKey;
  }

  /** From now on the private key lies on disk sealed with `unlockKey`; null = open. */
  protect(unlockKey: string | null): Promise<void> {
    return this.#serially(async () => {
      if (unlockKey === this.#unlockKey) return;
      const before = this.#unlockKey;
      this.#unlockKey = unlockKey;
      try {
        await this.#write(this.#require().identity);
      } catch (error) {
        this.#unlockKey = before;
        throw error;
      }
    });
  }

  current(): Identity {
    return this.#require().identity;
  }

  /** When the current certificate begins and ends. */
  validity(): Validity {
    return this.#require().validity;
  }

  onChange(listener: (identity: Identity) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Stores and then uses new credentials. They are checked first; a bad bundle changes nothing. */
  replace(credentials: Credentials): Promise<void> {
    return this.#serially(async () => {
      const loaded = verify(credentials, "the new credentials");
      await this.#write(credentials);
      this.#loaded = loaded;
      for (const listener of [...this.#listeners]) listener(loaded.identity);
    });
  }

  /** Forgets the identity (leaving the cluster). */
  clear(): Promise<void> {
    return this.#serially(async () => {
      await removeTree(this.#dir);
      this.#loaded = null;
      this.#sealed = null;
      this.#unlockKey = null;
    });
  }

  #require(): Loaded {
    if (this.#loaded !== null) return this.#loaded;
    throw new SwarmError(
      "failed_precondition",
      'This node is not part of a swarm: use "swarmd init" or "swarmd join" to make it one',
    );
  }

  #serially(run: () => Promise<void>): Promise<void> {
    const result = this.#writing.then(run);
    // The next write does not depend on this one's success; the caller sees the failure.
    this.#writing = result.catch(() => undefined);
    return result;
  }

  async #write(credentials: Credentials): Promise<void> {
    await ensurePrivateDir(this.#dir);
    const name = await nextGeneration(this.#dir);
    const path = join(this.#dir, name);
    await ensurePrivateDir(path);
    await Promise.all([
      writeNewPrivateFile(join(path, CERT), credentials.certPem),
      writeNewPrivateFile(join(path, KEY), sealPrivateKey(credentials.keyPem, this.#unlockKey)),
      writeNewPrivateFile(join(path, CA), credentials.caPem),
    ]);
    await syncDir(path);
    // These lead through `current`, which makes them good, and whose sync puts them on disk too.
    for (const file of FILES) await this.#linkOnce(file);
    await this.#link(CURRENT, name);
    await syncDir(this.#dir);
    await this.#removeOthers(name);
  }

  /** Puts a link in place of whatever has the name, atomically. */
  async #link(name: string, target: string): Promise<void> {
    const temporary = join(this.#dir, `${name}.tmp`);
    await removeTree(temporary);
    await symlink(target, temporary);
    await renamePrivate(temporary, join(this.#dir, name));
  }

  async #linkOnce(file: string): Promise<void> {
    const wanted = join(CURRENT, file);
    if ((await linkTarget(join(this.#dir, file))) !== wanted) await this.#link(file, wanted);
  }

  async #removeOthers(keep: string): Promise<void> {
    for (const name of await generations(this.#dir)) {
      if (name !== keep) await removeTree(join(this.#dir, name));
    }
    this.#logger.debug("stored node certificate", { generation: keep });
  }
}

/** The generation that `current` names, or null before the first. */
async function currentGeneration(dir: string): Promise<string | null> {
  const path = join(dir, CURRENT);
  const target = await linkTarget(path);
  if (target === null) return null;
  if (GENERATION.test(target)) return target;
  throw new SwarmError("data_loss", `${path} does not lead to a generation of credentials`);
}

/** Null when there is nothing at the path; "" when it is no link. */
async function linkTarget(path: string): Promise<string | null> {
  try {
    const stat = await lstat(path);
    return stat.isSymbolicLink() ? await readlink(path) : "";
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

async function generations(dir: string): Promise<readonly string[]> {
  return (await readdir(dir)).filter(name => GENERATION.test(name));
}

/** A number above every one there, a crash's leftovers included. */
async function nextGeneration(dir: string): Promise<string> {
  const used = (await generations(dir)).map(name => Number(GENERATION.exec(name)?.[1]));
  return `generation-${Math.max(0, ...used) + 1}`;
}

async function load(path: string): Promise<Stored> {
  await checkPrivateDir(path);
  const [certPem, keyPem, caPem] = await Promise.all([
    readPart(path, CERT),
    readPart(path, KEY),
    readPart(path, CA),
  ]);
  const credentials = { certPem, keyPem, caPem };
  if (isSealedPrivateKey(keyPem)) return { loaded: null, sealed: credentials };
  return { loaded: verify(credentials, path), sealed: null };
}

async function readPart(path: string, file: string): Promise<string> {
  try {
    return await readPrivateFile(join(path, file), MAX_FILE_BYTES);
  } catch (error) {
    if (!isSwarmError(error, "not_found")) throw error;
    throw new SwarmError("data_loss", `${join(path, file)} is missing`, { path }, error);
  }
}

function verify(credentials: Credentials, where: string): Loaded {
  const names = { cert: join(where, CERT), key: join(where, KEY), ca: join(where, CA) };
  const { name, validity } = checkBundle(
    credentials,
    loadPrivateKey(credentials.keyPem, names.key),
    names,
  );
  return { identity: { ...name, ...credentials }, validity };
}
