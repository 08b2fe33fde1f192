import { publishAddresses } from "../../model/publish-address.ts";
import type {
  ContainerSpec,
  GenericResourceSpec,
  HealthConfig,
  Labels,
  Mount,
  PortConfig,
  Privileges,
  TaskSpec,
} from "../../model/service-spec.ts";
import { expandTemplate, type TemplateValue } from "../../model/template.ts";
import { checkMounts } from "./mount-check.ts";
import { taskName, templateContext } from "./task-context.ts";
import type { TaskWork } from "./task-work.ts";

/** The label that says which cluster's swarmd owns a container. */
export const CLUSTER_LABEL = "swarmd.cluster.id";
/** The label that names the task. */
export const TASK_LABEL = "com.docker.swarm.task.id";

/** Where a secret or config lies on the host; the container sees it read-only at `target`. */
export interface FileMount {
  readonly hostPath: string;
  readonly target: string;
}

/** Docker API `POST /containers/create` (v1.41). Absent fields keep the Engine's default. */
export interface ContainerCreateBody {
  readonly Image: string;
  readonly Labels: Labels;
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env?: readonly string[];
  readonly Hostname?: string;
  readonly WorkingDir?: string;
  readonly User?: string;
  readonly Tty?: boolean;
  readonly OpenStdin?: boolean;
  readonly StopSignal?: string;
  readonly StopTimeout?: number;
  readonly Healthcheck?: HealthConfig;
  readonly ExposedPorts?: Readonly<Record<string, Readonly<Record<string, never>>>>;
  readonly HostConfig: Readonly<Record<string, unknown>>;
  readonly NetworkingConfig?: {
    readonly EndpointsConfig: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  };
}

/** A network to attach to, by the Engine's id, and its Docker API `EndpointSettings`. */
export interface NetworkEndpoint {
  readonly networkId: string;
  readonly endpoint: Readonly<Record<string, unknown>>;
}

/** Overlay networks of a container, as this node's data path has made them ready. */
export interface ContainerNetworks {
  readonly endpoints: readonly NetworkEndpoint[];
  /** Who answers for names; empty: whoever the Engine takes. */
  readonly nameservers: readonly string[];
}

/** Networks that every Engine has of its own. */
const PREDEFINED_NETWORKS: ReadonlySet<string> = new Set(["bridge", "host", "none"]);
const NS_PER_S = 1_000_000_000;

/**
 * The container of a task, as moby's swarm executor makes it (daemon/cluster/executor/container).
 * Throws invalid_argument for a template that cannot be evaluated.
 */
export function containerConfig(
  work: TaskWork,
  fileMounts: readonly FileMount[],
  networks: ContainerNetworks = { endpoints: [], nameservers: [] },
): ContainerCreateBody {
  const template = work.assigned.spec.TaskTemplate ?? {};
  const container = template.ContainerSpec ?? {};
  const context = templateContext(work);
  const env = environment(work, container, context);
  return {
    Image: container.Image ?? "",
    Labels: labels(work, container),
    ...processConfig(container),
    ...(env.length > 0 && { Env: env }),
    ...(container.Hostname && { Hostname: expandTemplate(container.Hostname, context) }),
    ...exposedPorts(hostPorts(work)),
    HostConfig: {
      ...hostConfig(work, template, container, context, fileMounts),
      ...networkMode(work, networks),
      ...(networks.nameservers.length > 0 && { Dns: networks.nameservers }),
    },
    ...networkingConfig(networks),
  };
}

/** What the process is and how it is stopped. */
function processConfig(container: ContainerSpec): Partial<ContainerCreateBody> {
  const hasCommand = (container.Command?.length ?? 0) > 0;
  const graceS = stopGraceS(container);
  return {
    ...(hasCommand && { Entrypoint: container.Command ?? [] }),
    ...((container.Args?.length ?? 0) > 0 && { Cmd: container.Args ?? [] }),
    ...(container.Dir && { WorkingDir: container.Dir }),
    ...(container.User && { User: container.User }),
    ...(container.TTY && { Tty: true }),
    ...(container.OpenStdin && { OpenStdin: true }),
    ...(container.StopSignal && { StopSignal: container.StopSignal }),
    ...(graceS !== null && { StopTimeout: graceS }),
    ...(container.Healthcheck !== undefined && { Healthcheck: container.Healthcheck }),
  };
}

/** Whole seconds between the stop signal and SIGKILL, rounded up; null = the Engine's default. */
export function stopGraceS(container: ContainerSpec): number | null {
  return container.StopGracePeriod === undefined
    ? null
    : Math.ceil(Math.max(0, container.StopGracePeriod) / NS_PER_S);
}

function labels({ assigned, node }: TaskWork, container: ContainerSpec): Labels {
  const { task } = assigned;
  return {
    ...container.Labels,
    "com.docker.swarm.task": "",
    [TASK_LABEL]: task.id,
    "com.docker.swarm.task.name": taskName(assigned),
    "com.docker.swarm.node.id": node.nodeId,
    "com.docker.swarm.service.id": task.serviceId,
    "com.docker.swarm.service.name": task.serviceName,
    [CLUSTER_LABEL]: node.clusterId,
  };
}

function environment(
  work: TaskWork,
  container: ContainerSpec,
  context: TemplateValue,
): readonly string[] {
  const own = (container.Env ?? []).map(entry => expandTemplate(entry, context));
  return [...own, ...genericResourceEnv(work.assigned.task.assignedGeneric)];
}

/** `DOCKER_RESOURCE_<KIND>=value[,value…]`, in order of kind. */
function genericResourceEnv(resources: readonly GenericResourceSpec[]): readonly string[] {
  const values = new Map<string, string[]>();
  for (const { NamedResourceSpec: named, DiscreteResourceSpec: discrete } of resources) {
    const kind = (named?.Kind ?? discrete?.Kind ?? "").toUpperCase();
    const value = named === undefined ? String(discrete?.Value ?? 0) : (named.Value ?? "");
    values.set(kind, [...(values.get(kind) ?? []), value]);
  }
  return [...values]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([kind, list]) => `DOCKER_RESOURCE_${kind}=${list.join(",")}`);
}

/** The ports that the node itself publishes for the task. */
export function hostPorts(work: Pick<TaskWork, "assigned">): readonly PortConfig[] {
  const ports = work.assigned.spec.EndpointSpec?.Ports ?? [];
  return ports.filter(port => port.PublishMode === "host");
}

function portKey(port: PortConfig): string {
  return `${port.TargetPort ?? 0}/${port.Protocol ?? "tcp"}`;
}

function exposedPorts(ports: readonly PortConfig[]): Partial<ContainerCreateBody> {
  if (ports.length === 0) return {};
  return { ExposedPorts: Object.fromEntries(ports.map(port => [portKey(port), {}])) };
}

function portBindings(
  ports: readonly PortConfig[],
  labels: Labels | undefined,
): Readonly<Record<string, unknown>> {
  if (ports.length === 0) return {};
  const bindings: Record<string, { HostPort: string; HostIp?: string }[]> = {};
  for (const port of ports) {
    const published = port.PublishedPort ?? 0;
    const binding = { HostPort: published === 0 ? "" : String(published) };
    const at = publishAddresses(labels, published);
    const all = at.length === 0 ? [binding] : at.map(HostIp => ({ ...binding, HostIp }));
    bindings[portKey(port)] = [...(bindings[portKey(port)] ?? []), ...all];
  }
  return { PortBindings: bindings };
}

function hostConfig(
  work: TaskWork,
  template: TaskSpec,
  container: ContainerSpec,
  context: TemplateValue,
  fileMounts: readonly FileMount[],
): Readonly<Record<string, unknown>> {
  const logDriver = template.LogDriver;
  const asked = (container.Mounts ?? []).map(mount => mountConfig(mount, context));
  checkMounts(asked);
  const mounts = [
    ...asked,
    ...fileMounts.map(file => ({
      Type: "bind",
      Source: file.hostPath,
      Target: file.target,
      ReadOnly: true,
    })),
  ];
  return {
    RestartPolicy: { Name: "no" },
    ...portBindings(hostPorts(work), work.assigned.spec.Labels),
    ...(mounts.length > 0 && { Mounts: mounts }),
    ...resources(template, container),
    ...isolation(container),
    ...nameResolution(container),
    ...(logDriver?.Name && {
      LogConfig: { Type: logDriver.Name, Config: logDriver.Options ?? {} },
    }),
  };
}

function resources(
  template: TaskSpec,
  container: ContainerSpec,
): Readonly<Record<string, unknown>> {
  const limits = template.Resources?.Limits ?? {};
  const swap = template.Resources?.SwapBytes;
  const swappiness = template.Resources?.MemorySwappiness;
  return {
    ...(limits.NanoCPUs && { NanoCpus: limits.NanoCPUs }),
    ...(limits.MemoryBytes && { Memory: limits.MemoryBytes }),
    ...(limits.Pids && { PidsLimit: limits.Pids }),
    ...(swap !== undefined && swap !== null && { MemorySwap: memorySwap(limits, swap) }),
    ...(typeof swappiness === "number" && swappiness >= 0 && { MemorySwappiness: swappiness }),
    ...((container.Ulimits?.length ?? 0) > 0 && { Ulimits: container.Ulimits }),
    ...(container.OomScoreAdj && { OomScoreAdj: container.OomScoreAdj }),
  };
}

/** The Engine counts memory and swap together; -1 lifts the limit. */
function memorySwap(limits: { readonly MemoryBytes?: number }, swapBytes: number): number {
  return swapBytes < 0 ? -1 : (limits.MemoryBytes ?? 0) + swapBytes;
}

/** What the process may do and see. */
function isolation(container: ContainerSpec): Readonly<Record<string, unknown>> {
  const security = securityOptions(container.Privileges ?? {});
  return {
    ...((container.Groups?.length ?? 0) > 0 && { GroupAdd: container.Groups }),
    ...(container.ReadOnly && { ReadonlyRootfs: true }),
    ...(typeof container.Init === "boolean" && { Init: container.Init }),
    ...(container.Isolation && { Isolation: container.Isolation }),
    ...(Object.keys(container.Sysctls ?? {}).length > 0 && { Sysctls: container.Sysctls }),
    ...((container.CapabilityAdd?.length ?? 0) > 0 && { CapAdd: container.CapabilityAdd }),
    ...((container.CapabilityDrop?.length ?? 0) > 0 && { CapDrop: container.CapabilityDrop }),
    ...(security.length > 0 && { SecurityOpt: security }),
  };
}

function securityOptions(privileges: Privileges): readonly string[] {
  const options: string[] = [];
  const selinux = privileges.SELinuxContext;
  if (selinux?.Disable) options.push("label=disable");
  if (selinux?.User) options.push(`label=user:${selinux.User}`);
  if (selinux?.Role) options.push(`label=role:${selinux.Role}`);
  if (selinux?.Type) options.push(`label=type:${selinux.Type}`);
  if (selinux?.Level) options.push(`label=level:${selinux.Level}`);
  const seccomp = privileges.Seccomp;
  if (seccomp?.Mode === "unconfined") options.push("seccomp=unconfined");
  if (seccomp?.Mode === "custom" && seccomp.Profile) options.push(`seccomp=${seccomp.Profile}`);
  if (privileges.AppArmor?.Mode === "disabled") options.push("apparmor=unconfined");
  if (privileges.NoNewPrivileges) options.push("no-new-privileges=true");
  const credential = privileges.CredentialSpec;
  if (credential?.File) options.push(`credentialspec=file://${credential.File}`);
  if (credential?.Registry) options.push(`credentialspec=registry://${credential.Registry}`);
  return options;
}

function nameResolution(container: ContainerSpec): Readonly<Record<string, unknown>> {
  const dns = container.DNSConfig ?? {};
  const hosts = (container.Hosts ?? []).flatMap(extraHosts);
  return {
    ...(hosts.length > 0 && { ExtraHosts: hosts }),
    ...((dns.Nameservers?.length ?? 0) > 0 && { Dns: dns.Nameservers }),
    ...((dns.Search?.length ?? 0) > 0 && { DnsSearch: dns.Search }),
    ...((dns.Options?.length ?? 0) > 0 && { DnsOptions: dns.Options }),
  };
}

/** `IP name [alias…]` of /etc/hosts becomes the Engine's `name:IP`, one for each name. */
function extraHosts(entry: string): readonly string[] {
  const [address, ...names] = entry.split(/\s+/).filter(part => part !== "");
  return names.map(name => `${name}:${address}`);
}

function mountConfig(mount: Mount, context: TemplateValue): Mount {
  const expand = (text: string): string => expandTemplate(text, context);
  const volume = mount.VolumeOptions;
  const driver = volume?.DriverConfig;
  return {
    ...mount,
    Type: mount.Type ?? "volume",
    ...(mount.Source !== undefined && { Source: expand(mount.Source) }),
    ...(mount.Target !== undefined && { Target: expand(mount.Target) }),
    ...(volume !== undefined && {
      VolumeOptions: {
        ...volume,
        ...(volume.Labels !== undefined && { Labels: mapValues(volume.Labels, expand) }),
        ...(driver !== undefined && {
          DriverConfig: {
            ...driver,
            ...(driver.Options !== undefined && { Options: mapValues(driver.Options, expand) }),
          },
        }),
      },
    }),
  };
}

function mapValues(map: Labels, change: (value: string) => string): Labels {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value)]));
}

/** Networks by name that the Engine has itself: `host`, `bridge`, `none`. */
function networkMode(
  work: TaskWork,
  { endpoints }: ContainerNetworks,
): Readonly<Record<string, unknown>> {
  const first = endpoints[0];
  if (first !== undefined) return { NetworkMode: first.networkId };
  const targets = work.assigned.spec.TaskTemplate?.Networks ?? work.assigned.spec.Networks ?? [];
  const own = targets.find(target => PREDEFINED_NETWORKS.has(target.Target ?? ""));
  return own === undefined ? {} : { NetworkMode: own.Target };
}

/** The first attachment; the Engine takes further ones after create (before API v1.44). */
function networkingConfig({ endpoints }: ContainerNetworks): Partial<ContainerCreateBody> {
  const first = endpoints[0];
  if (first === undefined) return {};
  return { NetworkingConfig: { EndpointsConfig: { [first.networkId]: first.endpoint } } };
}
