import { NETWORK_LABEL_PREFIX, validateNetworkLabel } from "./network-labels.ts";
import { PUBLISH_ADDRESS_LABEL, parsePublishAddresses } from "./publish-address.ts";
import type { Labels } from "./service-spec.ts";
import { refusal } from "./validate-errors.ts";

/** All labels that swarmd itself reads begin so. */
export const SWARMD_LABEL_PREFIX = "swarmd.";

/** Labels on one object, and the characters of all their keys and values together. */
export const LABELS_MAX = 1_000;
export const LABELS_LENGTH_MAX = 256 * 1024;

interface LabelRule {
  readonly key: string;
  /** What values are allowed, in words. */
  readonly allowed: string;
  readonly accepts: (value: string) => boolean;
}

function oneOf(...values: readonly string[]): Pick<LabelRule, "allowed" | "accepts"> {
  return { allowed: `one of ${values.join(", ")}`, accepts: value => values.includes(value) };
}

/** The labels a service may carry to ask for what Docker's API has no field for. */
export const SERVICE_LABELS: readonly LabelRule[] = [
  { key: "swarmd.placement.strategy", ...oneOf("spread", "binpack", "random") },
  {
    key: PUBLISH_ADDRESS_LABEL,
    allowed:
      "IP addresses or networks with commas between them, for one published port as PORT=ADDRESS",
    accepts: value => parsePublishAddresses(value) !== null,
  },
  {
    key: "swarmd.restart.backoff",
    allowed: "on, off, or the longest delay as a duration such as 90s or 10m",
    accepts: value => ["on", "off"].includes(value) || parseDurationMs(value) !== null,
  },
  {
    key: "swarmd.update.deadline",
    allowed: "a duration such as 90s, 10m or 1h30m, or 0 for none",
    accepts: value => value === "0" || parseDurationMs(value) !== null,
  },
];

/** Refuses a service label that is meant for swarmd and is not one, or has a value it cannot have. */
export function validateServiceLabels(labels: Labels | undefined): void {
  validateLabelCount(labels);
  for (const [key, value] of swarmdLabels(labels)) {
    if (key.startsWith(NETWORK_LABEL_PREFIX)) {
      validateNetworkLabel(key, value);
      continue;
    }
    const rule = SERVICE_LABELS.find(candidate => candidate.key === key);
    if (rule === undefined) throw refusal(`unknown label ${key}: ${suggestion(key)}`);
    if (!rule.accepts(value)) {
      throw refusal(`invalid value '${value}' of label ${key}: it must be ${rule.allowed}`);
    }
  }
}

/** On a container such a label would be silently without effect, so it is refused there. */
export function validateContainerLabels(labels: Labels | undefined): void {
  validateLabelCount(labels);
  for (const [key] of swarmdLabels(labels)) {
    throw refusal(
      `label ${key} is set on the container, where it has no effect: ` +
        "set it on the service (--label, or deploy.labels in a compose file)",
    );
  }
}

/** Refuses more labels than an object may have. */
export function validateLabelCount(labels: Labels | undefined): void {
  const entries = Object.entries(labels ?? {});
  if (entries.length > LABELS_MAX) {
    throw refusal(`too many labels: ${entries.length}, at most ${LABELS_MAX} are allowed`);
  }
  const length = entries.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (length > LABELS_LENGTH_MAX) {
    throw refusal(
      `labels too large: ${length} characters, at most ${LABELS_LENGTH_MAX} are allowed`,
    );
  }
}

function swarmdLabels(labels: Labels | undefined): readonly (readonly [string, string])[] {
  return Object.entries(labels ?? {}).filter(([key]) =>
    key.toLowerCase().startsWith(SWARMD_LABEL_PREFIX),
  );
}

/** Edits up to which a label is taken for a misspelling of another. */
const MISSPELLING_EDITS_MAX = 6;

function suggestion(key: string): string {
  const keys = SERVICE_LABELS.map(rule => rule.key);
  const ranked = keys
    .map(known => ({ known, edits: editDistance(key.toLowerCase(), known) }))
    .sort((a, b) => a.edits - b.edits);
  const [nearest] = ranked;
  return nearest !== undefined && nearest.edits <= MISSPELLING_EDITS_MAX
    ? `did you mean ${nearest.known}?`
    : `swarmd's labels are ${[...keys, `${NETWORK_LABEL_PREFIX}NETWORK.ipv4`].join(", ")}`;
}

/** A longer text is no misspelling; it also bounds the work. */
const COMPARED_LENGTH_MAX = 64;

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  if (a.length > COMPARED_LENGTH_MAX) return a.length;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["s", 1_000],
  ["m", 60_000],
  ["h", 3_600_000],
]);

const DURATION_LENGTH_MAX = 64;

/** Milliseconds of a duration as Go writes it ("1h30m", "500ms"); null when it is none. No sign. */
export function parseDurationMs(text: string): number | null {
  if (text.length > DURATION_LENGTH_MAX) return null;
  if (!/^(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+$/.test(text)) return null;
  let total = 0;
  for (const [, digits = "", unit = ""] of text.matchAll(/([0-9.]+)(ms|s|m|h)/g)) {
    total += Number(digits) * (UNIT_MS.get(unit) ?? 0);
  }
  return Number.isSafeInteger(Math.round(total)) ? Math.round(total) : null;
}
