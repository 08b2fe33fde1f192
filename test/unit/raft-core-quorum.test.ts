import fc from "fast-check";
import t from "tap";
import { decodeConfChange, encodeConfChange } from "../../src/raft/core/conf-change-codec.ts";
import {
  changeMembership,
  changeSimply,
  enterJoint,
  fromConfState,
  isJoint,
  leaveJoint,
  type Membership,
  memberIds,
  toConfState,
} from "../../src/raft/core/membership.ts";
import {
  jointCommitted,
  jointVote,
  majorityCommitted,
  majorityVote,
} from "../../src/raft/core/quorum.ts";
import {
  type ConfChange,
  type ConfChangeSingle,
  EMPTY_CONF_STATE,
} from "../../src/raft/core/types.ts";
import { naiveCommitted } from "../golden/etcd-quorum.ts";

const NONE: ReadonlySet<number> = new Set();
const ids = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 9 }).map(x => new Set(x));
const acks = fc
  .dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.integer({ min: 0, max: 20 }))
  .map(known => (id: number) => known[id]);
const votes = fc
  .dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.boolean())
  .map(known => (id: number) => known[id]);

/** Tries every way the missing votes may fall. */
function naiveVote(
  voters: ReadonlySet<number>,
  voteOf: (id: number) => boolean | undefined,
): string {
  const open = [...voters].filter(id => voteOf(id) === undefined);
  const outcomes = new Set<boolean>();
  for (let bits = 0; bits < 2 ** open.length; bits += 1) {
    const granted = [...voters].filter(id => voteOf(id) ?? (bits >> open.indexOf(id)) % 2 === 1);
    outcomes.add(voters.size === 0 || granted.length > voters.size / 2);
  }
  if (outcomes.size === 2) return "pending";
  return outcomes.has(true) ? "won" : "lost";
}

t.test("a majority commits what more than half have", async () => {
  fc.assert(
    fc.property(ids, acks, (voters, acked) => {
      return majorityCommitted(voters, acked) === naiveCommitted(voters, acked);
    }),
  );
});

t.test("a majority's vote is pending while it can still go either way", async () => {
  fc.assert(
    fc.property(ids, votes, (voters, voteOf) => {
      return majorityVote(voters, voteOf) === naiveVote(voters, voteOf);
    }),
  );
});

t.test("a joint quorum is symmetric, and both majorities must agree", async () => {
  fc.assert(
    fc.property(ids, ids, acks, votes, (incoming, outgoing, acked, voteOf) => {
      const voters = { incoming, outgoing };
      const swapped = { incoming: outgoing, outgoing: incoming };
      const index = jointCommitted(voters, acked);
      const least = Math.min(naiveCommitted(incoming, acked), naiveCommitted(outgoing, acked));
      const halves = [naiveVote(incoming, voteOf), naiveVote(outgoing, voteOf)];
      const vote = jointVote(voters, voteOf);
      return (
        index === least &&
        index === jointCommitted(swapped, acked) &&
        vote === jointVote(swapped, voteOf) &&
        (vote === "lost") === halves.includes("lost") &&
        (vote === "won") === halves.every(half => half === "won")
      );
    }),
  );
});

t.test("an empty or equal second half changes nothing", async () => {
  fc.assert(
    fc.property(ids, acks, (incoming, acked) => {
      const alone = majorityCommitted(incoming, acked);
      return (
        jointCommitted({ incoming, outgoing: NONE }, acked) === alone &&
        jointCommitted({ incoming, outgoing: incoming }, acked) === alone
      );
    }),
  );
});

const ops = fc.constantFrom("add-voter", "add-learner", "remove", "update" as const);
/** Member 1 stays a voter, so that no prefix of the changes removes all voters. */
const change: fc.Arbitrary<ConfChangeSingle> = fc.record({
  op: ops,
  id: fc.integer({ min: 2, max: 7 }),
});
const changes = fc.array(change, { maxLength: 12 });

function simply(start: Membership, steps: readonly ConfChangeSingle[]): Membership {
  let membership = start;
  for (const step of steps) {
    const result = changeSimply(membership, [step]);
    if (!result.ok) throw new Error(result.error);
    membership = result.membership;
  }
  return membership;
}

const START = fromConfState({ ...EMPTY_CONF_STATE, voters: [1] });

t.test("a joint change ends where the same changes one by one do", async () => {
  fc.assert(
    fc.property(changes, changes, fc.boolean(), (setup, steps, autoLeave) => {
      const start = simply(START, setup);
      const joint = enterJoint(start, steps, autoLeave);
      if (!joint.ok) throw new Error(joint.error);
      const left = leaveJoint(joint.membership);
      if (!left.ok) throw new Error(left.error);
      const expected = toConfState(simply(start, steps));
      return JSON.stringify(toConfState(left.membership)) === JSON.stringify(expected);
    }),
  );
});

t.test("on the way both the old and the new voters decide, and nobody is forgotten", async () => {
  fc.assert(
    fc.property(changes, changes, (setup, steps) => {
      const start = simply(START, setup);
      const joint = enterJoint(start, steps, false);
      if (!joint.ok) throw new Error(joint.error);
      const { voters } = joint.membership;
      const old = [...start.voters.incoming].sort().join();
      const next = [...simply(start, steps).voters.incoming].sort().join();
      const known = memberIds(joint.membership);
      return (
        isJoint(joint.membership) &&
        [...voters.outgoing].sort().join() === old &&
        [...voters.incoming].sort().join() === next &&
        [...start.voters.incoming].every(id => known.has(id))
      );
    }),
  );
});

t.test("a stored membership reads back the same, joint or not", async () => {
  fc.assert(
    fc.property(changes, changes, fc.boolean(), (setup, steps, autoLeave) => {
      const start = simply(START, setup);
      const joint = enterJoint(start, steps, autoLeave);
      return [start, ...(joint.ok ? [joint.membership] : [])].every(membership => {
        const stored = toConfState(membership);
        return JSON.stringify(toConfState(fromConfState(stored))) === JSON.stringify(stored);
      });
    }),
  );
});

t.test("refusals change nothing and say why", async t => {
  const two = simply(START, [{ op: "add-voter", id: 2 }]);
  const joint = enterJoint(two, [{ op: "add-voter", id: 3 }], false);
  t.ok(joint.ok);
  if (!joint.ok) return;
  const refused = (membership: Membership, wanted: Omit<ConfChange, "context">): string => {
    const result = changeMembership(membership, { ...wanted, context: new Uint8Array() });
    return result.ok ? "" : result.error;
  };
  const auto = "auto" as const;
  t.equal(refused(two, { transition: auto, changes: [] }), "can't leave a non-joint config");
  t.equal(
    refused(joint.membership, { transition: auto, changes: [{ op: "remove", id: 2 }] }),
    "can't apply simple config change in joint config",
  );
  t.equal(
    refused(joint.membership, { transition: "joint-explicit", changes: [] }),
    "config is already joint",
  );
  t.equal(
    refused(START, { transition: auto, changes: [{ op: "remove", id: 1 }] }),
    "removed all voters",
  );
  t.same(toConfState(START).voters, [1]);
});

t.test("conf changes survive their encoding", async () => {
  const anyChange: fc.Arbitrary<ConfChange> = fc.record({
    transition: fc.constantFrom("auto", "joint-implicit", "joint-explicit" as const),
    changes: fc.array(fc.record({ op: ops, id: fc.integer({ min: 0, max: 2 ** 52 }) })),
    context: fc.uint8Array({ maxLength: 64 }),
  });
  fc.assert(
    fc.property(anyChange, wanted => {
      const read = decodeConfChange(encodeConfChange(wanted));
      return JSON.stringify(read) === JSON.stringify(wanted);
    }),
  );
});

t.test("what is no conf change is refused, not guessed at", async t => {
  const data = encodeConfChange({
    transition: "auto",
    changes: [{ op: "add-voter", id: 7 }],
    context: new Uint8Array(),
  });
  t.throws(() => decodeConfChange(data.slice(0, -1)), { code: "data_loss" });
  t.throws(() => decodeConfChange(Uint8Array.of(9, 0, 0, 0)), { code: "data_loss" });
  t.throws(() => decodeConfChange(Uint8Array.of(1, 9, 0, 0)), { code: "data_loss" });
  t.throws(() => decodeConfChange(data.map((byte, i) => (i === 4 ? 9 : byte))), {
    code: "data_loss",
  });
  const leave: ConfChange = { transition: "auto", changes: [], context: new Uint8Array() };
  t.equal(encodeConfChange(leave).length, 0, "leaving joint is empty: no limit refuses it");
});
