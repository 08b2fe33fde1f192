import type { Cluster } from "./cluster.ts";
import type { Recorder } from "./samples.ts";

/** `init` and the joins, each until it is answered and until the node list says ready. */
export async function measureForming(
  cluster: Cluster,
  recorder: Recorder,
  rounds: number,
): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    if (round > 1) await disband(cluster);
    await formOnce(cluster, recorder);
  }
}

async function formOnce(cluster: Cluster, recorder: Recorder): Promise<void> {
  const [first, ...others] = cluster.hosts;
  if (first === undefined) throw new Error("a cluster needs a host");
  await recorder.timed("init, node ready", async () => {
    await recorder.timed("init, answered", () => cluster.init(first));
    await cluster.untilReady(first);
  });
  for (const host of others) {
    const token = await cluster.token(host);
    await recorder.timed(`${host.role} join, node ready`, async () => {
      await recorder.timed(`${host.role} join, answered`, () => cluster.join(host, token));
      await cluster.untilReady(host);
    });
  }
  await cluster.untilWhole();
}

/** Every host leaves by force, workers first. */
async function disband(cluster: Cluster): Promise<void> {
  for (const host of [...cluster.hosts].reverse()) await cluster.leave(host);
}
