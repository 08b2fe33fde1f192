import t from "tap";
import { type SimBehaviour, SimExecutor } from "../../src/worker/sim/sim-executor.ts";
import {
  type ExecutorHarness,
  executorConformance,
  type WorkKind,
} from "../support/executor-conformance.ts";
import { aTask } from "../support/tasks.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { drive } from "../support/virtual-run.ts";

const BEHAVIOURS: Readonly<Record<WorkKind, Partial<SimBehaviour>>> = {
  forever: {},
  stubborn: { stopMs: 1_000_000 },
  exit0: { exitAfterMs: 100 },
  exit3: { exitAfterMs: 100, exitCode: 3 },
  healthy: { health: { becomes: "healthy", afterMs: 1000 } },
  unhealthy: { health: { becomes: "unhealthy", afterMs: 1000 } },
  talks: { output: ["one", "two", "three"] },
  missingImage: { imageIsLocal: false, pullError: "no registry" },
  badCommand: { startError: "executable file not found" },
};

t.test("the simulated Engine behaves as the real one", async t => {
  const clock = new VirtualClock();
  const description = {
    hostname: "sim",
    architecture: "x86_64",
    os: "linux",
    resources: { nanoCpus: 2e9, memoryBytes: 1e9, generic: [] },
    engineVersion: "sim",
    engineLabels: {},
    plugins: [],
  };
  const executor = new SimExecutor(
    {
      description,
      behaviour: work =>
        BEHAVIOURS[work.assigned.spec.TaskTemplate?.ContainerSpec?.Image as WorkKind],
    },
    { clock },
  );
  const harness: ExecutorHarness = {
    executor,
    work: (kind, id) => ({
      assigned: aTask({ id, container: { Image: kind } }),
      node: { nodeId: "n", clusterId: "c", hostname: "sim", os: "linux", architecture: "x86_64" },
      files: [],
      registryAuth: "",
    }),
    wait: promise => drive(clock, promise),
    until: async (probe, what) => {
      for (let i = 0; i < 1000; i += 1) {
        if (await probe()) return;
        clock.advance(10);
      }
      throw new Error(`does not come about: ${what}`);
    },
  };
  await executorConformance(t, harness);
});
