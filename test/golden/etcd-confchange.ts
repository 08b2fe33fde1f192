import {
  changeSimply,
  enterJoint,
  leaveJoint,
  type MembershipResult,
} from "../../src/raft/core/membership.ts";
import { Tracker } from "../../src/raft/core/tracker.ts";
import { EMPTY_CONF_STATE } from "../../src/raft/core/types.ts";
import { type Directive, valuesOf } from "./datadriven.ts";
import { describeMembership, describeProgress, parseChanges } from "./etcd-describe.ts";

const LIMITS = { maxInflightMessages: 10, maxInflightBytes: Number.POSITIVE_INFINITY };

/** A membership that persists through one file. Each directive counts as one log entry. */
export class ConfChangeScript {
  readonly #tracker = new Tracker({ conf: EMPTY_CONF_STATE, lastIndex: 0 }, LIMITS);
  #lastIndex = 0;

  run(directive: Directive): string {
    const tracker = this.#tracker;
    const result = this.#change(directive);
    const lastIndex = this.#lastIndex;
    this.#lastIndex += 1;
    if (!result.ok) return result.error;
    tracker.switchTo(result.membership, result.fresh, lastIndex);
    const lines = tracker.members().map(([id, progress]) => describeProgress(progress.status(id)));
    return [describeMembership(tracker.membership), ...lines].join("\n");
  }

  #change(directive: Directive): MembershipResult {
    const { membership } = this.#tracker;
    const changes = parseChanges(directive.input);
    switch (directive.command) {
      case "simple":
        return changeSimply(membership, changes);
      case "enter-joint":
        return enterJoint(membership, changes, valuesOf(directive, "autoleave")[0] === "true");
      case "leave-joint":
        if (changes.length > 0) return { ok: false, error: "this command takes no input" };
        return leaveJoint(membership);
      default:
        return { ok: false, error: "unknown command" };
    }
  }
}
