/**
 * How Node.js runs swarmd. Memory before speed, for a daemon stands on every host beside the
 * user's own work: a small young generation, and an old one that is collected when it has grown by
 * 40 % (Node's own choice lets it double and more). A leader under load takes a third less. Below
 * 40 MB the old one is left alone: that costs a busy leader some 10 MB, and collecting the log's tail
 * over and over cost a third of the processor time of each commit.
 *
 * swarmd trusts its cluster's own root and no public one. Node reads the 140 it carries at the
 * first TLS connection all the same, some 40 ms of a join, unless told that OpenSSL's are used.
 *
 * Node looks for its own `--env-file` up to `--`, among the script's arguments too.
 */
export const NODE_FLAGS = [
  "--max-semi-space-size=4",
  "--heap-growing-percent=40",
  "--initial-old-space-size=40",
  "--use-openssl-ca",
  "--",
] as const;
