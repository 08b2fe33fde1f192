/**
 * How Node.js runs swarmd: memory before speed, for a daemon stands on every host beside the
 * user's own work. A small young generation, and an old one that is collected when it has grown by
 * 40 % (Node's own choice lets it double and more): a leader under load takes a third less.
 */
export const NODE_FLAGS = ["--max-semi-space-size=4", "--heap-growing-percent=40"] as const;
