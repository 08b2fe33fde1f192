import type { SwarmEventFeed } from "../../src/control/swarm-events.ts";

/** Collects a feed's events from now on as short lines. */
export function swarmEvents(feed: SwarmEventFeed): () => readonly string[] {
  const lines: string[] = [];
  feed.subscribe(({ type, action, attributes: { name, ...rest } }) => {
    const more = Object.entries(rest)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => ` ${key}=${value}`);
    lines.push(`${type} ${action} ${name}${more.join("")}`);
  });
  return () => lines;
}
