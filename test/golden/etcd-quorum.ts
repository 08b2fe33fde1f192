import {
  type JointVoters,
  jointCommitted,
  jointIds,
  jointVote,
  majorityCommitted,
  majorityVote,
} from "../../src/raft/core/quorum.ts";
import type { RaftId } from "../../src/raft/core/types.ts";
import { type Directive, valuesOf } from "./datadriven.ts";

const RESULT_NAMES = { won: "VoteWon", lost: "VoteLost", pending: "VotePending" } as const;
const IDX_WIDTH = 5;
const NO_VOTERS: ReadonlySet<RaftId> = new Set();

interface Question {
  readonly voters: JointVoters;
  readonly joint: boolean;
}

/** Runs a `committed` or `vote` directive. */
export function runQuorum(directive: Directive): string {
  const cfg = valuesOf(directive, "cfg").map(Number);
  const cfgj = valuesOf(directive, "cfgj");
  const outgoing = cfgj[0] === "zero" ? [] : cfgj.map(Number);
  const voters = { incoming: new Set(cfg), outgoing: new Set(outgoing) };
  const question: Question = { voters, joint: cfgj.length > 0 };
  const key = directive.command === "vote" ? "votes" : "idx";
  const given = valuesOf(directive, key);
  const ids = [...new Set([...cfg, ...outgoing])];
  if (ids.length !== given.length) {
    const known = jointIds(voters).map(id => `${id}:{}`);
    return `error: mismatched input (explicit or _) for voters map[${known.join(" ")}]: [${given.join(" ")}]`;
  }
  const answers = new Map<RaftId, string>();
  ids.forEach((id, i) => {
    const answer = given[i];
    if (answer !== undefined && answer !== "_") answers.set(id, answer);
  });
  return directive.command === "vote"
    ? runVote(question, answers)
    : runCommitted(question, answers);
}

function swapped({ incoming, outgoing }: JointVoters): JointVoters {
  return { incoming: outgoing, outgoing: incoming };
}

function runVote({ voters, joint }: Question, answers: ReadonlyMap<RaftId, string>): string {
  const voteOf = (id: RaftId): boolean | undefined => {
    const answer = answers.get(id);
    return answer === undefined ? undefined : answer === "y";
  };
  const result = joint ? jointVote(voters, voteOf) : majorityVote(voters.incoming, voteOf);
  const lines: string[] = [];
  const other = jointVote(swapped(voters), voteOf);
  if (other !== result) lines.push(`${RESULT_NAMES[other]} <-- via symmetry`);
  return [...lines, RESULT_NAMES[result]].join("\n");
}

function runCommitted(question: Question, answers: ReadonlyMap<RaftId, string>): string {
  const { voters, joint } = question;
  const acked = (id: RaftId): number | undefined => {
    const answer = answers.get(id);
    return answer === undefined ? undefined : Number(answer);
  };
  const index = joint ? jointCommitted(voters, acked) : majorityCommitted(voters.incoming, acked);
  const others: readonly (readonly [string, number])[] = joint
    ? [["symmetry", jointCommitted(swapped(voters), acked)]]
    : [
        ["alternative computation", naiveCommitted(voters.incoming, acked)],
        ["zero-joint quorum", jointCommitted({ ...voters, outgoing: NO_VOTERS }, acked)],
        ["self-joint quorum", jointCommitted({ ...voters, outgoing: voters.incoming }, acked)],
      ];
  const lines = others
    .filter(([, other]) => other !== index)
    .map(([how, other]) => `${formatIndex(other)} <-- via ${how}`);
  return picture(jointIds(voters), acked) + [...lines, formatIndex(index)].join("\n");
}

function formatIndex(index: number): string {
  return Number.isFinite(index) ? String(index) : "∞";
}

/** Straight from the definition: the highest index that more than half have reached. */
export function naiveCommitted(
  voters: ReadonlySet<RaftId>,
  acked: (id: RaftId) => number | undefined,
): number {
  if (voters.size === 0) return Number.POSITIVE_INFINITY;
  const indexes = [...voters].map(id => acked(id) ?? 0);
  const reached = (index: number): boolean =>
    indexes.filter(other => other >= index).length * 2 > voters.size;
  return Math.max(0, ...indexes.filter(reached));
}

/** A bar a voter, as long as the number of voters that are behind it. */
function picture(ids: readonly RaftId[], acked: (id: RaftId) => number | undefined): string {
  if (ids.length === 0) return "<empty majority quorum>";
  const indexes = ids.map(id => acked(id) ?? 0);
  const lines = ids.map((id, i) => {
    const own = indexes[i] ?? 0;
    const bar = indexes.filter(other => other < own).length;
    const mark =
      acked(id) === undefined
        ? `?${" ".repeat(ids.length)}`
        : `${"x".repeat(bar)}>${" ".repeat(ids.length - bar)}`;
    return `${mark} ${String(own).padStart(IDX_WIDTH)}    (id=${id.toString(16)})\n`;
  });
  return `${" ".repeat(ids.length)}    idx\n${lines.join("")}`;
}
