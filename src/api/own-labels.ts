/**
 * The one label that swarmd puts on a task's container besides swarm mode's own, by which a node
 * finds its cluster's containers again. Clients of this socket see containers as swarm mode's.
 */
const LABEL = "swarmd\\.cluster\\.id";
const IN_JSON = new RegExp(`,"${LABEL}":"[0-9a-z]*"|"${LABEL}":"[0-9a-z]*",?`, "g");

/** The Engine's JSON without it. Inside a text its quotes are escaped, and it stays. */
export function hideOwnLabel(json: string): string {
  return json.includes("swarmd.cluster.id") ? json.replace(IN_JSON, "") : json;
}
