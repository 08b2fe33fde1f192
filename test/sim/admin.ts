import { RngIdSource } from "../../src/base/ids.ts";
import type { Service } from "../../src/model/rows.ts";
import type { PortConfig, ServiceSpec } from "../../src/model/service-spec.ts";
import type { Chance } from "./chance.ts";
import type { Cluster } from "./cluster.ts";
import type { SimManager } from "./manager.ts";

const MAX_REPLICAS = 4;
/** Few fixed ports, so that services ask for the same one. */
const FIXED_PORTS = [8080, 8081] as const;
const NS_PER_S = 1_000_000_000;

/** Somebody who creates, changes and removes services through the managers' API. */
export class Admin {
  readonly #cluster: Cluster;
  readonly #chance: Chance;
  readonly #ids: RngIdSource;
  #names = 0;
  #stopped = false;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#chance = cluster.chance("admin");
    this.#ids = new RngIdSource(this.#chance.rng);
  }

  start(): void {
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    const { weather, plan } = this.#cluster;
    while (!this.#stopped) {
      await weather.sleep(this.#chance.exponential(plan.adminMs));
      const up = this.#cluster.managers.filter(host => host.manager !== null);
      if (up.length === 0 || this.#stopped) continue;
      // No leader, or a port that is taken: there will be other things to do.
      await this.#cluster
        .ask(this.#chance.pick(up), manager => this.#act(manager))
        .catch(() => undefined);
    }
  }

  async #act(manager: SimManager): Promise<void> {
    const services = [...manager.store.view.table("services").all()].filter(
      service => !service.pendingDelete,
    );
    if (services.length < this.#cluster.plan.services) return this.#create(manager);
    const service = this.#chance.pick(services);
    if (this.#chance.is(0.25)) {
      await manager.control.call("service.remove", { ref: service.id }, never());
    } else await this.#update(manager, service);
  }

  async #create(manager: SimManager): Promise<void> {
    this.#names += 1;
    const args = {
      id: this.#ids.newId(),
      spec: this.#spec(`service-${this.#names}`),
      fallbackName: "",
      registryAuth: "",
    };
    await manager.control.call("service.create", args, never());
  }

  async #update(manager: SimManager, service: Service): Promise<void> {
    const args = {
      ref: service.id,
      version: service.version,
      spec: this.#spec(service.spec.Name ?? ""),
      fallbackName: "",
      registryAuth: "",
      registryAuthFrom: "",
      rollback: "",
    };
    await manager.control.call("service.update", args, never());
  }

  #spec(Name: string): ServiceSpec {
    const image = `app:${this.#chance.int(1, 3)}`;
    return {
      Name,
      TaskTemplate: {
        ContainerSpec: { Image: image },
        RestartPolicy: { Condition: "any", Delay: NS_PER_S },
      },
      Mode: { Replicated: { Replicas: this.#chance.int(0, MAX_REPLICAS) } },
      UpdateConfig: { Parallelism: 1, Monitor: NS_PER_S, FailureAction: "continue" },
      EndpointSpec: { Mode: "vip", Ports: this.#ports() },
    };
  }

  #ports(): PortConfig[] {
    const count = this.#chance.int(0, 2);
    return Array.from({ length: count }, (_, i) => ({
      Protocol: "tcp",
      TargetPort: 80 + i,
      ...(this.#chance.is(0.3) ? { PublishedPort: this.#chance.pick(FIXED_PORTS) } : {}),
      PublishMode: "ingress",
    }));
  }
}

function never(): AbortSignal {
  return new AbortController().signal;
}
