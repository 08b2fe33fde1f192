import { SwarmError } from "../base/errors.ts";

/** A Docker API version; compared by number, not by text. */
export interface ApiVersion {
  readonly major: number;
  readonly minor: number;
}

/** The oldest version that is answered (Engine 20.10's; a newer Engine says a newer one). */
export const MIN_API_VERSION: ApiVersion = { major: 1, minor: 12 };
/** Spoken while the Engine has not told its version. */
export const FALLBACK_API_VERSION: ApiVersion = { major: 1, minor: 41 };

export function parseApiVersion(text: string): ApiVersion | null {
  const match = /^(\d{1,4})\.(\d{1,4})$/.exec(text);
  return match === null ? null : { major: Number(match[1]), minor: Number(match[2]) };
}

export function formatApiVersion(version: ApiVersion): string {
  return `${version.major}.${version.minor}`;
}

/** Negative when `a` is older. */
export function compareApiVersions(a: ApiVersion, b: ApiVersion): number {
  return a.major - b.major || a.minor - b.minor;
}

export function atLeast(version: ApiVersion, minor: number): boolean {
  return compareApiVersions(version, { major: 1, minor }) >= 0;
}

const PREFIX = /^\/v(\d{1,4}\.\d{1,4})(?=\/|$)/;

/** Splits `/v1.41/services` into version and path; the newest version when none is said. */
export function splitVersion(
  path: string,
  max: ApiVersion,
): { readonly version: ApiVersion; readonly path: string } {
  const match = PREFIX.exec(path);
  const said = match === null ? null : parseApiVersion(match[1] ?? "");
  if (match === null || said === null) return { version: max, path };
  return { version: said, path: path.slice(match[0].length) || "/" };
}

/** Refuses versions outside the supported range, in Docker's words. */
export function checkVersion(version: ApiVersion, max: ApiVersion): void {
  const said = formatApiVersion(version);
  if (compareApiVersions(version, max) > 0) {
    const text = `client version ${said} is too new. Maximum supported API version is `;
    throw new SwarmError("invalid_argument", text + formatApiVersion(max));
  }
  if (compareApiVersions(version, MIN_API_VERSION) < 0) {
    const text =
      `client version ${said} is too old. Minimum supported API version is ` +
      `${formatApiVersion(MIN_API_VERSION)}, please upgrade your client to a newer version`;
    throw new SwarmError("invalid_argument", text);
  }
}
