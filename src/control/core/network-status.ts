import type { NetworkReport, TableSummary } from "../../model/data-path.ts";
import type {
  EndpointStatus,
  NodeOnNetwork,
  ServiceStatusOnNetwork,
} from "../../model/data-path-status.ts";
import type { Network, Node, Service, Task } from "../../model/rows.ts";
import { compareTaskStates, isTerminal, isWanted, UNHEALTHY_TEXT } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { taskName } from "./lookup.ts";
import { isIngress } from "./references.ts";

/** What the state says of one network, and how a node's report differs from it. Pure. */

export function servicesOn(view: StateView, network: Network): readonly ServiceStatusOnNetwork[] {
  const tasks = tasksOn(view, network);
  return [...view.table("services").all()].flatMap(service => {
    const own = tasks.filter(task => task.serviceId === service.id);
    const vips = service.endpoint.virtualIps.filter(({ networkId }) => networkId === network.id);
    const ports = isIngress(network) ? portsOf(service) : [];
    if (own.length === 0 && vips.length === 0 && ports.length === 0) return [];
    const serving = own.filter(isServing).length;
    const name = service.spec.Name ?? "";
    const vip = vips.map(({ addr }) => addr).join(", ");
    return [{ id: service.id, name, vip, ports, serving }];
  });
}

function portsOf({ endpoint }: Service): readonly string[] {
  return endpoint.ports
    .filter(({ PublishMode }) => PublishMode !== "host")
    .map(
      ({ PublishedPort = 0, TargetPort = 0, Protocol = "tcp" }) =>
        `${PublishedPort}->${TargetPort}/${Protocol}`,
    );
}

/** Tasks that keep their node on the network. */
export function tasksOn(view: StateView, { id }: Network): readonly Task[] {
  return [...view.table("tasks").all()].filter(
    task =>
      task.nodeId !== "" &&
      !isTerminal(task.status.state) &&
      compareTaskStates(task.status.state, "assigned") >= 0 &&
      task.networks.some(({ networkId }) => networkId === id),
  );
}

/** All nodes are of the ingress network, others' are those that have tasks on it. */
export function nodesOn(view: StateView, network: Network): readonly Node[] {
  const nodes = [...view.table("nodes").all()].filter(node => node.status.state === "ready");
  const busy = new Set(tasksOn(view, network).map(({ nodeId }) => nodeId));
  if (isIngress(network)) return nodes;
  return [...view.table("nodes").all()].filter(({ id }) => busy.has(id));
}

export function endpointsOn(
  view: StateView,
  network: Network,
  nodeId: string,
): readonly EndpointStatus[] {
  return tasksOn(view, network)
    .filter(task => task.nodeId === nodeId)
    .map(task => ({
      taskId: task.id,
      name: task.serviceId === "" ? task.serviceName : taskName(task),
      addresses: task.networks.find(({ networkId }) => networkId === network.id)?.addresses ?? [],
      state: task.status.state,
      serving: isServing(task),
    }));
}

function isServing(task: Task): boolean {
  const { state, err } = task.status;
  const isFit = state === "running" && err !== UNHEALTHY_TEXT;
  return task.serviceId !== "" && isFit && isWanted(task.desiredState);
}

/** What is not as it should be on a node; `report` is why there is none, or what it said. */
export function problemsOf(
  sequence: NodeOnNetwork["sequence"],
  expected: TableSummary | null,
  report: NetworkReport | string,
): readonly string[] {
  if (sequence === null) return ["the node has no session with the leader"];
  if (typeof report === "string") return [report];
  const problems: string[] = [];
  if (report.problem !== "") problems.push(report.problem);
  if (sequence.programmed < sequence.sent) {
    const text = `its kernel has followed assignments up to ${sequence.programmed}`;
    problems.push(`${text} of ${sequence.sent}`);
  }
  const { told, wanted, programmed } = report;
  if (told === null) problems.push("it was not told of this network");
  else if (expected !== null && told.digest !== expected.digest) {
    const [is, should] = [told, expected].map(
      ({ services, endpoints, serving }) =>
        `${services} services, ${endpoints} endpoints, ${serving} serving`,
    );
    problems.push(`it knows other rows than the leader: ${is} instead of ${should}`);
  }
  if (wanted !== null && programmed === null) problems.push("its namespace is not programmed");
  if (wanted !== null && programmed !== null) {
    for (const [what, should] of Object.entries(wanted)) {
      const is: unknown = programmed[what as keyof typeof wanted];
      if (is !== should) problems.push(`${String(is)} ${what} are programmed instead of ${should}`);
    }
  }
  return problems;
}
