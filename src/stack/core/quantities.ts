import { composeError, quoted } from "./errors.ts";

/** Durations, sizes and processors, read and written as Go's libraries do. */
const NS_PER_UNIT: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  "\u00b5s": 1e3,
  "\u03bcs": 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3_600e9,
};
const DURATION_PART = /^(\d+\.?\d*|\.\d+)([^\d.]*)/;

/** Nanoseconds of a Go duration ("1m30s"). Throws in the words of time.ParseDuration. */
export function parseDuration(text: string): number {
  const sign = text.startsWith("-") ? -1 : 1;
  let rest = text.replace(/^[+-]/, "");
  if (rest === "0") return 0;
  if (rest === "") throw composeError(`time: invalid duration ${quoted(text)}`);
  let ns = 0;
  while (rest !== "") {
    const [part = "", digits = "", unit = ""] = DURATION_PART.exec(rest) ?? [];
    if (part === "") throw composeError(`time: invalid duration ${quoted(text)}`);
    if (unit === "") throw composeError(`time: missing unit in duration ${quoted(text)}`);
    const factor = NS_PER_UNIT[unit];
    if (factor === undefined) {
      throw composeError(`time: unknown unit ${quoted(unit)} in duration ${quoted(text)}`);
    }
    ns += Number(digits) * factor;
    rest = rest.slice(part.length);
  }
  return sign * Math.trunc(ns);
}

export function isDuration(text: string): boolean {
  try {
    parseDuration(text);
    return true;
  } catch {
    return false;
  }
}

/** A duration as Go prints it: "1h0m0s", "1.5s", "20ms". */
export function formatDuration(ns: number): string {
  if (ns === 0) return "0s";
  const sign = ns < 0 ? "-" : "";
  const size = Math.abs(ns);
  if (size < 1e3) return `${sign}${size}ns`;
  if (size < 1e6) return `${sign}${decimal(size, 1e3)}\u00b5s`;
  if (size < 1e9) return `${sign}${decimal(size, 1e6)}ms`;
  const minutes = Math.floor(size / 60e9);
  const seconds = `${decimal(size - minutes * 60e9, 1e9)}s`;
  if (minutes === 0) return `${sign}${seconds}`;
  const hours = Math.floor(minutes / 60);
  return `${sign}${hours === 0 ? "" : `${hours}h`}${minutes % 60}m${seconds}`;
}

function decimal(ns: number, unit: number): string {
  const whole = Math.floor(ns / unit);
  const digits = String(unit).length - 1;
  const rest = String(ns - whole * unit)
    .padStart(digits, "0")
    .replace(/0+$/, "");
  return rest === "" ? String(whole) : `${whole}.${rest}`;
}

const BINARY = "kmgtp";
const GO_FLOAT = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Bytes of "64M", "1.5 GiB" or a plain number, in powers of 1024 (units.RAMInBytes). */
export function parseSize(text: string): number {
  const at = Math.max(...[..."0123456789. "].map(char => text.lastIndexOf(char)));
  if (at < 0) throw composeError(`invalid size: '${text}'`);
  const number = text.slice(0, text[at] === " " ? at : at + 1);
  const suffix = text.slice(at + 1);
  if (!GO_FLOAT.test(number)) {
    throw composeError(`strconv.ParseFloat: parsing ${quoted(number)}: invalid syntax`);
  }
  const size = Number(number);
  if (size < 0) throw composeError(`invalid size: '${text}'`);
  return Math.trunc(size * suffixFactor(suffix));
}

function suffixFactor(suffix: string): number {
  const lower = suffix.toLowerCase();
  if (lower === "" || lower === "b") return 1;
  const power = BINARY.indexOf(lower[0] ?? "") + 1;
  if (power === 0 || !["", "b", "ib"].includes(lower.slice(1))) {
    throw composeError(`invalid suffix: '${suffix.length > 3 ? suffix : lower}'`);
  }
  return 1024 ** power;
}

const NANO_DIGITS = 9;

/** 10^-9 processors of "0.5" (opts.ParseCPUs). */
export function parseCpus(text: string): number {
  const [, sign = "", whole = "", fraction = "", exponent = "0"] =
    /^([+-]?)(\d*)\.?(\d*)(?:e([+-]?\d+))?$/i.exec(text) ?? [];
  if (whole === "" && fraction === "") {
    throw composeError(`failed to parse ${text} as a rational number`);
  }
  const shift = NANO_DIGITS + Number(exponent) - fraction.length;
  const digits = whole + fraction;
  const cut = shift < 0 ? digits.slice(shift) : "";
  if (/[1-9]/.test(cut)) throw composeError("value is too precise");
  const nano = shift < 0 ? digits.slice(0, shift) : digits + "0".repeat(shift);
  return Number(`${sign}${nano === "" ? "0" : nano}`);
}

const FLOAT32_DIGITS = 9;

/** The shortest number that is the same in 32 bits: how Go writes a float32. */
export function shortFloat32(value: number): number {
  const target = Math.fround(value);
  for (let digits = 1; digits < FLOAT32_DIGITS; digits += 1) {
    const short = Number(target.toPrecision(digits));
    if (Math.fround(short) === target) return short;
  }
  return Number(target.toPrecision(FLOAT32_DIGITS));
}
