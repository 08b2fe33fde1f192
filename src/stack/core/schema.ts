/**
 * What a compose file may say, by version: the rules of the compose file format 3.0 to 3.13
 * (docs.docker.com/reference/compose-file/legacy-versions), one table with the version a key came in.
 */
export type TypeName = "string" | "number" | "integer" | "boolean" | "null" | "object" | "array";

export interface Schema {
  readonly types?: readonly TypeName[];
  readonly properties?: Readonly<Record<string, Schema>>;
  /** Keys of a form; a key of neither is refused when `closed`. */
  readonly patterns?: readonly (readonly [RegExp, Schema])[];
  readonly closed?: boolean;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly unique?: boolean;
  readonly oneOf?: readonly Schema[];
  readonly allowed?: readonly string[];
  readonly least?: number;
  readonly format?: "ports" | "duration";
}

type Properties = Readonly<Record<string, Schema>>;

/** The last version of the format, and what a file without a version is read as. */
export const NEWEST_VERSION = "3.13";
const NEWEST_MINOR = 13;

const NAME = /^[a-zA-Z0-9._-]+$/;
const EXTENSION = /^x-/;

const ANY: Schema = {};
const STRING: Schema = { types: ["string"] };
const BOOLEAN: Schema = { types: ["boolean"] };
const INTEGER: Schema = { types: ["integer"] };
const NUMBER: Schema = { types: ["number"] };
const NOTHING: Schema = { types: ["null"] };
const DURATION: Schema = { types: ["string"], format: "duration" };

function arrayOf(items: Schema, unique = false): Schema {
  return { types: ["array"], items, unique };
}

function closed(properties: Properties): Schema {
  return { types: ["object"], properties, closed: true };
}

function open(properties: Properties): Schema {
  return { types: ["object"], properties };
}

function either(...oneOf: readonly Schema[]): Schema {
  return { oneOf };
}

const STRINGS = arrayOf(STRING);
const UNIQUE_STRINGS = arrayOf(STRING, true);
const STRING_OR_LIST = either(STRING, UNIQUE_STRINGS);
const COMMAND = either(STRING, STRINGS);
const OPTIONS: Schema = {
  types: ["object"],
  patterns: [[/^.+$/, { types: ["string", "number"] }]],
};
const LIST_OR_DICT = either(
  {
    types: ["object"],
    patterns: [[/.+/, { types: ["string", "number", "null"] }]],
    closed: true,
  },
  UNIQUE_STRINGS,
);
const FILE_REFERENCES = arrayOf(
  either(STRING, open({ source: STRING, target: STRING, uid: STRING, gid: STRING, mode: NUMBER })),
);

/** Keys that came in at minor version `since`. */
function from(minor: number, since: number, properties: Properties): Properties {
  return minor >= since ? properties : {};
}

/** Own keys may begin with x-. */
function extensible(minor: number, since: number, schema: Schema): Schema {
  return minor >= since ? { ...schema, patterns: [[EXTENSION, ANY]] } : schema;
}

function healthcheck(minor: number): Schema {
  const time = minor >= 4 ? DURATION : STRING;
  return closed({
    disable: BOOLEAN,
    interval: time,
    retries: NUMBER,
    test: COMMAND,
    timeout: time,
    ...from(minor, 4, { start_period: DURATION }),
    ...from(minor, 12, { start_interval: DURATION }),
  });
}

function updateConfig(minor: number): Schema {
  return closed({
    parallelism: INTEGER,
    delay: DURATION,
    failure_action: STRING,
    monitor: DURATION,
    max_failure_ratio: NUMBER,
    ...from(minor, 4, { order: { types: ["string"], allowed: ["start-first", "stop-first"] } }),
  });
}

function resources(minor: number): Schema {
  const spec = closed({ kind: STRING, value: NUMBER });
  const generic = arrayOf(closed({ discrete_resource_spec: spec }));
  const both: Properties = { cpus: STRING, memory: STRING };
  return closed({
    limits: closed({ ...both, ...from(minor, 9, { pids: INTEGER }) }),
    reservations: closed({ ...both, ...from(minor, 5, { generic_resources: generic }) }),
  });
}

function deployment(minor: number): Schema {
  const properties: Properties = {
    mode: STRING,
    ...from(minor, 2, { endpoint_mode: STRING }),
    replicas: INTEGER,
    labels: LIST_OR_DICT,
    ...from(minor, 7, { rollback_config: updateConfig(minor) }),
    update_config: updateConfig(minor),
    resources: resources(minor),
    restart_policy: closed({
      condition: STRING,
      delay: DURATION,
      max_attempts: INTEGER,
      window: DURATION,
    }),
    placement: closed({
      constraints: STRINGS,
      ...from(minor, 3, { preferences: arrayOf(closed({ spread: STRING })) }),
      ...from(minor, 8, { max_replicas_per_node: INTEGER }),
    }),
  };
  return { types: ["object", "null"], properties, closed: true };
}

function build(minor: number): Schema {
  const properties: Properties = {
    context: STRING,
    dockerfile: STRING,
    args: LIST_OR_DICT,
    ...from(minor, 2, { cache_from: UNIQUE_STRINGS }),
    ...from(minor, 3, { labels: LIST_OR_DICT }),
    ...from(minor, 4, { network: STRING, target: STRING }),
    ...from(minor, 5, { shm_size: { types: ["integer", "string"] } }),
    ...from(minor, 9, { extra_hosts: LIST_OR_DICT }),
  };
  return either(STRING, { types: ["object"], properties, closed: minor < 11 });
}

function ports(minor: number): Schema {
  if (minor < 2) return arrayOf({ types: ["string", "number"], format: "ports" }, true);
  const long = closed({ mode: STRING, target: INTEGER, published: INTEGER, protocol: STRING });
  return arrayOf(
    either({ types: ["number"], format: "ports" }, { types: ["string"], format: "ports" }, long),
    true,
  );
}

function serviceVolumes(minor: number): Schema {
  if (minor < 2) return UNIQUE_STRINGS;
  const long: Schema = {
    ...closed({
      type: STRING,
      source: STRING,
      target: STRING,
      read_only: BOOLEAN,
      consistency: STRING,
      bind: open({ propagation: STRING }),
      volume: open({ nocopy: BOOLEAN }),
      ...from(minor, 6, { tmpfs: open({ size: { types: ["integer"], least: 0 } }) }),
    }),
    required: ["type"],
  };
  return arrayOf(either(STRING, long));
}

function serviceNetworks(minor: number): Schema {
  const attachment = closed({
    aliases: UNIQUE_STRINGS,
    ...from(minor, 13, { driver_opts: OPTIONS }),
    ipv4_address: STRING,
    ipv6_address: STRING,
  });
  const long: Schema = {
    types: ["object"],
    patterns: [[NAME, either(attachment, NOTHING)]],
    closed: true,
  };
  return either(UNIQUE_STRINGS, long);
}

const ULIMITS: Schema = {
  types: ["object"],
  patterns: [
    [
      /^[a-z]+$/,
      either(INTEGER, {
        ...closed({ hard: INTEGER, soft: INTEGER }),
        required: ["soft", "hard"],
      }),
    ],
  ],
};

const LOGGING = closed({
  driver: STRING,
  options: { types: ["object"], patterns: [[/^.+$/, { types: ["string", "number", "null"] }]] },
});

/** Keys of a service that every version has. */
const SERVICE: Properties = {
  cap_add: UNIQUE_STRINGS,
  cap_drop: UNIQUE_STRINGS,
  cgroup_parent: STRING,
  command: COMMAND,
  container_name: STRING,
  depends_on: UNIQUE_STRINGS,
  devices: UNIQUE_STRINGS,
  dns: STRING_OR_LIST,
  dns_search: STRING_OR_LIST,
  domainname: STRING,
  entrypoint: COMMAND,
  env_file: STRING_OR_LIST,
  environment: LIST_OR_DICT,
  expose: arrayOf({ types: ["string", "number"] }, true),
  external_links: UNIQUE_STRINGS,
  extra_hosts: LIST_OR_DICT,
  hostname: STRING,
  image: STRING,
  ipc: STRING,
  labels: LIST_OR_DICT,
  links: UNIQUE_STRINGS,
  logging: LOGGING,
  mac_address: STRING,
  network_mode: STRING,
  pid: { types: ["string", "null"] },
  privileged: BOOLEAN,
  read_only: BOOLEAN,
  restart: STRING,
  security_opt: UNIQUE_STRINGS,
  shm_size: { types: ["number", "string"] },
  stdin_open: BOOLEAN,
  stop_grace_period: DURATION,
  stop_signal: STRING,
  sysctls: LIST_OR_DICT,
  tmpfs: STRING_OR_LIST,
  tty: BOOLEAN,
  ulimits: ULIMITS,
  user: STRING,
  userns_mode: STRING,
  working_dir: STRING,
};

function service(minor: number): Schema {
  const credentials: Properties = {
    ...from(minor, 8, { config: STRING }),
    file: STRING,
    registry: STRING,
  };
  return extensible(
    minor,
    7,
    closed({
      ...SERVICE,
      build: build(minor),
      deploy: deployment(minor),
      healthcheck: healthcheck(minor),
      networks: serviceNetworks(minor),
      ports: ports(minor),
      volumes: serviceVolumes(minor),
      ...from(minor, 1, { secrets: FILE_REFERENCES }),
      ...from(minor, 3, { configs: FILE_REFERENCES, credential_spec: closed(credentials) }),
      ...from(minor, 5, { isolation: STRING }),
      ...from(minor, 7, { init: BOOLEAN }),
      ...from(minor, 9, { cgroupns_mode: STRING }),
      ...from(minor, 13, { oom_score_adj: INTEGER }),
    }),
  );
}

const EXTERNAL: Schema = {
  types: ["boolean", "object"],
  properties: { name: STRING },
  closed: true,
};
const EXTERNAL_OBJECT: Schema = { types: ["boolean", "object"], properties: { name: STRING } };

function network(minor: number): Schema {
  const pool = closed({ subnet: STRING });
  const properties: Properties = {
    ...from(minor, 5, { name: STRING }),
    driver: STRING,
    driver_opts: OPTIONS,
    ipam: closed({ driver: STRING, config: arrayOf(pool) }),
    external: EXTERNAL,
    internal: BOOLEAN,
    ...from(minor, 2, { attachable: BOOLEAN }),
    labels: LIST_OR_DICT,
  };
  return extensible(minor, 7, { types: ["object", "null"], properties, closed: true });
}

const TOPOLOGIES = arrayOf(open({ segments: LIST_OR_DICT }));
const CLUSTER_VOLUME = open({
  group: STRING,
  access_mode: open({
    scope: STRING,
    sharing: STRING,
    block_volume: { types: ["object"] },
    mount_volume: open({ fs_type: STRING, mount_flags: STRINGS }),
  }),
  accessibility_requirements: open({ requisite: TOPOLOGIES, preferred: TOPOLOGIES }),
  capacity_range: open({ required_bytes: STRING, limit_bytes: STRING }),
  availability: STRING,
});

function volume(minor: number): Schema {
  const properties: Properties = {
    ...from(minor, 4, { name: STRING }),
    driver: STRING,
    driver_opts: OPTIONS,
    external: EXTERNAL,
    labels: LIST_OR_DICT,
    ...from(minor, 10, { "x-cluster-spec": CLUSTER_VOLUME }),
  };
  return extensible(minor, 7, { types: ["object", "null"], properties, closed: true });
}

function fileObject(minor: number, more: Properties): Schema {
  const properties: Properties = {
    ...from(minor, 5, { name: STRING }),
    file: STRING,
    external: EXTERNAL_OBJECT,
    labels: LIST_OR_DICT,
    ...from(minor, 8, { template_driver: STRING }),
    ...more,
  };
  return extensible(minor, 7, closed(properties));
}

function named(schema: Schema, isClosed = true): Schema {
  return { types: ["object"], patterns: [[NAME, schema]], closed: isClosed };
}

function schemaOf(minor: number): Schema {
  const secret = fileObject(minor, from(minor, 8, { driver: STRING, driver_opts: OPTIONS }));
  const file = closed({
    version: STRING,
    services: named(service(minor)),
    networks: named(network(minor), false),
    volumes: named(volume(minor)),
    ...from(minor, 1, { secrets: named(secret) }),
    ...from(minor, 3, { configs: named(fileObject(minor, {})) }),
  });
  return extensible(minor, 4, file);
}

/** The rules of a version "3.N"; undefined for one that is not of this format. */
export function composeSchema(version: string): Schema | undefined {
  const minor = /^3\.(\d|1\d)$/.exec(version)?.[1];
  if (minor === undefined || Number(minor) > NEWEST_MINOR) return undefined;
  return schemaOf(Number(minor));
}
