import type { Mutant } from "./catalog.ts";

const LEVEL = "src/raft/storage/level-storage.ts";
const LOAD = "src/raft/storage/level-load.ts";
const FILES = "src/raft/storage/snapshot-files.ts";
const WRITER = "src/raft/driver/log-writer.ts";
const RECORD = "src/raft/storage/record.ts";

/** Bugs of what is on disk, and of when. */
export const STORAGE_MUTANTS: readonly Mutant[] = [
  {
    name: "skip-fsync",
    what: "the log is written and not synced",
    quick: true,
    edits: [
      {
        file: LEVEL,
        from: "batch(operations, { sync: true })",
        to: "batch(operations, { sync: false })",
      },
    ],
  },
  {
    name: "skip-snapshot-fsync",
    what: "a snapshot is renamed into place before it is synced",
    quick: false,
    edits: [{ file: FILES, from: "    await this.#handle.sync();\n", to: "" }],
  },
  {
    name: "skip-dir-fsync",
    what: "the new name of a snapshot is not synced",
    quick: false,
    edits: [{ file: FILES, from: "    await this.#fs.syncDir(this.#options.dir);\n", to: "" }],
  },
  {
    name: "vote-not-persisted",
    what: "a vote alone is not worth a write",
    quick: true,
    edits: [
      { file: WRITER, from: "      this.#latest.vote !== this.#durable.vote ||\n", to: "" },
      { file: WRITER, from: "      this.#latest.term !== this.#durable.term ||\n", to: "" },
    ],
  },
  {
    name: "term-not-persisted",
    what: "a new term is not written when the vote is the same",
    quick: true,
    edits: [{ file: WRITER, from: "      this.#latest.term !== this.#durable.term ||\n", to: "" }],
  },
  {
    name: "stale-tail-kept",
    what: "entries that a new leader replaced stay on disk behind the new end",
    quick: false,
    edits: [
      {
        file: LEVEL,
        from: "    for (const block of this.#blocks.cut(first)) {\n",
        to: "    for (const block of this.#blocks.cut(first).slice(0, 1)) {\n",
      },
    ],
  },
  {
    name: "torn-tail-accepted",
    what: "checksums and the noted end of the log are not looked at",
    quick: false,
    edits: [
      { file: RECORD, from: "if (chain !== recordCrc(record))", to: "if (chain < 0)" },
      {
        file: RECORD,
        from: "if (record.readUInt32LE(0) !== crc32c(text))",
        to: "if (text.length === 0)",
      },
      {
        file: LOAD,
        from: "if (block.previousChain !== blocks.lastChain)",
        to: "if (block.previousChain < 0)",
      },
      {
        file: LOAD,
        from: "if (tail.lastIndex !== blocks.lastIndex || tail.chain !== blocks.lastChain)",
        to: "if (tail.lastIndex < 0)",
      },
    ],
  },
  {
    name: "lost-tail-accepted",
    what: "a log that lost its last synced write is taken for whole",
    quick: false,
    edits: [{ file: LEVEL, from: "if (found < sequence)", to: "if (found < 0)" }],
  },
  {
    name: "commit-forgotten",
    what: "a committed change of members is not written at once",
    quick: false,
    edits: [
      {
        file: WRITER,
        from: 'committed.some(entry => entry.kind === "conf-change")',
        to: "committed.length < 0",
      },
    ],
  },
];
