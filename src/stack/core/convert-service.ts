import { type ApiObject, mapping, omitEmpty, told } from "./api-object.ts";
import {
  convertEndpoint,
  convertMode,
  convertResources,
  convertRestart,
  convertUpdate,
  placementOf,
} from "./convert-deploy.ts";
import { byText, type Dict, dictOf } from "./dict.ts";
import { composeError, quoted } from "./errors.ts";
import { configUses, type ObjectUse, secretUses } from "./file-references.ts";
import {
  type ComposeFile,
  type ComposeService,
  type CredentialSettings,
  type HealthSettings,
  networkOf,
  serviceOf,
} from "./model.ts";
import { convertMount } from "./mounts.ts";
import { DEFAULT_NETWORK, IMAGE_LABEL, isBuiltInNetwork, scoped, stackLabels } from "./names.ts";

/** The ids of secrets and configs by name in the cluster. */
export interface ObjectIds {
  readonly secrets: ReadonlyMap<string, string>;
  readonly configs: ReadonlyMap<string, string>;
}

function idOf(what: string, ids: ReadonlyMap<string, string>, name: string): string {
  const id = ids.get(name);
  if (id === undefined) throw composeError(`${what} not found: ${name}`);
  return id;
}

function ordered(uses: readonly ObjectUse[]): ObjectUse[] {
  return [...uses].sort(
    (a, b) => byText(a.name, b.name) || byText(a.file?.Name ?? "", b.file?.Name ?? ""),
  );
}

function secretReferences(uses: readonly ObjectUse[], ids: ObjectIds): ApiObject[] {
  return ordered(uses).map(({ name, file }) => ({
    File: file,
    SecretID: idOf("secret", ids.secrets, name),
    SecretName: name,
  }));
}

function configReferences(uses: readonly ObjectUse[], ids: ObjectIds): ApiObject[] {
  const files = uses.filter(({ file }) => file !== null);
  const runtime = uses.filter(({ file }) => file === null);
  return ordered([...files, ...runtime]).map(({ name, file }) => ({
    ...(file === null ? { Runtime: {} } : { File: file }),
    ConfigID: idOf("config", ids.configs, name),
    ConfigName: name,
  }));
}

function convertHealth(said: HealthSettings | undefined): ApiObject | undefined {
  if (said === undefined) return undefined;
  if (said.disable === true) {
    if ((said.test ?? []).length > 0) {
      throw composeError("test and disable can't be set at the same time");
    }
    return { Test: ["NONE"] };
  }
  return omitEmpty({
    Test: said.test,
    Interval: said.interval,
    Timeout: said.timeout,
    StartPeriod: said.start_period,
    StartInterval: said.start_interval,
    Retries: said.retries,
  });
}

function convertNetworks(name: string, service: ComposeService, context: ServiceContext) {
  const said = service.networks ?? {};
  const attached = Object.keys(said).length === 0 ? { [DEFAULT_NETWORK]: null } : said;
  const known = context.file.networks;
  return Object.entries(attached)
    .map(([network, attachment]) => {
      if (!Object.hasOwn(known, network) && network !== DEFAULT_NETWORK) {
        throw composeError(`undefined network ${quoted(network)}`);
      }
      const { name: own = "" } = networkOf(dictOf(known[network]));
      const target = own === "" ? scoped(context.stack, network) : own;
      const aliases = [...(attachment?.aliases ?? [])];
      if (!isBuiltInNetwork(target)) aliases.push(name);
      return { target, aliases, options: mapping(attachment?.driver_opts) };
    })
    .sort((a, b) => byText(a.target, b.target))
    .map(({ target, aliases, options }) =>
      omitEmpty({ Target: target, Aliases: aliases, DriverOpts: options }),
    );
}

function convertCredentials(
  said: CredentialSettings | undefined,
  stack: string,
  configs: readonly ApiObject[],
): ApiObject | null {
  const { config = "", file = "", registry = "" } = said ?? {};
  const given = Object.entries({ Config: config, File: file, Registry: registry })
    .filter(([, value]) => value !== "")
    .map(([key]) => quoted(key));
  if (given.length === 0) return null;
  if (given.length > 1) {
    const [last = "", ...before] = given.reverse();
    const list = before.reverse().join(", ");
    const and = before.length > 1 ? ", and" : " and";
    throw composeError(`invalid credential spec: cannot specify both ${list}${and} ${last}`);
  }
  if (config === "") return { Config: "", File: file, Registry: registry };
  const names = [config, scoped(stack, config)];
  const found = names
    .map(name => configs.find(one => one["ConfigName"] === name))
    .find(one => one !== undefined);
  if (found === undefined) {
    throw composeError(
      `invalid credential spec: spec specifies config ${config}, but no such config can be found`,
    );
  }
  return { Config: found["ConfigID"], File: "", Registry: "" };
}

function capability(said: string): string {
  const name = said.trim().toUpperCase();
  return name === "ALL" || name === "RESET" || name.startsWith("CAP_") ? name : `CAP_${name}`;
}

/** ALL stands for every other; what is added is not dropped. */
function capabilities(said: readonly string[] = []): ReadonlySet<string> {
  const names = new Set(said.map(capability));
  return names.has("ALL") ? new Set(["ALL"]) : names;
}

function convertCapabilities(service: ComposeService): ApiObject {
  const add = capabilities(service.cap_add);
  const drop = [...capabilities(service.cap_drop)].filter(name => !add.has(name));
  const sorted = (names: Iterable<string>): string[] =>
    [...names].filter(name => name !== "RESET").sort(byText);
  return omitEmpty({ CapabilityAdd: sorted(add), CapabilityDrop: sorted(drop) });
}

function convertUlimits(said: ComposeService["ulimits"]): ApiObject[] {
  return Object.entries(said ?? {})
    .sort(([a], [b]) => byText(a, b))
    .map(([name, limit]) =>
      typeof limit === "number"
        ? { Name: name, Hard: limit, Soft: limit }
        : { Name: name, Hard: limit.hard ?? 0, Soft: limit.soft ?? 0 },
    );
}

function convertEnvironment(said: ComposeService["environment"]): string[] {
  return Object.entries(said ?? {})
    .map(([name, value]) => (value === null ? name : `${name}=${value}`))
    .sort(byText);
}

function convertDns({ dns, dns_search: search }: ComposeService): ApiObject | undefined {
  if (dns === undefined && search === undefined) return undefined;
  return omitEmpty({ Nameservers: dns, Search: search });
}

function hostLines(said: readonly string[]): string[] {
  return said
    .filter(word => word.includes(":"))
    .map(word => `${word.slice(word.indexOf(":") + 1)} ${word.slice(0, word.indexOf(":"))}`);
}

interface ServiceContext {
  readonly stack: string;
  readonly file: ComposeFile;
}

interface Uses {
  readonly secrets: readonly ObjectUse[];
  readonly configs: readonly ObjectUse[];
}

function containerSpec(
  service: ComposeService,
  uses: Uses,
  ids: ObjectIds,
  { stack, file }: ServiceContext,
): ApiObject {
  const configs = configReferences(uses.configs, ids);
  const mounts = (service.volumes ?? []).map(volume =>
    convertMount(volume, { stack, volumes: file.volumes }),
  );
  const credentials = convertCredentials(service.credential_spec, stack, configs);
  return {
    ...omitEmpty({
      Image: service.image,
      Labels: stackLabels(stack, service.labels),
      Command: service.entrypoint,
      Args: service.command,
      Hostname: service.hostname,
      Env: convertEnvironment(service.environment),
      Dir: service.working_dir,
      User: service.user,
      StopSignal: service.stop_signal,
      TTY: service.tty,
      OpenStdin: service.stdin_open,
      ReadOnly: service.read_only,
      Mounts: mounts,
      Healthcheck: convertHealth(service.healthcheck),
      Hosts: hostLines(service.extra_hosts ?? []),
      DNSConfig: convertDns(service),
      Secrets: secretReferences(uses.secrets, ids),
      Configs: configs,
      Isolation: service.isolation,
      Sysctls: mapping(service.sysctls),
      Ulimits: convertUlimits(service.ulimits),
      OomScoreAdj: service.oom_score_adj,
    }),
    ...convertCapabilities(service),
    Privileges: { CredentialSpec: credentials, SELinuxContext: null, NoNewPrivileges: false },
    ...told("Init", service.init),
    ...told("StopGracePeriod", service.stop_grace_period),
  };
}

function logDriver({ driver, options }: NonNullable<ComposeService["logging"]>): ApiObject {
  return omitEmpty({ Name: driver, Options: mapping(options) });
}

function convertOne(
  name: string,
  service: ComposeService,
  uses: Uses,
  ids: ObjectIds,
  context: ServiceContext,
): ApiObject {
  const { stack } = context;
  const deploy = service.deploy ?? {};
  const mode = convertMode(deploy);
  const container = containerSpec(service, uses, ids, context);
  return {
    Name: scoped(stack, name),
    Labels: { ...stackLabels(stack, deploy.labels), [IMAGE_LABEL]: service.image ?? "" },
    TaskTemplate: {
      ContainerSpec: container,
      Resources: convertResources(deploy.resources ?? {}),
      ...told("RestartPolicy", convertRestart(service.restart ?? "", deploy.restart_policy)),
      Placement: placementOf(deploy.placement),
      Networks: convertNetworks(name, service, context),
      ...(service.logging && { LogDriver: logDriver(service.logging) }),
      ForceUpdate: 0,
    },
    Mode: mode,
    ...told("UpdateConfig", convertUpdate(deploy.update_config)),
    ...told("RollbackConfig", convertUpdate(deploy.rollback_config)),
    EndpointSpec: convertEndpoint(deploy.endpoint_mode ?? "", service.ports ?? []),
  };
}

/** A service of the file, ready but for the ids of what it uses. */
export interface PlannedService {
  readonly name: string;
  /** Names in the cluster of the secrets and configs whose ids `spec` needs. */
  readonly secrets: readonly string[];
  readonly configs: readonly string[];
  /** Throws when an id is missing. */
  spec(ids: ObjectIds): ApiObject;
}

function inService<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw composeError(`service ${name}: ${error instanceof Error ? error.message : error}`);
  }
}

function placeholders(names: readonly string[]): ReadonlyMap<string, string> {
  return new Map(names.map(name => [name, ""]));
}

function planOne(name: string, dict: Dict, context: ServiceContext): PlannedService {
  const service = serviceOf(dict);
  const { stack, file } = context;
  const uses = inService(name, () => ({
    secrets: secretUses(service, stack, file.secrets),
    configs: configUses(service, stack, file.configs),
  }));
  const secrets = uses.secrets.map(use => use.name);
  const configs = uses.configs.map(use => use.name);
  const spec = (ids: ObjectIds): ApiObject =>
    inService(name, () => convertOne(name, service, uses, ids, context));
  spec({ secrets: placeholders(secrets), configs: placeholders(configs) });
  return { name, secrets, configs, spec };
}

/**
 * The services of a file, by name. Everything that can be judged without a cluster is judged here,
 * so that a faulty file leaves nothing half made.
 */
export function planServices(stack: string, file: ComposeFile): PlannedService[] {
  return Object.entries(file.services)
    .sort(([a], [b]) => byText(a, b))
    .map(([name, service]) => planOne(name, service, { stack, file }));
}
