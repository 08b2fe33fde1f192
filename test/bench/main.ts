import { errorMessage } from "../../src/base/errors.ts";

/** `npm run bench -- NAME [flags]`. Each benchmark is a module that runs when it is loaded. */
const BENCHES: Readonly<Record<string, { readonly what: string; load(): Promise<unknown> }>> = {
  api: {
    what: "one host: lists of 1 000 services; docker load through either socket",
    load: async () => {
      const { benchApi } = await import("./api.ts");
      process.exitCode = await benchApi(process.argv.slice(3));
    },
  },
  cluster: {
    what: "five hosts: forming, services, updates, failover, memory ([--peer]: Docker's too)",
    load: async () => {
      const { benchCluster } = await import("./cluster.ts");
      process.exitCode = await benchCluster(process.argv.slice(3));
    },
  },
  overlay: {
    what: "two hosts: container to container, VIP, mesh, names, changes ([--peer]: Docker's too)",
    load: async () => {
      const { benchOverlay } = await import("./overlay.ts");
      process.exitCode = await benchOverlay(process.argv.slice(3));
    },
  },
  raft: {
    what: "three members on disk: commits, reads, failover ([--peer etcd]: etcd's too)",
    load: async () => {
      const { benchRaft } = await import("./raft.ts");
      process.exitCode = await benchRaft(process.argv.slice(3));
    },
  },
  snapshot: {
    what: "three members with 200 MB of state: how long a snapshot holds the event loop",
    load: () => import("./snapshot.ts"),
  },
  "control-plane": {
    what: "three managers and up to 1 000 simulated workers: tasks to RUNNING, memory, rest",
    load: async () => {
      const { benchControlPlane } = await import("./control-plane.ts");
      process.exitCode = await benchControlPlane(process.argv.slice(3));
    },
  },
  scheduler: {
    what: "planning alone, to 100 000 tasks and 10 000 nodes",
    load: () => import("./scheduler.ts"),
  },
};

const EXIT_USAGE = 2;

function usage(): string {
  const lines = Object.entries(BENCHES).map(([name, { what }]) => `  ${name.padEnd(15)}${what}`);
  return ["usage: npm run bench -- NAME [flags]", "", ...lines].join("\n");
}

const name = process.argv[2] ?? "";
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined;
if (bench === undefined) {
  console.error(usage());
  process.exitCode = EXIT_USAGE;
} else {
  await bench.load().catch((error: unknown) => {
    console.error(`bench: ${errorMessage(error)}`);
    process.exitCode = 1;
  });
}
