/** RFC 3339 in UTC, without trailing zeros, as Go prints times; empty for 0. */
export function timeText(epochMs: number): string {
  return new Date(epochMs).toISOString().replace(/\.?0*Z$/, "Z");
}

/** Go's zero time: what Docker shows for "never". */
export const ZERO_TIME = "0001-01-01T00:00:00Z";

interface Row {
  readonly id: string;
  readonly version: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/** The head of every object of the cluster. */
export function metaDto(row: Row): object {
  return {
    ID: row.id,
    Version: { Index: row.version },
    CreatedAt: timeText(row.createdAtMs),
    UpdatedAt: timeText(row.updatedAtMs),
  };
}

/** A part of a document that is left out when empty. */
export function optional<T>(name: string, value: T | undefined | null | "" | 0 | false): object {
  if (value === undefined || value === null || value === "" || value === 0 || value === false) {
    return {};
  }
  return Array.isArray(value) && value.length === 0 ? {} : { [name]: value };
}
