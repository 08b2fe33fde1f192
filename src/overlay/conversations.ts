import { stat } from "node:fs/promises";
import { type Deferred, newDeferred } from "../base/async.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { LineProgram, LinePrograms } from "./commands.ts";

/** Programs that read commands line by line; each one stays in one namespace. */
export type Speaker = "nft" | "ip";

const COMMANDS: Readonly<Record<Speaker, readonly string[]>> = {
  nft: ["nft", "-i"],
  ip: ["ip", "-force", "-batch", "-"],
};
const TIMEOUT_MS = 20_000;
/** They read byte by byte: what is longer is quicker with a program of its own. */
export const MAX_ASKED_CHARS = 16_384;
/** Open at once on this host; the one that was silent longest makes room. */
export const MAX_CONVERSATIONS = 64;
/** A program that nobody has asked for so long is ended. */
export const IDLE_MS = 60_000;
/** `nft -i` remembers every line it read. */
export const MAX_ASKED = 2_000;
const NETNS_DIR = "/run/netns";
const MAX_SAID_CHARS = 64 * 1024;
const MAX_QUOTED_CHARS = 1_000;
/** Neither program has a command of this name: it says so, and all before it is done then. */
const MARK = "swarmd_mark_";
/** What nft draws under the word that it does not understand. */
const UNDERLINE = /^[\s^~]*$/;

export interface ConversationsDeps {
  readonly programs: LinePrograms;
  /** What a name in NETNS_DIR stands for, null when for nothing; absent: the host's own. */
  readonly inodeOf?: (namespace: string) => Promise<number | null>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One program that was started, and what is waited for. */
class Conversation {
  readonly #program: LineProgram;
  /** Inode of the namespace that it is in. */
  readonly namespace: number;
  #said = "";
  #asked = 0;
  #waiting: { readonly mark: string; readonly words: Deferred<string> } | null = null;
  /** Since when it is silent; null while it works. */
  idleSinceMs: number | null;
  ended = false;
  hasAnswered = false;

  constructor(
    programs: LinePrograms,
    command: readonly string[],
    namespace: number,
    nowMs: number,
  ) {
    this.namespace = namespace;
    this.idleSinceMs = nowMs;
    this.#program = programs.start(command, {
      onSaid: text => this.#onSaid(text),
      onEnded: () => this.#onEnded(),
    });
  }

  get isWorn(): boolean {
    return this.ended || this.#asked >= MAX_ASKED;
  }

  /** What it has to say against the commands; empty: it has done them. */
  ask(commands: string): Promise<string> {
    this.#asked += 1;
    const words = newDeferred<string>();
    const mark = `${MARK}${this.#asked}_`;
    this.#waiting = { mark, words };
    if (this.ended) this.#onEnded();
    else this.#program.write(`${commands}\n${mark}\n`);
    return words.promise;
  }

  /** Resolves when the program is gone, and with it its hold on the namespace. */
  async end(): Promise<void> {
    await this.#program.kill();
  }

  #onSaid(text: string): void {
    this.#said = `${this.#said}${text}`.slice(-MAX_SAID_CHARS);
    const waiting = this.#waiting;
    const at = waiting === null ? -1 : this.#said.indexOf(waiting.mark);
    if (waiting === null || at < 0) return;
    const before = this.#said.slice(0, at);
    this.#said = this.#said.slice(at + waiting.mark.length);
    this.#waiting = null;
    this.hasAnswered = true;
    waiting.words.resolve(complaintsIn(before));
  }

  #onEnded(): void {
    this.ended = true;
    this.#waiting?.words.reject(new SwarmError("unavailable", this.#said.trim() || "it ended"));
    this.#waiting = null;
  }
}

/**
 * Keeps `nft` and `ip` running in the namespaces that change, instead of starting one for each
 * change: a start costs ten times the change, and so does the end of one that has deleted
 * something, because closing its socket waits until no packet uses that any more (RCU).
 */
export class Conversations {
  readonly #deps: ConversationsDeps;
  readonly #open = new Map<string, Conversation>();
  /** Programs that cannot be spoken with on this host. */
  readonly #silent = new Set<Speaker>();
  #timer: Timer | null = null;
  #closed = false;

  constructor(deps: ConversationsDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#open.size;
  }

  /**
   * False when this way is not to be had: start a program. Throws failed_precondition with the
   * program's words when it refuses. Not to be called twice at once for one namespace.
   */
  async ask(namespace: string, speaker: Speaker, commands: string): Promise<boolean> {
    if (this.#closed || this.#silent.has(speaker)) return false;
    if (commands.length > MAX_ASKED_CHARS) return false;
    const key = `${speaker} ${namespace}`;
    const conversation = await this.#conversation(key, namespace, speaker);
    if (conversation === null) return false;
    conversation.idleSinceMs = null;
    const timer = this.#deps.clock.setTimer("conversation", TIMEOUT_MS, () => {
      void conversation.end();
    });
    let said: string;
    try {
      said = await conversation.ask(commands);
    } catch (error) {
      this.#open.delete(key);
      if (conversation.hasAnswered) throw error;
      this.#silent.add(speaker);
      this.#deps.logger.info("a program is started anew for each change: it does not listen", {
        program: speaker,
      });
      return false;
    } finally {
      timer.cancel();
      conversation.idleSinceMs = this.#deps.clock.monoMs();
    }
    if (said === "") return true;
    throw new SwarmError("failed_precondition", `${speaker}: ${said.slice(0, MAX_QUOTED_CHARS)}`);
  }

  /** Lets go of the namespace: it does not end while a program is in it. */
  async forget(namespace: string): Promise<void> {
    const keys = [...this.#open.keys()].filter(key => key.split(" ")[1] === namespace);
    await Promise.all(keys.map(key => this.#end(key)));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await Promise.all([...this.#open.keys()].map(key => this.#end(key)));
  }

  async #conversation(
    key: string,
    namespace: string,
    speaker: Speaker,
  ): Promise<Conversation | null> {
    const inode = await (this.#deps.inodeOf ?? inodeOf)(namespace);
    const known = this.#open.get(key);
    // Another namespace may have its name by now.
    if (known !== undefined && (known.isWorn || known.namespace !== inode)) await this.#end(key);
    if (inode === null) return null;
    const same = this.#open.get(key);
    if (same !== undefined) return same;
    if (this.#open.size >= MAX_CONVERSATIONS && !(await this.#makeRoom())) return null;
    const command = ["nsenter", `--net=${NETNS_DIR}/${namespace}`, ...COMMANDS[speaker]];
    const nowMs = this.#deps.clock.monoMs();
    const conversation = new Conversation(this.#deps.programs, command, inode, nowMs);
    this.#open.set(key, conversation);
    this.#timer ??= this.#sweepLater();
    return conversation;
  }

  async #makeRoom(): Promise<boolean> {
    let oldest: string | null = null;
    let sinceMs = Number.POSITIVE_INFINITY;
    for (const [key, { idleSinceMs }] of this.#open) {
      if (idleSinceMs === null || idleSinceMs >= sinceMs) continue;
      sinceMs = idleSinceMs;
      oldest = key;
    }
    if (oldest === null) return false;
    await this.#end(oldest);
    return true;
  }

  #sweepLater(): Timer {
    return this.#deps.clock.setTimer("conversations", IDLE_MS, () => {
      const nowMs = this.#deps.clock.monoMs();
      for (const [key, { idleSinceMs }] of this.#open) {
        if (idleSinceMs !== null && nowMs - idleSinceMs >= IDLE_MS) void this.#end(key);
      }
      this.#timer = this.#open.size > 0 ? this.#sweepLater() : null;
    });
  }

  async #end(key: string): Promise<void> {
    const conversation = this.#open.get(key);
    this.#open.delete(key);
    await conversation?.end();
  }
}

function inodeOf(namespace: string): Promise<number | null> {
  return stat(`${NETNS_DIR}/${namespace}`).then(
    ({ ino }) => ino,
    () => null,
  );
}

/** What was said before a mark, without what belongs to it and to the mark before it. */
function complaintsIn(text: string): string {
  const lines = text.split("\n").slice(0, text.endsWith("\n") ? -2 : -1);
  const first = lines.findIndex(line => !isOfMark(line));
  return first < 0 ? "" : lines.slice(first).join("\n").trim();
}

function isOfMark(line: string): boolean {
  return UNDERLINE.test(line) || line.startsWith("Command failed") || line.startsWith('" is unk');
}
