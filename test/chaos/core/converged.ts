/** Whether a healed cluster has come to rest: what it still lacks, in words. */

export interface NodeSeen {
  readonly hostname: string;
  readonly id: string;
  readonly state: string;
  readonly isManager: boolean;
  readonly isLeader: boolean;
  readonly reachable: boolean;
}

export interface ServiceSeen {
  readonly id: string;
  readonly name: string;
  readonly mode: "replicated" | "global" | "mortal";
  readonly replicas: number;
  readonly workersOnly: boolean;
  readonly generation: number;
  /** Empty when no update was made. */
  readonly updateState: string;
}

export interface TaskSeen {
  readonly id: string;
  readonly serviceId: string;
  readonly nodeId: string;
  readonly slot: number;
  readonly desired: string;
  readonly state: string;
  readonly generation: number;
  readonly containerId: string;
}

export interface ContainerSeen {
  readonly host: string;
  readonly id: string;
  readonly taskId: string;
  readonly running: boolean;
}

export interface ClusterSeen {
  /** By the manager asked; null when it did not answer. */
  readonly nodes: ReadonlyMap<string, readonly NodeSeen[] | null>;
  readonly services: readonly ServiceSeen[];
  readonly tasks: readonly TaskSeen[];
  readonly containers: readonly ContainerSeen[];
}

export interface HostsWanted {
  readonly managers: readonly string[];
  readonly workers: readonly string[];
}

const ENDED = ["complete", "shutdown", "failed", "rejected", "orphaned"];
const MAX_NAMED = 5;

/** Empty when nothing is left to wait for. */
export function unrest(seen: ClusterSeen, wanted: HostsWanted): readonly string[] {
  return [
    ...[...seen.nodes].flatMap(([via, nodes]) => nodeUnrest(via, nodes, wanted)),
    ...leaderUnrest(seen),
    ...seen.services.flatMap(service => serviceUnrest(service, seen, wanted)),
    ...strayTasks(seen),
    ...containerUnrest(seen),
  ];
}

function nodeUnrest(
  via: string,
  nodes: readonly NodeSeen[] | null,
  { managers, workers }: HostsWanted,
): string[] {
  if (nodes === null) return [`${via} does not list the nodes`];
  const hosts = [...managers, ...workers];
  const faults = hosts.flatMap(host => {
    const node = nodes.find(one => one.hostname === host);
    if (node === undefined) return [`${via}: ${host} is not in the cluster`];
    if (node.state !== "ready") return [`${via}: ${host} is ${node.state}`];
    if (!managers.includes(host)) return [];
    return node.isManager && node.reachable ? [] : [`${via}: manager ${host} is unreachable`];
  });
  if (nodes.length !== hosts.length) faults.push(`${via}: ${nodes.length} nodes`);
  return faults;
}

function leaderUnrest({ nodes }: ClusterSeen): string[] {
  const leaders = [...nodes.values()].map(
    list => list?.filter(node => node.isLeader).map(node => node.hostname) ?? [],
  );
  const names = new Set(leaders.flat());
  const agreed = names.size === 1 && leaders.every(list => list.length === 1);
  return agreed ? [] : [`leaders: ${JSON.stringify(leaders)}`];
}

function serviceUnrest(service: ServiceSeen, seen: ClusterSeen, hosts: HostsWanted): string[] {
  const { id, name, mode, generation, updateState } = service;
  const tasks = seen.tasks.filter(task => task.serviceId === id);
  const wanted = tasks.filter(task => task.desired === "running");
  const running = wanted.filter(task => task.state === "running");
  const count = replicasWanted(service, hosts);
  const faults: string[] = [];
  if (running.length !== count || wanted.length !== count) {
    const counts = `${running.length} running, ${wanted.length} wanted`;
    faults.push(`${name}: ${counts}, not ${count}`);
  }
  // A mortal one may be between two lives, its next task in waiting.
  const places = new Set(wanted.map(task => (mode === "global" ? task.nodeId : task.slot)));
  if (places.size !== wanted.length) faults.push(`${name}: two tasks in one slot`);
  if (updateState === "updating") faults.push(`${name}: is being updated`);
  const old = running.filter(task => task.generation !== generation);
  if (old.length > 0) faults.push(`${name}: ${old.length} tasks of an older generation`);
  const ending = tasks.filter(task => !isWanted(task) && !ENDED.includes(task.state));
  if (ending.length > 0) faults.push(`${name}: not ended: ${names(ending.map(task => task.id))}`);
  return faults;
}

function isWanted({ desired }: TaskSeen): boolean {
  return desired === "running" || desired === "ready";
}

function replicasWanted(service: ServiceSeen, { managers, workers }: HostsWanted): number {
  if (service.mode !== "global") return service.replicas;
  return workers.length + (service.workersOnly ? 0 : managers.length);
}

function strayTasks({ services, tasks }: ClusterSeen): string[] {
  const ids = new Set(services.map(service => service.id));
  const stray = tasks.filter(task => !ids.has(task.serviceId));
  return stray.length === 0 ? [] : [`tasks of no service: ${names(stray.map(task => task.id))}`];
}

/** Running containers are those of running tasks, one each; the others belong to ended tasks. */
function containerUnrest({ tasks, containers }: ClusterSeen): string[] {
  const byId = new Map(tasks.map(task => [task.id, task]));
  const faults: string[] = [];
  const seen = new Set<string>();
  for (const container of containers) {
    const task = byId.get(container.taskId);
    const where = `container ${container.id.slice(0, 12)} on ${container.host}`;
    if (task === undefined) faults.push(`${where}: its task ${container.taskId} is gone`);
    else if (container.running && task.desired !== "running") {
      faults.push(`${where}: runs, and its task is desired ${task.desired}`);
    } else if (container.running && seen.has(task.id)) {
      faults.push(`${where}: a second one of task ${task.id}`);
    }
    if (container.running) seen.add(container.taskId);
  }
  for (const task of tasks) {
    if (task.state !== "running" || task.desired !== "running" || seen.has(task.id)) continue;
    faults.push(`task ${task.id} is said to run and has no container`);
  }
  return faults;
}

function names(ids: readonly string[]): string {
  const more = ids.length > MAX_NAMED ? ` and ${ids.length - MAX_NAMED} more` : "";
  return `${ids.slice(0, MAX_NAMED).join(" ")}${more}`;
}

/** Where the managers' answers to one question differ; both are canonical JSON by object id. */
export function differences(
  what: string,
  answers: ReadonlyMap<string, ReadonlyMap<string, string>>,
): readonly string[] {
  const [first, ...others] = [...answers];
  if (first === undefined) return [];
  const [firstVia, reference] = first;
  return others.flatMap(([via, objects]) => {
    const ids = new Set([...reference.keys(), ...objects.keys()]);
    return [...ids]
      .filter(id => reference.get(id) !== objects.get(id))
      .map(id => `${what} ${id}: ${firstVia} and ${via} do not agree`);
  });
}
