import { SwarmError } from "../base/errors.ts";

export const NANO_CPUS_PER_CPU = 1_000_000_000;
export const KIB = 1024;
export const MIB = KIB * 1024;
export const GIB = MIB * 1024;

/** The least CPU that a limit or reservation may say (SwarmKit): 0.001. */
export const MIN_NANO_CPUS = 1_000_000;
/** The least memory that a limit or reservation may say (SwarmKit): 4 MiB. */
export const MIN_MEMORY_BYTES = 4 * MIB;

const UNIT_NAMES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;
const UNIT_LETTERS = "bkmgtp";

/** "12.3 GiB": binary units, at most one decimal, never rounded up to the next unit's name. */
export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (Math.abs(value) >= KIB && unit < UNIT_NAMES.length - 1) {
    value /= KIB;
    unit += 1;
  }
  return `${Math.floor(value * 10) / 10} ${UNIT_NAMES[unit]}`;
}

/** "0.5 CPUs", "1 CPU": at most three decimals, rounded down. */
export function formatCpus(nanoCpus: number): string {
  const cpus = Math.floor(nanoCpus / MIN_NANO_CPUS) / (NANO_CPUS_PER_CPU / MIN_NANO_CPUS);
  return `${cpus} ${cpus === 1 ? "CPU" : "CPUs"}`;
}

/**
 * Bytes of "512m", "1.5GiB", "64 MB": as docker/go-units' RAMInBytes, every unit binary. Throws
 * invalid_argument.
 */
export function parseBytes(text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?) ?([bkmgtp])?(?:i?b)?$/i.exec(text.trim());
  if (match === null) throw new SwarmError("invalid_argument", `invalid size: '${text}'`);
  const [, digits = "", letter = "b"] = match;
  const bytes = Math.floor(Number(digits) * KIB ** UNIT_LETTERS.indexOf(letter.toLowerCase()));
  if (!Number.isSafeInteger(bytes)) {
    throw new SwarmError("invalid_argument", `invalid size: '${text}' is too large`);
  }
  return bytes;
}

/**
 * 10^-9 CPUs of "0.5" or ".25"; more than nine decimals are refused, as by Docker's
 * ParseCPUs. Throws invalid_argument.
 */
export function parseCpus(text: string): number {
  const match = /^([0-9]*)(?:\.([0-9]*))?$/.exec(text.trim());
  const [, whole = "", fraction = ""] = match ?? [];
  if (match === null || whole + fraction === "") {
    throw new SwarmError("invalid_argument", `failed to parse ${text} as a rational number`);
  }
  const significant = fraction.replace(/0+$/, "");
  if (significant.length > 9) {
    throw new SwarmError("invalid_argument", "value is too precise");
  }
  const nanoCpus = Number(`${whole}${significant.padEnd(9, "0")}`);
  if (!Number.isSafeInteger(nanoCpus)) {
    throw new SwarmError("invalid_argument", `invalid number of CPUs: '${text}' is too large`);
  }
  return nanoCpus;
}
