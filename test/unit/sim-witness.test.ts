import t from "tap";
import { newMessage } from "../../src/raft/core/message.ts";
import type { Entry } from "../../src/raft/core/types.ts";
import { Witness } from "../sim/witness.ts";

/** What the simulator's witness must and must not take for a fault, where a mutant does not show it. */

const MEMBER = 9;

function entry(index: number, term: number, text = "x"): Entry {
  return { index, term, kind: "normal", data: Buffer.from(text) };
}

/** A member with one entry of term 1 on its disk, which also knows of `term`. */
function withOneEntry(term: number): Witness {
  const witness = new Witness();
  const hardState = { term, vote: 0, commit: 0 };
  witness.wrote(MEMBER, { snapshot: null, entries: [entry(1, 1)], hardState });
  return witness;
}

t.test("an acknowledgement of what is not on disk", async t => {
  const witness = withOneEntry(1);
  witness.sent(MEMBER, newMessage("app-resp", { from: MEMBER, to: 2, term: 1, index: 1 }));
  t.equal(witness.violation, null);
  witness.sent(MEMBER, newMessage("app-resp", { from: MEMBER, to: 2, term: 1, index: 2 }));
  t.equal(witness.violation?.checker, "acknowledged-is-durable");
});

t.test("a late one, of entries that a later leader has replaced meanwhile, is none", async t => {
  const witness = withOneEntry(3);
  witness.sent(MEMBER, newMessage("app-resp", { from: MEMBER, to: 2, term: 1, index: 2 }));
  t.equal(witness.violation, null);
});

t.test("a disk comes back as it was synced, with or without the write under way", async t => {
  const identity = { clusterId: "c", raftId: MEMBER };
  const hardState = { term: 1, vote: 0, commit: 0 };
  const stored = { identity, hardState, snapshot: null };
  const back = (entries: readonly Entry[], writing: boolean): string | undefined => {
    const witness = withOneEntry(1);
    if (writing) {
      witness.writing(MEMBER, { snapshot: null, entries: [entry(2, 1)], hardState: null });
    }
    witness.opened(MEMBER, { ...stored, entries });
    return witness.violation?.checker;
  };
  t.equal(back([entry(1, 1)], false), undefined);
  t.equal(back([entry(1, 1)], true), undefined);
  t.equal(back([entry(1, 1), entry(2, 1)], true), undefined);
  t.equal(back([entry(1, 1), entry(2, 1)], false), "durable-stays-durable");
  t.equal(back([], false), "durable-stays-durable");
  t.equal(back([entry(1, 1, "y")], false), "durable-stays-durable");
});
