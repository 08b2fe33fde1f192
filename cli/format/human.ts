const SHORT_ID = 12;
const MINUTE_S = 60;
const HOUR_S = 3_600;
const DAY_S = 86_400;

/** Docker's words for a duration (go-units HumanDuration). */
export function humanDuration(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  if (seconds < 1) return "Less than a second";
  if (seconds === 1) return "1 second";
  if (seconds < MINUTE_S) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / MINUTE_S);
  if (minutes === 1) return "About a minute";
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.round(seconds / HOUR_S);
  if (hours === 1) return "About an hour";
  if (hours < 48) return `${hours} hours`;
  const days = Math.floor(seconds / DAY_S);
  if (days < 14) return `${days} days`;
  if (days < 60) return `${Math.floor(days / 7)} weeks`;
  if (days < 730) return `${Math.floor(days / 30)} months`;
  return `${Math.floor(days / 365)} years`;
}

export function ago(nowMs: number, timestamp: string): string {
  return `${humanDuration(Math.max(0, nowMs - Date.parse(timestamp)))} ago`;
}

export function shortId(id: string): string {
  return id.slice(0, SHORT_ID);
}

export function capitalize(text: string): string {
  return text === "" ? "" : `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}

/** Cuts to `width` characters with an ellipsis. */
export function ellipsis(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}
