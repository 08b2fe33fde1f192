/** The architecture as rules: a rule that nothing enforces decays. See docs/architecture.md. */
const CORE = "^src/[^/]+/core/";
const FOUNDATION = "^src/(base|model)/";

module.exports = {
  forbidden: [
    {
      name: "core-is-pure",
      comment: "core/, base/ and model/ do no I/O: no Node module, no npm package.",
      severity: "error",
      from: { path: [CORE, FOUNDATION] },
      to: { dependencyTypes: ["core", "npm", "npm-dev", "npm-no-pkg", "npm-unknown"] },
    },
    {
      name: "core-stays-low",
      comment: "core/ sees base, model and other cores only.",
      severity: "error",
      from: { path: CORE },
      to: { path: "^src/", pathNot: [CORE, FOUNDATION] },
    },
    {
      name: "base-is-the-bottom",
      severity: "error",
      from: { path: "^src/base/" },
      to: { path: "^src/", pathNot: "^src/base/" },
    },
    {
      name: "model-above-base-only",
      severity: "error",
      from: { path: "^src/model/" },
      to: { path: "^src/", pathNot: FOUNDATION },
    },
    {
      name: "pki-without-network",
      comment: "Keys, certificates and tokens are formats; who asks whom for them stands above.",
      severity: "error",
      from: { path: "^src/pki/" },
      to: { path: "^src/", pathNot: [FOUNDATION, "^src/pki/"] },
    },
    {
      name: "rpc-below-its-users",
      severity: "error",
      from: { path: "^src/rpc/" },
      to: { path: "^src/", pathNot: [FOUNDATION, "^src/(pki|rpc)/"] },
    },
    {
      name: "planners-know-no-planner",
      comment: "Each part of the leader plans for itself; model/planner.ts is what they share.",
      severity: "error",
      from: { path: "^src/(scheduler|allocator)/" },
      to: { path: "^src/", pathNot: [FOUNDATION, "^src/(scheduler|allocator)/"] },
    },
    {
      name: "worker-knows-no-manager",
      comment: "An agent can be reasoned about, and attacked, without the managers' code.",
      severity: "error",
      from: { path: "^src/worker/" },
      to: {
        path: "^src/(raft|state|orchestrator|scheduler|allocator|dispatcher|control|api|daemon)/",
      },
    },
    {
      name: "manager-knows-no-worker",
      severity: "error",
      from: { path: "^src/(raft|state|orchestrator|scheduler|allocator|dispatcher|control)/" },
      to: { path: "^src/(worker|api|daemon)/" },
    },
    {
      name: "docker-in-one-place",
      comment: "dockerode behind worker/docker/engine.ts, nowhere else.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/worker/docker/" },
      to: { path: "node_modules/dockerode" },
    },
    {
      name: "cli-is-a-client",
      comment:
        "The command line talks to the API; from src it takes pure helpers and types, and starts the daemon.",
      severity: "error",
      from: { path: "^cli/" },
      to: {
        path: "^src/",
        pathNot: ["^src/(base|model|stack)/", "^src/daemon/(main|config)\\.ts$", "^src/system/"],
      },
    },
    {
      name: "stack-is-a-client",
      comment: "Compose files become requests to the API; the command line alone needs that.",
      severity: "error",
      from: { path: "^src/stack/" },
      to: { path: "^src/", pathNot: "^src/(base|model|stack)/" },
    },
    {
      name: "system-at-the-edge",
      comment: "Real clocks and randomness come in through the composition root.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(system|daemon)/" },
      to: { path: "^src/system/" },
    },
    {
      name: "no-cycles",
      severity: "error",
      from: { path: "^(src|cli)/" },
      to: { circular: true },
    },
    {
      name: "src-not-to-test",
      severity: "error",
      from: { path: "^(src|cli)/" },
      to: { path: "^test/" },
    },
    {
      name: "front-door",
      comment: "Only the composition root builds the daemon's parts.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/daemon/" },
      to: { path: "^src/daemon/" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^src/rpc/gen/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      extensions: [".ts", ".js", ".json"],
      exportsFields: ["exports"],
      conditionNames: ["import", "node"],
    },
  },
};
