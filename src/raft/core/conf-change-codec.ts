import { SwarmError } from "../../base/errors.ts";
import type { ConfChange, ConfChangeOp, ConfChangeSingle } from "./types.ts";

/*
 * Layout, big-endian: version u8, transition u8, count u16, count * (op u8, id f64), context to
 * the end. The change that leaves a joint configuration is the empty array, so that no size limit
 * can ever refuse it.
 */
const VERSION = 1;
const TRANSITIONS: readonly ConfChange["transition"][] = [
  "auto",
  "joint-implicit",
  "joint-explicit",
];
const OPS: readonly ConfChangeOp[] = ["add-voter", "add-learner", "remove", "update"];
const HEADER_BYTES = 4;
const CHANGE_BYTES = 9;
/** Members changed at once; far above any cluster's size. */
export const MAX_CHANGES = 1024;

const LEAVE_JOINT: ConfChange = { transition: "auto", changes: [], context: new Uint8Array() };

/** The data of a conf-change entry. */
export function encodeConfChange(change: ConfChange): Uint8Array {
  const { transition, changes, context } = change;
  if (transition === "auto" && changes.length === 0 && context.length === 0) {
    return new Uint8Array();
  }
  if (changes.length > MAX_CHANGES) {
    throw new SwarmError(
      "invalid_argument",
      `${changes.length} members changed at once; the most is ${MAX_CHANGES}`,
    );
  }
  const contextAt = HEADER_BYTES + changes.length * CHANGE_BYTES;
  const data = new Uint8Array(contextAt + context.length);
  const view = new DataView(data.buffer);
  view.setUint8(0, VERSION);
  view.setUint8(1, TRANSITIONS.indexOf(transition));
  view.setUint16(2, changes.length);
  changes.forEach(({ op, id }, i) => {
    view.setUint8(HEADER_BYTES + i * CHANGE_BYTES, OPS.indexOf(op));
    view.setFloat64(HEADER_BYTES + i * CHANGE_BYTES + 1, id);
  });
  data.set(context, contextAt);
  return data;
}

/** The inverse of `encodeConfChange`. Throws data_loss on anything it did not write. */
export function decodeConfChange(data: Uint8Array): ConfChange {
  if (data.length === 0) return LEAVE_JOINT;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length < HEADER_BYTES || view.getUint8(0) !== VERSION) malformed("unknown version");
  const transition = TRANSITIONS[view.getUint8(1)];
  if (transition === undefined) malformed("unknown transition");
  const count = view.getUint16(2);
  const contextAt = HEADER_BYTES + count * CHANGE_BYTES;
  if (data.length < contextAt) malformed("truncated");
  const changes: ConfChangeSingle[] = [];
  for (let at = HEADER_BYTES; at < contextAt; at += CHANGE_BYTES) {
    const op = OPS[view.getUint8(at)];
    const id = view.getFloat64(at + 1);
    if (op === undefined || !Number.isSafeInteger(id)) malformed("unknown operation");
    changes.push({ op, id });
  }
  return { transition, changes, context: data.slice(contextAt) };
}

function malformed(why: string): never {
  throw new SwarmError("data_loss", `a membership change in the log cannot be read: ${why}`);
}
