import fc from "fast-check";
import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import {
  MESH_ROTATION_MS,
  meshLaggards,
  nextMesh,
  nodesOfOneKey,
  untilRotation,
} from "../../src/control/core/mesh-rotation.ts";
import { MeshRotation } from "../../src/daemon/mesh-rotation.ts";
import { decodeDescription } from "../../src/dispatcher/messages.ts";
import { MESH_LAGGING_MAX, meshOf } from "../../src/model/mesh.ts";
import { MESH_ID, type OverlayHost, type OverlayMesh } from "../../src/model/overlay.ts";
import type { MeshKey, Node, OverlayCapability } from "../../src/model/rows.ts";
import {
  chooseWays,
  laggingHosts,
  type MeshWays,
  meshConfig,
  parseHandshakes,
  wayLines,
} from "../../src/overlay/core/mesh.ts";
import { eventually } from "../support/eventually.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aCluster, aNetwork, aNode } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** Keys of the encrypted mesh, and their change while packets flow. */

const key = (text: string): string => `${text.padEnd(43, "A")}=`;

function hostOf(index: number, generations: readonly number[]): OverlayHost {
  const meshKeys = generations.map(generation => ({
    generation,
    publicKey: key(`h${index}g${generation}`),
  }));
  return { id: `n${index}`, index, addr: `10.77.0.${index}`, publicKey: key("x"), meshKeys };
}

function hostsOf(...hosts: readonly OverlayHost[]): ReadonlyMap<string, OverlayHost> {
  return new Map(hosts.map(host => [host.id, host]));
}

t.test("an end of a generation", async t => {
  const hosts = hostsOf(hostOf(1, [3]), hostOf(2, [2, 3]), hostOf(3, [2]));
  const config = meshConfig({ generation: 3, privateKey: "secret", psk: "shared" }, "n1", hosts);
  t.equal(config.match(/\[Peer\]/g)?.length, 1, "those with an end of it");
  t.match(config, /PublicKey = h2g3A+=\nPresharedKey = shared\nEndpoint = 10\.77\.0\.2:51820\n/);
  t.match(config, /AllowedIPs = 169\.254\.192\.2\/32\nPersistentKeepalive = 20\n/);
  t.match(config, /ListenPort = 51820\n/);
  const other = meshConfig({ generation: 2, privateKey: "secret", psk: "" }, "n2", hosts);
  t.match(other, /ListenPort = 51821\n/, "generations take turns");
  t.notMatch(other, /PresharedKey/);
});

t.test("a host of a version without generations is met by its one key", async t => {
  const { meshKeys: _none, ...old } = hostOf(2, []);
  const hosts = hostsOf(hostOf(1, [1, 2]), { ...old, publicKey: key("old") });
  const config = (generation: number): string =>
    meshConfig({ generation, privateKey: "secret", psk: "" }, "n1", hosts);
  t.match(config(1), /PublicKey = oldA+=/);
  t.notMatch(config(2), /Peer/);
  t.same([...chooseWays(new Map(), [1, 2], "n1", hosts, () => false)], [[2, 1]]);
});

t.test("a node of one key that comes when the keys have changed", async t => {
  const { meshKeys: _none, ...old } = hostOf(2, []);
  const joined = { ...old, publicKey: key("old") };
  const hosts = hostsOf(hostOf(1, [2]), joined, hostOf(3, [2]));
  const config = meshConfig({ generation: 2, privateKey: "s", psk: "p" }, "n1", hosts);
  t.notMatch(config, /oldA/, "no end meets it");
  const ways = chooseWays(new Map(), [2], "n1", hosts, () => true);
  t.same([...ways.keys()], [3], "and nothing is sent to it by another");
  t.same(laggingHosts(ways, 2, "n1", hosts), [], "the others do not wait for it");

  const store = new MemoryStore(new VirtualClock());
  const node = aNode({ id: "n2" });
  const overlay = { addr: "10.77.0.2", publicKey: key("old"), problem: "" };
  const description = node.description === null ? null : { ...node.description, overlay };
  store.put({ op: "create", table: "nodes", row: { ...node, description } });
  const second = nextMesh(meshOf({}), "psk", 0);
  const whoLags = (generation: number): number =>
    meshLaggards(store.view, { ...second, generation }).length;
  t.equal(whoLags(2), 1, "the first keys, by which it is met, stay until it is upgraded");
  t.equal(whoLags(3), 0, "later ones would not help it");
  const away = { ...node.status, state: "down" as const };
  store.put({ op: "patch", table: "nodes", id: "n2", fields: { status: away } });
  t.equal(whoLags(2), 0, "away it holds nothing up");
});

t.test("no new keys while a node is there that cannot change its own", async t => {
  const clock = new VirtualClock();
  const store = new MemoryStore(clock);
  const plain = aNetwork({ id: "net1" });
  const row = { ...plain, spec: { ...plain.spec, Options: { encrypted: "" } } };
  const old = { addr: "10.77.0.1", publicKey: key("a"), problem: "" };
  const nodeWith = (overlay: OverlayCapability): Partial<Node> => {
    const { description } = aNode({ id: "n1" });
    return { description: description === null ? null : { ...description, overlay } };
  };
  store.put(
    { op: "create", table: "cluster", row: aCluster({}) },
    { op: "create", table: "nodes", row: { ...aNode({ id: "n1" }), ...nodeWith(old) } },
    { op: "create", table: "networks", row },
  );
  t.equal(nodesOfOneKey(store.view).length, 1);
  const generation = (): number =>
    meshOf([...store.view.table("cluster").all()][0] ?? {}).generation;
  const stop = new AbortController();
  const rotation = new MeshRotation({ store, newKey: () => "k", clock, logger: silentLogger });
  const running = rotation.run(stop.signal);
  clock.advance(2 * MESH_ROTATION_MS);
  await new Promise(resolve => setImmediate(resolve));
  t.equal(generation(), 1);
  const fields = nodeWith({ ...old, changesKeys: true });
  store.put({ op: "patch", table: "nodes", id: "n1", fields });
  await eventually(() => generation() === 2, { what: "the rotation that was put off" });
  const json = JSON.stringify({ overlay: { ...old, changesKeys: true } });
  t.equal(decodeDescription(json).overlay?.changesKeys, true);
  stop.abort();
  await running;
});

t.test("ways go over when both hosts have met by the new keys", async t => {
  const hosts = hostsOf(hostOf(1, [1, 2]), hostOf(2, [1, 2]), hostOf(3, [1]));
  const before: MeshWays = new Map([
    [2, 1],
    [3, 1],
  ]);
  const never = chooseWays(before, [1, 2], "n1", hosts, () => false);
  t.same(never, before, "not before");
  const met = chooseWays(before, [1, 2], "n1", hosts, generation => generation === 2);
  t.same(
    met,
    new Map([
      [2, 2],
      [3, 1],
    ]),
  );
  t.same(wayLines(before, met, "169.254.192.1"), [
    "route replace 169.254.192.2/32 dev swg1 src 169.254.192.1",
  ]);
  t.same(laggingHosts(met, 2, "n1", hosts), ["n3"]);
  const fresh = chooseWays(new Map(), [1, 2], "n1", hosts, () => false);
  t.equal(fresh.get(2), 2, "without any, the newest");
  t.same(
    parseHandshakes("k1\t1700000000\nk2\t0\n"),
    new Map([
      ["k1", 1_700_000_000],
      ["k2", 0],
    ]),
  );
});

t.test("a rotation is due after 12 h, whatever the clock does", async t => {
  const mesh = { generation: 2, psk: "k", previousPsk: "", settled: true, startedAtMs: 1_000 };
  t.equal(untilRotation(mesh, 1_000), MESH_ROTATION_MS);
  t.equal(untilRotation(mesh, 1_000 + MESH_ROTATION_MS), 0);
  t.equal(untilRotation(mesh, -1e12), MESH_ROTATION_MS, "set back: one period at most");
  t.equal(untilRotation(meshOf({}), 5), 0, "at once where there was no shared key");
});

t.test("keys of nodes go into commands: only keys are taken", async t => {
  const overlay = {
    ...{ addr: "10.77.0.1", publicKey: "", problem: "" },
    meshKeys: [
      { generation: 1, publicKey: "x\nPostUp = rm" },
      { generation: 1.5, publicKey: key("a") },
      { generation: 2, publicKey: key("b") },
    ],
    lagging: ["n2", 7],
  };
  const taken = decodeDescription(JSON.stringify({ hostname: "h", overlay })).overlay;
  t.equal(taken?.meshKeys, undefined, "the first two are none");
  const valid = { ...overlay, meshKeys: overlay.meshKeys.slice(2) };
  const other = decodeDescription(JSON.stringify({ hostname: "h", overlay: valid })).overlay;
  t.same(other?.meshKeys, [{ generation: 2, publicKey: key("b") }]);
});

/** A node as `Mesh` works: what it was told, its ends, and the peers each end knows. */
class SimNode {
  readonly index: number;
  told: OverlayMesh;
  hosts: ReadonlyMap<string, OverlayHost> = new Map();
  ways: MeshWays = new Map();
  ends = new Set<number>();
  /** By generation: the hosts its configuration names. */
  peers = new Map<number, ReadonlySet<string>>();

  constructor(index: number, told: OverlayMesh) {
    this.index = index;
    this.told = told;
  }

  get id(): string {
    return `n${this.index}`;
  }

  sync(met: ReadonlySet<string>): void {
    const { generation, settled } = this.told;
    const generations =
      !settled && this.ends.has(generation - 1) ? [generation - 1, generation] : [generation];
    for (const one of generations) {
      this.ends.add(one);
      const known = [...this.hosts.values()].filter(
        host => host.id !== this.id && host.meshKeys?.some(k => k.generation === one),
      );
      this.peers.set(one, new Set(known.map(host => host.id)));
    }
    const hasMet = (one: number, publicKey: string): boolean => {
      const other = [...this.hosts.values()].find(host =>
        host.meshKeys?.some(k => k.publicKey === publicKey),
      );
      return met.has(pair(one, this.id, other?.id ?? ""));
    };
    this.ways = chooseWays(this.ways, generations, this.id, this.hosts, hasMet);
    for (const one of [...this.ends]) if (!generations.includes(one)) this.ends.delete(one);
  }

  keys(): readonly MeshKey[] {
    return hostOf(this.index, [...this.ends].sort()).meshKeys ?? [];
  }

  lagging(): readonly string[] {
    return laggingHosts(this.ways, this.told.generation, this.id, this.hosts);
  }
}

function pair(generation: number, a: string, b: string): string {
  return `${generation} ${[a, b].sort().join(" ")}`;
}

/** Managers and nodes, each step of which may be late. */
class SimMesh {
  readonly store = new MemoryStore(new VirtualClock());
  readonly nodes: readonly SimNode[];
  readonly met = new Set<string>();
  mesh = { ...meshOf({}), psk: "k1" };

  constructor(count: number) {
    this.store.put({ op: "create", table: "cluster", row: aCluster() });
    this.nodes = Array.from({ length: count }, (_, i) => new SimNode(i + 1, this.told()));
    for (const { id } of this.nodes) {
      this.store.put({ op: "create", table: "nodes", row: aNode({ id }) });
    }
  }

  told(): OverlayMesh {
    const { generation, psk, previousPsk, settled } = this.mesh;
    return { id: MESH_ID, generation, psk, previousPsk, settled };
  }

  /** A node says what it has now. */
  report(node: SimNode): void {
    const plain = aNode({ id: node.id }).description;
    if (plain === null) throw new Error("it has one");
    const overlay = {
      ...{ addr: `10.77.0.${node.index}`, publicKey: key("x"), problem: "" },
      ...{ meshKeys: node.keys(), lagging: node.lagging() },
    };
    const fields = { description: { ...plain, hostname: node.id, overlay } };
    this.store.put({ op: "patch", table: "nodes", id: node.id, fields });
  }

  /** A node hears of everything there is now. */
  tell(node: SimNode): void {
    node.told = this.told();
    node.hosts = hostsOf(
      ...this.nodes.map(({ id, index }) => ({
        ...hostOf(index, []),
        meshKeys: this.store.view.table("nodes").get(id)?.description?.overlay?.meshKeys ?? [],
      })),
    );
  }

  meet(a: SimNode, b: SimNode): void {
    for (const generation of a.ends) {
      const isKnown = a.peers.get(generation)?.has(b.id) && b.peers.get(generation)?.has(a.id);
      if (isKnown && b.ends.has(generation)) this.met.add(pair(generation, a.id, b.id));
    }
  }

  lead(rotates: boolean): void {
    if (!this.mesh.settled) {
      const isOver = meshLaggards(this.store.view, this.mesh).length === 0;
      if (isOver) this.mesh = { ...this.mesh, settled: true };
    } else if (rotates) this.mesh = nextMesh(this.mesh, `k${this.mesh.generation + 1}`, 0);
  }

  rest(): void {
    for (let round = 0; round < 8; round += 1) {
      for (const node of this.nodes) {
        this.tell(node);
        node.sync(this.met);
        this.report(node);
      }
      for (const a of this.nodes) for (const b of this.nodes) if (a !== b) this.meet(a, b);
      this.lead(false);
    }
  }

  /** Ways by which packets are lost: the other end is not there, or they have not met by it. */
  lost(): string[] {
    return this.nodes.flatMap(from =>
      this.nodes.flatMap(to => {
        if (from === to) return [];
        const way = from.ways.get(to.index) ?? 0;
        const works =
          from.ends.has(way) && to.ends.has(way) && this.met.has(pair(way, from.id, to.id));
        return works ? [] : [`${from.id} -> ${to.id} by ${way}`];
      }),
    );
  }
}

t.test("whatever comes late in a rotation, every way works all the time", async t => {
  const who = fc.integer({ min: 0, max: 2 });
  const what = fc.constantFrom(
    ...(["turn", "turn", "turn", "tell", "sync", "report", "meet", "lead", "lead"] as const),
  );
  const step = fc.tuple(what, who, who);
  fc.assert(
    fc.property(fc.array(step, { minLength: 40, maxLength: 200 }), steps => {
      const world = new SimMesh(3);
      world.rest();
      t.same(world.lost(), []);
      for (const [what, i, j] of steps) {
        const [a, b] = [world.nodes[i], world.nodes[j]];
        if (a === undefined || b === undefined) continue;
        if (what === "tell" || what === "turn") world.tell(a);
        if (what === "sync" || what === "turn") a.sync(world.met);
        if (what === "report" || what === "turn") world.report(a);
        if (what === "meet" && a !== b) world.meet(a, b);
        else if (what === "lead") world.lead(true);
        const lost = world.lost();
        if (lost.length > 0) throw new Error(`after ${what} ${i} ${j}: ${lost.join(", ")}`);
      }
      world.rest();
      const { generation } = world.mesh;
      t.ok(world.mesh.settled, "and it comes to an end");
      for (const node of world.nodes) t.same([...node.ends], [generation]);
      t.same(world.lost(), []);
    }),
    { numRuns: 300 },
  );
});

t.test("a host that is away holds up no rotation", async t => {
  const world = new SimMesh(3);
  world.rest();
  const [, , away] = world.nodes;
  if (away === undefined) throw new Error("there are three");
  world.lead(true);
  const present = world.nodes.filter(node => node !== away);
  const status = { state: "down", message: "", addr: "" } as const;
  world.store.put({ op: "patch", table: "nodes", id: away.id, fields: { status } });
  for (let round = 0; round < 4; round += 1) {
    for (const node of present) {
      world.tell(node);
      node.sync(world.met);
      world.report(node);
    }
    for (const a of present) for (const b of present) if (a !== b) world.meet(a, b);
    world.lead(false);
  }
  t.equal(world.mesh.settled, true);
});

t.test("a list of lagging hosts that is full says that somebody lags", async t => {
  const meshKeys = [{ generation: 2, publicKey: "k" }];
  const away = (count: number): string[] => Array.from({ length: count }, (_, i) => `away-${i}`);
  const late = (lagging: readonly string[]): readonly string[] => {
    const store = new MemoryStore(new VirtualClock());
    const overlay = { addr: "10.0.0.1", publicKey: "k", problem: "", meshKeys, lagging };
    const node = aNode({ id: "n1" });
    if (node.description === null) throw new Error("a node describes itself");
    const description = { ...node.description, overlay };
    store.put({ op: "create", table: "nodes", row: { ...node, description } });
    return meshLaggards(store.view, nextMesh(meshOf({}), "psk", 0));
  };
  t.same(late(away(MESH_LAGGING_MAX - 1)), [], "all of them are away");
  t.same(late(away(MESH_LAGGING_MAX)), ["n1"], "one that is there may be left out");
});

t.test("the leader rotates every 12 h, once at a time, while a network is encrypted", async t => {
  const clock = new VirtualClock();
  const store = new MemoryStore(clock);
  const mesh = { generation: 1, psk: "k1", previousPsk: "", settled: true, startedAtMs: 0 };
  store.put(
    { op: "create", table: "cluster", row: aCluster({ mesh }) },
    { op: "create", table: "nodes", row: aNode({ id: "n1" }) },
  );
  let keys = 1;
  const newKey = (): string => {
    keys += 1;
    return `k${keys}`;
  };
  const stop = new AbortController();
  const rotation = new MeshRotation({ store, newKey, clock, logger: silentLogger });
  const running = rotation.run(stop.signal);
  const now = (): NonNullable<ReturnType<typeof meshOf>> => {
    const [cluster] = store.view.table("cluster").all();
    return meshOf(cluster ?? {});
  };
  clock.advance(2 * MESH_ROTATION_MS);
  t.equal(clock.pending, 0, "nobody needs it");
  const plain = aNetwork({ id: "net1" });
  const row = { ...plain, spec: { ...plain.spec, Options: { encrypted: "" } } };
  store.put({ op: "create", table: "networks", row });
  await eventually(() => now().generation === 2 && now().settled, { what: "the first rotation" });
  t.match(now(), { psk: "k2", previousPsk: "k1" });
  await eventually(() => clock.pending === 1, { what: "the wait for the next one" });
  clock.advance(MESH_ROTATION_MS - 60_000);
  t.match([now().generation, clock.pending], [2, 1], "not before its time");
  const late = { generation: 2, publicKey: key("a") };
  const description = aNode({ id: "n1" }).description;
  const overlay = { addr: "10.77.0.1", publicKey: key("a"), problem: "", meshKeys: [late] };
  const fields = { description: description === null ? null : { ...description, overlay } };
  store.put({ op: "patch", table: "nodes", id: "n1", fields });
  clock.advance(120_000);
  await eventually(() => now().generation === 3, { what: "the next one" });
  t.equal(now().settled, false, "n1 has no end of it yet");
  await eventually(() => clock.pending === 0, { what: "that only n1 is waited for" });
  const moved = { ...overlay, meshKeys: [{ ...late, generation: 3 }] };
  const then = { description: description === null ? null : { ...description, overlay: moved } };
  store.put({ op: "patch", table: "nodes", id: "n1", fields: then });
  await eventually(() => now().settled, { what: "its end" });
  stop.abort();
  await running;
});
