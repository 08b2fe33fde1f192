import type { Mutant } from "./catalog.ts";

const STATE = "src/raft/core/state.ts";
const LOG = "src/raft/core/log.ts";
const LEADER = "src/raft/core/leader.ts";
const FOLLOWER = "src/raft/core/follower.ts";
const ELECTION = "src/raft/core/election.ts";
const REPLICATION = "src/raft/core/replication.ts";
const QUORUM = "src/raft/core/quorum.ts";
const TRACKER = "src/raft/core/tracker.ts";
const PROPOSALS = "src/raft/driver/proposals.ts";
const PENDING = "src/raft/driver/pending.ts";
const START = "src/raft/driver/start.ts";
const STORE = "src/state/store.ts";
const ADDRESSES = "src/allocator/core/address-book.ts";

const ELECTION_MUTANTS: readonly Mutant[] = [
  {
    name: "two-votes-a-term",
    what: "a vote is granted to whoever asks",
    quick: true,
    edits: [
      {
        file: ELECTION,
        from: "    state.vote === from ||\n",
        to: "    state.vote === from || !preVote ||\n",
      },
    ],
  },
  {
    name: "votes-for-any-log",
    what: "the last entry's term does not count in an election, only its index",
    quick: false,
    edits: [
      {
        file: LOG,
        from: "theirs.term > ours.term || (theirs.term === ours.term && theirs.index >= ours.index)",
        to: "theirs.index >= ours.index",
      },
    ],
  },
  {
    name: "minority-elects",
    what: "half of the voters are a quorum",
    quick: true,
    edits: [
      { file: QUORUM, from: "Math.floor(size / 2) + 1", to: "Math.max(1, Math.floor(size / 2))" },
    ],
  },
];

const REPLICATION_MUTANTS: readonly Mutant[] = [
  {
    name: "ack-before-persist",
    what: "a follower acknowledges entries that are not on its disk yet",
    quick: true,
    edits: [
      {
        file: STATE,
        from: "else if (PERSIST_FIRST_KINDS.has(kind))",
        to: 'else if (kind !== "app-resp" && PERSIST_FIRST_KINDS.has(kind))',
      },
    ],
  },
  {
    name: "leader-counts-unsynced",
    what: "a leader counts its own entries before they are on its disk",
    quick: true,
    edits: [
      {
        file: REPLICATION,
        from: "  log.append(entries);\n",
        to: "  log.append(entries);\n  state.tracker.progress(state.id)?.maybeUpdate(log.lastIndex);\n  maybeCommit(state);\n",
      },
    ],
  },
  {
    name: "ack-before-quorum",
    what: "a client is told of its write when the leader has taken it",
    quick: true,
    edits: [
      {
        file: PROPOSALS,
        from: "        proposal.handedOver = true;\n        this.#pending",
        to: "        proposal.handedOver = true;\n        proposal.deferred.resolve({ ok: true, index: result.index + i });\n        this.#pending",
      },
    ],
  },
  {
    name: "old-term-by-count",
    what: "an entry of an earlier term is committed by counting copies (Figure 8)",
    quick: false,
    edits: [
      {
        file: REPLICATION,
        from: " || log.term(index) !== term) return false",
        to: ") return false",
      },
    ],
  },
  {
    name: "other-term-accepted",
    what: "an entry matches by its index, whatever its term",
    quick: true,
    edits: [
      {
        file: LOG,
        from: "    return this.term(position.index) === position.term;\n",
        to: "    return this.term(position.index) !== undefined;\n",
      },
    ],
  },
  {
    name: "truncates-on-any-append",
    what: "an old message cuts off what came after it, acknowledged or not",
    quick: true,
    edits: [
      {
        file: LOG,
        from: "entries.findIndex(entry => !this.matches(entry))",
        to: "entries.findIndex(entry => entry.index > this.#committed)",
      },
    ],
  },
  {
    name: "truncates-committed",
    what: "entries below the commit index are replaced without a word",
    quick: false,
    edits: [
      { file: FOLLOWER, from: "if (index < log.committed)", to: "if (index < 0)" },
      {
        file: LOG,
        from: "entries.findIndex(entry => !this.matches(entry))",
        to: "entries.findIndex(entry => entry.index > 0)",
      },
      {
        file: LOG,
        from: "assert(first.index > this.#committed, ",
        to: "assert(first.index > 0, ",
      },
    ],
  },
  {
    name: "heartbeat-commits-all",
    what: "a heartbeat carries the commit index to members that lack the entries",
    quick: true,
    edits: [
      {
        file: REPLICATION,
        from: "Math.min(progress.match, state.log.committed)",
        to: "Math.max(0, state.log.committed)",
      },
    ],
  },
];

const MEMBERSHIP_MUTANTS: readonly Mutant[] = [
  {
    name: "change-without-own-commit",
    what: "a new leader changes the members before it has committed anything",
    quick: false,
    edits: [
      {
        file: LEADER,
        from: "if (pending || !hasCommittedInTerm(state))",
        to: "if (pending)",
      },
      { file: LEADER, from: "  state.pendingConfIndex = state.log.lastIndex;\n", to: "" },
    ],
  },
  {
    name: "learner-counts",
    what: "a learner's copy counts for the quorum",
    quick: false,
    edits: [
      {
        file: TRACKER,
        from: "return jointCommitted(this.#membership.voters, id",
        to: "const { voters, learners } = this.#membership;\n    const incoming = new Set([...voters.incoming, ...learners]);\n    return jointCommitted({ ...voters, incoming }, id",
      },
    ],
  },
  {
    name: "joint-uses-new-half",
    what: "a joint membership commits by its new half alone",
    quick: false,
    edits: [
      {
        file: QUORUM,
        from: "    majorityCommitted(voters.outgoing, acked),\n",
        to: "",
      },
    ],
  },
  {
    name: "snapshot-forgets-members",
    what: "a member that gets a snapshot keeps the membership it had",
    quick: false,
    edits: [{ file: FOLLOWER, from: "  state.tracker.replace(conf, log.lastIndex);\n", to: "" }],
  },
];

const READ_MUTANTS: readonly Mutant[] = [
  {
    name: "read-without-quorum",
    what: "a leader answers a read without asking anybody",
    quick: false,
    edits: [
      {
        file: REPLICATION,
        from: "} else if (state.tracker.isOnlyVoter(state.id)) {",
        to: "} else if (state.tracker.isVoter(state.id)) {",
      },
    ],
  },
  {
    name: "lease-read",
    what: "a leader answers reads within a lease that it counts in its own ticks",
    quick: false,
    edits: [
      {
        file: REPLICATION,
        from: "} else if (state.tracker.isOnlyVoter(state.id)) {",
        to: "} else if (state.tracker.isOnlyVoter(state.id) || state.tracker.quorumActive()) {",
      },
    ],
  },
  {
    name: "read-before-apply",
    what: "a confirmed read does not wait for its index to be applied",
    quick: true,
    edits: [
      {
        file: "src/raft/driver/reads.ts",
        from: "filter(read => read.index <= index)",
        to: "filter(read => read.index <= index + 1_000)",
      },
    ],
  },
];

const APPLY_MUTANTS: readonly Mutant[] = [
  {
    name: "other-entry-answers",
    what: "a client is told that its write was done when another entry took its place",
    quick: false,
    edits: [{ file: PENDING, from: "if (pending.term === term)", to: "if (pending.term > 0)" }],
  },
  {
    name: "apply-skipped",
    what: "after a restart what was committed counts as applied",
    quick: true,
    edits: [
      {
        file: START,
        from: "applied: snapshot?.index ?? 0,",
        to: "applied: Math.max(snapshot?.index ?? 0, hardState.commit),",
      },
    ],
  },
  {
    name: "apply-twice",
    what: "an entry is handed to the state machine twice",
    quick: true,
    edits: [
      {
        file: "src/raft/driver/applier.ts",
        from: "    const result = this.#execute(entry);\n",
        to: '    const result = this.#execute(entry);\n    if (entry.kind === "normal" && index % 16 === 0) this.#execute(entry);\n',
      },
    ],
  },
  {
    name: "apply-by-own-clock",
    what: "a member stamps rows with its own time as it applies them",
    quick: true,
    edits: [
      {
        file: STORE,
        from: "applyTransaction(this.#view.tables, decoded.tx, entry.index)",
        to: "applyTransaction(this.#view.tables, { ...decoded.tx, nowMs: this.#clock.nowMs() }, entry.index)",
      },
    ],
  },
  {
    name: "snapshot-late-image",
    what: "the image of a snapshot is made a moment after its index is noted",
    quick: true,
    edits: [
      {
        file: "src/raft/driver/snapshots.ts",
        from: "    const chunks = stateMachine.snapshot();\n",
        to: '    await new Promise<void>(done => clock.setTimer("late", 5, done));\n    const chunks = stateMachine.snapshot();\n',
      },
    ],
  },
  {
    name: "allocations-forgotten",
    what: "a new leader does not read which addresses are given out",
    quick: false,
    edits: [
      {
        file: ADDRESSES,
        from: '    for (const service of view.table("services").all()) this.#holdService(view, service);\n',
        to: "",
      },
      {
        file: ADDRESSES,
        from: '    for (const task of view.table("tasks").all()) this.#holdTask(view, task);\n',
        to: "",
      },
    ],
  },
];

/** Bugs of consensus, of what is read and of what is applied. */
export const RAFT_MUTANTS: readonly Mutant[] = [
  ...ELECTION_MUTANTS,
  ...REPLICATION_MUTANTS,
  ...MEMBERSHIP_MUTANTS,
  ...READ_MUTANTS,
  ...APPLY_MUTANTS,
];
