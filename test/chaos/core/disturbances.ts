import type { Blow, ChaosHistory, FaultRecord, LeaderSighting, RequestRecord } from "./history.ts";

/** What the faults allow the cluster to believe, and when. */

export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * A node counts as down after 10 s of silence. It may have been silent for a second before a fault,
 * and takes a while to be heard again after it; shorter faults must not cost it its tasks.
 */
export const LOST_AFTER_MS = 7_000;
/** Faults of a node that follow within this are one to the cluster. */
export const RECOVERY_MS = 6_000;

type HostBlow = Exclude<Blow["kind"], "partition" | "engine-restart">;
/** The node's daemon cannot be heard, whoever leads. */
const SILENCING: readonly HostBlow[] = ["kill", "stop", "pause", "cut", "poweroff"];

/** A daemon that was ended has this long to find the leader when it is back. */
const SESSION_WITHIN_MS = 30_000;
const ENDING: readonly Blow["kind"][] = ["kill", "stop", "poweroff"];

type Told = Pick<ChaosHistory, "faults" | "leaders" | "sessions">;

/** When the host may have been out of the leader's reach: at most, and merged. */
export function silences(host: string, told: Told): readonly Interval[] {
  const { faults, leaders } = told;
  const spans = faults.flatMap(fault =>
    fault.blows
      .filter(blow => silencesHost(blow, host, fault, leaders))
      .map(blow => ({ fromMs: fault.startMs, toMs: heardAgainMs(blow, host, fault, told) })),
  );
  return merged(spans, RECOVERY_MS);
}

/** A daemon takes its time to start, the more so on a busy machine. */
function heardAgainMs(blow: Blow, host: string, fault: FaultRecord, { sessions }: Told): number {
  if (!ENDING.includes(blow.kind)) return fault.endMs;
  const latestMs = fault.endMs + SESSION_WITHIN_MS;
  const next = sessions.find(mark => mark.host === host && mark.atMs > fault.healMs);
  return Math.max(fault.endMs, Math.min(next?.atMs ?? latestMs, latestMs));
}

function silencesHost(
  blow: Blow,
  host: string,
  fault: FaultRecord,
  leaders: readonly LeaderSighting[],
): boolean {
  if (blow.kind === "engine-restart") return false;
  if (blow.kind !== "partition") return blow.host === host && SILENCING.includes(blow.kind);
  const span = { fromMs: fault.startMs, toMs: fault.endMs };
  if (blow.host === host) return mayHaveLed(blow.other, span, leaders);
  return blow.other === host && mayHaveLed(blow.host, span, leaders);
}

/** Whether it was the last one seen to lead before, or was seen to lead during, the interval. */
export function mayHaveLed(
  host: string,
  span: Interval,
  leaders: readonly LeaderSighting[],
): boolean {
  const before = leaders.filter(sighting => sighting.atMs <= span.fromMs).at(-1);
  if (before?.host === host) return true;
  return leaders.some(
    ({ atMs, host: name }) => name === host && atMs > span.fromMs && atMs <= span.toMs,
  );
}

/** Sorted, with gaps up to `gapMs` closed. */
export function merged(spans: readonly Interval[], gapMs: number): readonly Interval[] {
  const out: Interval[] = [];
  for (const span of [...spans].sort((a, b) => a.fromMs - b.fromMs)) {
    const last = out.at(-1);
    if (last !== undefined && span.fromMs <= last.toMs + gapMs) {
      out[out.length - 1] = { fromMs: last.fromMs, toMs: Math.max(last.toMs, span.toMs) };
    } else out.push(span);
  }
  return out;
}

/**
 * When a leader gave the host up, as long as it might: the managers' own word is needed, and does
 * not suffice.
 */
export function losses(
  host: string,
  told: Told & Pick<ChaosHistory, "downs">,
): readonly (Interval & { readonly downMs: number })[] {
  return silences(host, told)
    .filter(span => span.toMs - span.fromMs >= LOST_AFTER_MS)
    .flatMap(span =>
      told.downs
        .filter(mark => mark.host === host)
        .filter(
          ({ atMs }) => atMs >= span.fromMs + LOST_AFTER_MS && atMs <= span.toMs + RECOVERY_MS,
        )
        .map(({ atMs }) => ({ ...span, downMs: atMs })),
    );
}

/** When no quorum can have existed: at least two of three managers surely out. */
export function withoutQuorum(
  managers: readonly string[],
  faults: readonly FaultRecord[],
): readonly Interval[] {
  const quorum = Math.floor(managers.length / 2) + 1;
  const outs = faults.flatMap(fault =>
    fault.blows
      .filter(blow => isOut(blow) && managers.includes(blow.host))
      .map(blow => ({ host: blow.host, fromMs: fault.injectedMs, toMs: fault.healMs })),
  );
  const starts = [...new Set(outs.map(out => out.fromMs))].sort((a, b) => a - b);
  const gaps = starts.flatMap(fromMs => {
    const down = outs.filter(out => out.fromMs <= fromMs && out.toMs > fromMs);
    const hosts = new Set(down.map(out => out.host));
    if (managers.length - hosts.size >= quorum) return [];
    return [{ fromMs, toMs: Math.min(...down.map(out => out.toMs)) }];
  });
  return merged(gaps, 0);
}

function isOut(blow: Blow): boolean {
  return blow.kind !== "partition" && blow.kind !== "engine-restart";
}

/** Whether the daemon of a host was there and running all the time. */
export function wasAwake(host: string, span: Interval, faults: readonly FaultRecord[]): boolean {
  return !faults.some(
    fault =>
      fault.startMs <= span.toMs &&
      fault.endMs >= span.fromMs &&
      fault.blows.some(blow => blow.host === host && isOut(blow) && blow.kind !== "cut"),
  );
}

/** When a node may have been drained: from a request for it to the grant of its end. */
export function drains(host: string, requests: readonly RequestRecord[]): readonly Interval[] {
  const writes = requests.flatMap(one =>
    one.what === "write" && one.key === `node/${host}` && one.outcome !== "refused" ? [one] : [],
  );
  return writes.flatMap((write, i) => {
    if (write.availability !== "drain") return [];
    const end = writes
      .slice(i + 1)
      .find(({ availability, outcome }) => availability === "active" && outcome === "acknowledged");
    return [{ fromMs: write.startMs, toMs: end?.endMs ?? Number.POSITIVE_INFINITY }];
  });
}
