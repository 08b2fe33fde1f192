/**
 * The model of a compose file as one table: each key's kind says how its short and long forms are
 * read, how a later file's value joins an earlier one's, and in which order `stack config` prints it
 * (that of docker's own structures). A value that is zero and cannot be told from one that was not
 * said is left out when printed.
 */
export type Leaf =
  | "text"
  | "boolean"
  | "integer"
  | "count"
  | "float32"
  | "duration"
  | "bytes"
  | "command"
  | "text-or-list"
  | "texts"
  | "number-texts"
  | "health-test"
  | "text-map"
  | "labels"
  | "environment"
  | "hosts"
  | "ulimit"
  | "external"
  | "ports";

export type Kind =
  /** `told`: zero is a value of its own. */
  | { readonly is: Leaf; readonly told?: boolean }
  /** Items joined by `key` when it is given, else one after the other. */
  | { readonly is: "list"; readonly of: Kind; readonly key?: string }
  | { readonly is: "map"; readonly of: Kind; readonly join: MapJoin }
  | Shape;

/** How an entry of both files is joined. */
export type MapJoin = "replace" | "networks";

export interface Shape {
  readonly is: "struct";
  readonly fields: readonly (readonly [string, Kind])[];
  /** A short form is the value of this key. */
  readonly short?: string;
  readonly shortVolume?: boolean;
  readonly told?: boolean;
  /** Own keys of the user, x-…. */
  readonly extras?: boolean;
  readonly logging?: boolean;
}

function leaf(is: Leaf): Kind {
  return { is };
}

function told(is: Leaf): Kind {
  return { is, told: true };
}

const TEXT = leaf("text");
const TEXTS = leaf("texts");
const BOOLEAN = leaf("boolean");
const TEXT_MAP = leaf("text-map");
const LABELS = leaf("labels");
const TEXT_OR_LIST = leaf("text-or-list");
const DURATION = told("duration");

function struct(fields: Readonly<Record<string, Kind>>, more: Partial<Shape> = {}): Shape {
  return { is: "struct", fields: Object.entries(fields), ...more };
}

function listOf(of: Kind, key?: string): Kind {
  return key === undefined ? { is: "list", of } : { is: "list", of, key };
}

const BUILD = struct(
  {
    context: TEXT,
    dockerfile: TEXT,
    args: leaf("environment"),
    labels: LABELS,
    cache_from: TEXT_OR_LIST,
    extra_hosts: leaf("hosts"),
    network: TEXT,
    target: TEXT,
  },
  { short: "context" },
);

const FILE_REFERENCE = struct(
  { source: TEXT, target: TEXT, uid: TEXT, gid: TEXT, mode: told("count") },
  { short: "source" },
);

const UPDATE_CONFIG = struct(
  {
    parallelism: told("count"),
    delay: leaf("duration"),
    failure_action: TEXT,
    monitor: leaf("duration"),
    max_failure_ratio: leaf("float32"),
    order: TEXT,
  },
  { told: true },
);

const GENERIC_RESOURCE = struct({
  discrete_resource_spec: struct({ kind: told("text"), value: told("integer") }, { told: true }),
});

const RESOURCES = struct({
  limits: struct({ cpus: TEXT, memory: leaf("bytes"), pids: leaf("integer") }, { told: true }),
  reservations: struct(
    { cpus: TEXT, memory: leaf("bytes"), generic_resources: listOf(GENERIC_RESOURCE) },
    { told: true },
  ),
});

const DEPLOY = struct({
  mode: TEXT,
  replicas: told("count"),
  labels: LABELS,
  update_config: UPDATE_CONFIG,
  rollback_config: UPDATE_CONFIG,
  resources: RESOURCES,
  restart_policy: struct(
    {
      condition: TEXT,
      delay: DURATION,
      max_attempts: told("count"),
      window: DURATION,
    },
    { told: true },
  ),
  placement: struct({
    constraints: TEXTS,
    preferences: listOf(struct({ spread: TEXT })),
    max_replicas_per_node: leaf("count"),
  }),
  endpoint_mode: TEXT,
});

const HEALTHCHECK = struct(
  {
    test: leaf("health-test"),
    timeout: DURATION,
    interval: DURATION,
    retries: told("count"),
    start_period: DURATION,
    start_interval: DURATION,
    disable: BOOLEAN,
  },
  { told: true },
);

const VOLUME_MOUNT = struct(
  {
    type: TEXT,
    source: TEXT,
    target: TEXT,
    read_only: BOOLEAN,
    consistency: TEXT,
    bind: struct({ propagation: TEXT }, { told: true }),
    volume: struct({ nocopy: BOOLEAN, subpath: TEXT }, { told: true }),
    image: struct({ subpath: TEXT }, { told: true }),
    tmpfs: struct({ size: leaf("integer") }, { told: true }),
    cluster: struct({}, { told: true }),
  },
  { shortVolume: true },
);

const ATTACHMENT = struct(
  { aliases: TEXTS, driver_opts: TEXT_MAP, ipv4_address: TEXT, ipv6_address: TEXT },
  { told: true },
);

export const SERVICE_SHAPE = struct(
  {
    build: BUILD,
    cap_add: TEXTS,
    cap_drop: TEXTS,
    cgroupns_mode: TEXT,
    cgroup_parent: TEXT,
    command: leaf("command"),
    configs: listOf(FILE_REFERENCE, "source"),
    container_name: TEXT,
    credential_spec: struct({ config: TEXT, file: TEXT, registry: TEXT }),
    depends_on: TEXTS,
    deploy: DEPLOY,
    devices: TEXTS,
    dns: TEXT_OR_LIST,
    dns_search: TEXT_OR_LIST,
    domainname: TEXT,
    entrypoint: leaf("command"),
    environment: leaf("environment"),
    env_file: TEXT_OR_LIST,
    expose: leaf("number-texts"),
    external_links: TEXTS,
    extra_hosts: leaf("hosts"),
    hostname: TEXT,
    healthcheck: HEALTHCHECK,
    image: TEXT,
    init: told("boolean"),
    ipc: TEXT,
    isolation: TEXT,
    labels: LABELS,
    links: TEXTS,
    logging: struct({ driver: TEXT, options: TEXT_MAP }, { told: true, logging: true }),
    mac_address: TEXT,
    network_mode: TEXT,
    networks: { is: "map", of: ATTACHMENT, join: "networks" },
    pid: TEXT,
    ports: leaf("ports"),
    privileged: BOOLEAN,
    read_only: BOOLEAN,
    restart: TEXT,
    secrets: listOf(FILE_REFERENCE, "source"),
    security_opt: TEXTS,
    shm_size: TEXT,
    stdin_open: BOOLEAN,
    stop_grace_period: DURATION,
    stop_signal: TEXT,
    sysctls: LABELS,
    tmpfs: TEXT_OR_LIST,
    tty: BOOLEAN,
    ulimits: { is: "map", of: told("ulimit"), join: "replace" },
    user: TEXT,
    oom_score_adj: leaf("integer"),
    userns_mode: TEXT,
    volumes: listOf(VOLUME_MOUNT, "target"),
    working_dir: TEXT,
  },
  { extras: true },
);

export const PORT_SHAPE = struct({
  mode: TEXT,
  target: leaf("count"),
  published: leaf("count"),
  protocol: TEXT,
});

export const NETWORK_SHAPE = struct(
  {
    name: TEXT,
    driver: TEXT,
    driver_opts: TEXT_MAP,
    ipam: struct({ driver: TEXT, config: listOf(struct({ subnet: TEXT })) }),
    external: leaf("external"),
    internal: BOOLEAN,
    attachable: BOOLEAN,
    labels: LABELS,
  },
  { extras: true },
);

const TOPOLOGIES = listOf(struct({ segments: LABELS }));

const CLUSTER_VOLUME = struct(
  {
    group: TEXT,
    access_mode: struct(
      {
        scope: TEXT,
        sharing: TEXT,
        mount_volume: struct({ fs_type: TEXT, mount_flags: TEXTS }, { told: true }),
        block_volume: struct({}, { told: true }),
      },
      { told: true },
    ),
    accessibility_requirements: struct(
      { requisite: TOPOLOGIES, preferred: TOPOLOGIES },
      { told: true },
    ),
    capacity_range: struct(
      { required_bytes: leaf("bytes"), limit_bytes: leaf("bytes") },
      { told: true },
    ),
    secrets: listOf(struct({ key: TEXT, secret: TEXT })),
    availability: TEXT,
  },
  { told: true },
);

export const VOLUME_SHAPE = struct(
  {
    name: TEXT,
    driver: TEXT,
    driver_opts: TEXT_MAP,
    external: leaf("external"),
    labels: LABELS,
    "x-cluster-spec": CLUSTER_VOLUME,
  },
  { extras: true },
);

export const FILE_OBJECT_SHAPE = struct(
  {
    name: TEXT,
    file: TEXT,
    external: leaf("external"),
    labels: LABELS,
    driver: TEXT,
    driver_opts: TEXT_MAP,
    template_driver: TEXT,
  },
  { extras: true },
);
