import type { Lab, LabHost } from "../../lab/lab.ts";
import { CLUSTER_PORT } from "../../lab/plan.ts";
import { eventually } from "../../support/eventually.ts";
import {
  call,
  filtered,
  type NodeRow,
  type ServiceRow,
  type ServiceSpec,
  type TaskRow,
} from "./api.ts";
import type { System } from "./system.ts";

/** Between two looks at a short answer, and at a list that may be long. */
export const POLL_MS = 20;
export const LIST_POLL_MS = 50;
const READY_TIMEOUT_MS = 120_000;
const LOOK_TIMEOUT_MS = 3_000;

/** A cluster of the lab's hosts under one of the systems, driven through the API alone. */
export class Cluster {
  readonly lab: Lab;
  readonly system: System;

  constructor(lab: Lab, system: System) {
    this.lab = lab;
    this.system = system;
  }

  get hosts(): LabHost[] {
    return this.lab.hosts();
  }

  get managers(): LabHost[] {
    return this.hosts.filter(host => host.role === "manager");
  }

  get workers(): LabHost[] {
    return this.hosts.filter(host => host.role === "worker");
  }

  /** The manager that is talked to when it does not matter which. */
  get first(): LabHost {
    return this.lab.host("m1");
  }

  on<T>(host: LabHost, method: string, path: string, body?: unknown): Promise<T> {
    return call(this.system.socket(host), method, path, body);
  }

  init(host: LabHost): Promise<unknown> {
    return this.on(host, "POST", "/swarm/init", {
      ListenAddr: `0.0.0.0:${CLUSTER_PORT}`,
      AdvertiseAddr: host.addr,
      ForceNewCluster: false,
      Spec: {},
    });
  }

  /** The token of the host's role. */
  async token(host: LabHost): Promise<string> {
    const swarm = await this.on<{ readonly JoinTokens: { Manager: string; Worker: string } }>(
      this.first,
      "GET",
      "/swarm",
    );
    return host.role === "manager" ? swarm.JoinTokens.Manager : swarm.JoinTokens.Worker;
  }

  join(host: LabHost, token: string): Promise<unknown> {
    return this.on(host, "POST", "/swarm/join", {
      ListenAddr: `0.0.0.0:${CLUSTER_PORT}`,
      AdvertiseAddr: host.addr,
      RemoteAddrs: [`${this.first.addr}:${CLUSTER_PORT}`],
      JoinToken: token,
    });
  }

  leave(host: LabHost): Promise<unknown> {
    return this.on(host, "POST", "/swarm/leave?force=true");
  }

  /** As one of the managers tells, the first that answers. */
  nodes(through: LabHost = this.first): Promise<readonly NodeRow[]> {
    return call(this.system.socket(through), "GET", "/nodes", undefined, LOOK_TIMEOUT_MS);
  }

  async isReady(host: LabHost, through: LabHost = this.first): Promise<boolean> {
    const nodes = await this.nodes(through);
    const node = nodes.find(one => one.Description?.Hostname === host.name);
    if (node?.Status?.State !== "ready") return false;
    return host.role === "worker" || node.ManagerStatus?.Reachability === "reachable";
  }

  async untilReady(host: LabHost): Promise<void> {
    await eventually(() => this.isReady(host), {
      what: `${host.name} is ready`,
      timeoutMs: READY_TIMEOUT_MS,
      everyMs: POLL_MS,
    });
  }

  /** Every host ready, every manager reachable, as every manager tells. */
  async untilWhole(): Promise<void> {
    await eventually(
      async () => {
        for (const manager of this.managers) {
          const nodes = await this.nodes(manager);
          if (nodes.length !== this.hosts.length || !nodes.every(isWhole)) return false;
          if (!nodes.some(node => node.ManagerStatus?.Leader === true)) return false;
        }
        return true;
      },
      { what: "the cluster is whole", timeoutMs: READY_TIMEOUT_MS, everyMs: 100 },
    );
  }

  /** The host that leads, as `through` tells; null while it knows of none. */
  async leader(through: LabHost = this.first): Promise<LabHost | null> {
    const nodes = await this.nodes(through);
    const name = nodes.find(node => node.ManagerStatus?.Leader === true)?.Description?.Hostname;
    return name === undefined ? null : this.lab.host(name);
  }

  async createService(spec: ServiceSpec): Promise<string> {
    const { ID } = await this.on<{ readonly ID: string }>(
      this.first,
      "POST",
      "/services/create",
      spec,
    );
    return ID;
  }

  service(id: string): Promise<ServiceRow> {
    return this.on(this.first, "GET", `/services/${id}`);
  }

  async updateService(id: string, change: (spec: ServiceSpec) => ServiceSpec): Promise<void> {
    const { Version, Spec } = await this.service(id);
    const path = `/services/${id}/update?version=${Version.Index}`;
    await this.on(this.first, "POST", path, change(Spec));
  }

  removeService(id: string): Promise<unknown> {
    return this.on(this.first, "DELETE", `/services/${id}`);
  }

  /** Tasks of the service that are wanted and run. */
  async running(serviceId: string): Promise<TaskRow[]> {
    const path = filtered("/tasks", { service: [serviceId], "desired-state": ["running"] });
    const tasks = await this.on<readonly TaskRow[]>(this.first, "GET", path);
    return tasks.filter(task => task.Status.State === "running");
  }

  async untilRunning(serviceId: string, count: number): Promise<void> {
    await eventually(async () => (await this.running(serviceId)).length === count, {
      what: `${count} tasks run`,
      timeoutMs: READY_TIMEOUT_MS,
      everyMs: LIST_POLL_MS,
    });
  }

  /** No Engine holds a container of a service any more, running or not. */
  async untilNoContainers(): Promise<void> {
    const path = `${filtered("/containers/json", { label: ["com.docker.swarm.service.name"] })}&all=1`;
    await eventually(
      async () => {
        for (const host of this.hosts) {
          const found = await call<readonly unknown[]>(host.dockerSocketPath, "GET", path);
          if (found.length > 0) return false;
        }
        return true;
      },
      { what: "every container is gone", timeoutMs: READY_TIMEOUT_MS, everyMs: LIST_POLL_MS },
    );
  }
}

function isWhole(node: NodeRow): boolean {
  if (node.Status?.State !== "ready") return false;
  const manager = node.ManagerStatus ?? null;
  return manager === null || manager.Reachability === "reachable";
}
