import type { ApiObject } from "./core/api-object.ts";
import { type PlannedObject, planNetworks, planObjects } from "./core/convert-objects.ts";
import { type ObjectIds, type PlannedService, planServices } from "./core/convert-service.ts";
import { dictOf } from "./core/dict.ts";
import { composeError, quoted } from "./core/errors.ts";
import type { ComposeFile } from "./core/model.ts";
import {
  hasDigest,
  IMAGE_LABEL,
  isBuiltInNetwork,
  NAMESPACE_LABEL,
  scoped,
  taggedImage,
  unscoped,
} from "./core/names.ts";

export type Query = Readonly<Record<string, string | number>>;

/** The Docker API as far as a deployment needs it. Errors carry the daemon's words. */
export interface StackApi {
  get(path: string, query?: Query): Promise<unknown>;
  /** Null when the daemon has no such object. */
  find(path: string, headers?: Readonly<Record<string, string>>): Promise<unknown>;
  post(
    path: string,
    body: ApiObject,
    query?: Query,
    headers?: Readonly<Record<string, string>>,
  ): Promise<unknown>;
  remove(path: string): Promise<void>;
}

export interface DeployOptions {
  readonly stack: string;
  readonly prune: boolean;
  /** Whether a registry is asked for the digest of an image. */
  readonly resolveImage: "always" | "changed" | "never";
}

export interface DeployDeps {
  readonly api: StackApi;
  out(text: string): void;
  warn(line: string): void;
  /** Throws when the file cannot be read. */
  readBytes(path: string): Uint8Array;
  /** The X-Registry-Auth header of an image; null when none is to be sent. */
  authOf(image: string): Promise<string | null>;
}

interface ServiceObject {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: {
    readonly Name: string;
    readonly Labels?: Readonly<Record<string, string>>;
    readonly TaskTemplate?: {
      readonly ForceUpdate?: number;
      readonly ContainerSpec?: { readonly Image?: string };
    };
  };
}

interface StoredObject {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: { readonly Name: string };
}

type ObjectKind = "secret" | "config";

interface ReadObject extends PlannedObject {
  readonly data: string;
}

/** One deployment, step by step, and what of it is done. */
class Deployment {
  readonly #options: DeployOptions;
  readonly #deps: DeployDeps;
  readonly #done: string[] = [];

  constructor(options: DeployOptions, deps: DeployDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** The ids of the services made or updated. */
  async run(file: ComposeFile): Promise<string[]> {
    const { stack } = this.#options;
    const services = planServices(stack, file);
    const networks = planNetworks(stack, file);
    const secrets = this.#readAll(planObjects(stack, "secret", file.secrets));
    const configs = this.#readAll(planObjects(stack, "config", file.configs));
    await this.#checkManager();
    if (this.#options.prune) await this.#prune(services);
    await this.#checkExternal(networks.external);
    try {
      await this.#createNetworks(networks.own);
      for (const secret of secrets) await this.#putObject("secret", secret);
      for (const config of configs) await this.#putObject("config", config);
      const specs = await this.#specsOf(services);
      return await this.#deployServices(specs);
    } catch (error) {
      this.#tellDone();
      throw error;
    }
  }

  #readAll(planned: readonly PlannedObject[]): ReadObject[] {
    return planned.map(object => {
      const bytes = object.path === null ? null : this.#deps.readBytes(object.path);
      return { ...object, data: bytes === null ? "" : Buffer.from(bytes).toString("base64") };
    });
  }

  #tellDone(): void {
    if (this.#done.length === 0) return;
    this.#deps.warn(
      `The stack is deployed in part. Done: ${this.#done.join(", ")}. Deploy again when the fault ` +
        `is mended, or take it down with: swarmd stack rm ${this.#options.stack}`,
    );
  }

  #ofStack(): Query {
    return {
      filters: JSON.stringify({ label: { [`${NAMESPACE_LABEL}=${this.#options.stack}`]: true } }),
    };
  }

  async #checkManager(): Promise<void> {
    const info = dictOf(await this.#deps.api.get("/info"));
    if (dictOf(info["Swarm"])["ControlAvailable"] === true) return;
    throw composeError(
      'this node is not a swarm manager. Use "docker swarm init" or "docker swarm join" ' +
        "to connect this node to swarm and try again",
    );
  }

  /** As docker: what cannot be removed is told, and the deployment goes on. */
  async #prune(services: readonly PlannedService[]): Promise<void> {
    const { api, out, warn } = this.#deps;
    const wanted = new Set(services.map(service => service.name));
    const held = (await api.get("/services", this.#ofStack())) as readonly ServiceObject[];
    for (const { ID, Spec } of [...held].sort((a, b) => (a.Spec.Name < b.Spec.Name ? -1 : 1))) {
      if (wanted.has(unscoped(this.#options.stack, Spec.Name))) continue;
      out(`Removing service ${Spec.Name}\n`);
      try {
        await api.remove(`/services/${ID}`);
      } catch (error) {
        warn(`Failed to remove service ${ID}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }

  async #checkExternal(names: readonly string[]): Promise<void> {
    for (const name of names) {
      if (isBuiltInNetwork(name)) continue;
      const found = await this.#deps.api.find(`/networks/${encodeURIComponent(name)}`);
      const declared = `network ${quoted(name)} is declared as external, but`;
      if (found === null) {
        throw composeError(
          `${declared} could not be found. ` +
            "You need to create a swarm-scoped network before the stack is deployed",
        );
      }
      const scope = String(dictOf(found)["Scope"] ?? "");
      if (scope !== "swarm") {
        throw composeError(
          `${declared} it is not in the right scope: ${quoted(scope)} instead of "swarm"`,
        );
      }
    }
  }

  async #createNetworks(networks: ReadonlyMap<string, ApiObject>): Promise<void> {
    const { api, out } = this.#deps;
    const held = (await api.get("/networks", this.#ofStack())) as readonly { Name: string }[];
    const names = new Set(held.map(network => network.Name));
    for (const [name, request] of networks) {
      if (names.has(name)) continue;
      out(`Creating network ${name}\n`);
      await saying(`failed to create network ${name}`, () => api.post("/networks/create", request));
      this.#done.push(`network ${name}`);
    }
  }

  /** Of one that exists only the labels can change: the daemon refuses other contents. */
  async #putObject(kind: ObjectKind, object: ReadObject): Promise<void> {
    const { api, out } = this.#deps;
    const { name } = object;
    const spec = object.data === "" ? object.spec : { ...object.spec, Data: object.data };
    const found = await api.find(`/${kind}s/${encodeURIComponent(name)}`);
    if (found === null) {
      out(`Creating ${kind} ${name}\n`);
      await saying(`failed to create ${kind} ${name}`, () => api.post(`/${kind}s/create`, spec));
      this.#done.push(`${kind} ${name}`);
      return;
    }
    const { ID, Version } = found as StoredObject;
    await saying(`failed to update ${kind} ${name}`, () =>
      api.post(`/${kind}s/${ID}/update`, spec, { version: Version.Index }),
    );
  }

  async #specsOf(services: readonly PlannedService[]): Promise<Map<string, ApiObject>> {
    const specs = new Map<string, ApiObject>();
    for (const service of services) {
      const ids: ObjectIds = {
        secrets: await this.#idsOf("secret", service.name, service.secrets),
        configs: await this.#idsOf("config", service.name, service.configs),
      };
      specs.set(service.name, service.spec(ids));
    }
    return specs;
  }

  async #idsOf(
    kind: ObjectKind,
    service: string,
    names: readonly string[],
  ): Promise<Map<string, string>> {
    if (names.length === 0) return new Map();
    const wanted = Object.fromEntries([...names].sort().map(name => [name, true]));
    const filters = JSON.stringify({ name: wanted });
    const found = (await this.#deps.api.get(`/${kind}s`, { filters })) as readonly StoredObject[];
    const ids = new Map(found.map(object => [object.Spec.Name, object.ID]));
    const missing = names.find(name => !ids.has(name));
    if (missing === undefined) return ids;
    throw composeError(`service ${service}: ${kind} not found: ${missing}`);
  }

  async #deployServices(specs: ReadonlyMap<string, ApiObject>): Promise<string[]> {
    const held = (await this.#deps.api.get("/services", this.#ofStack())) as ServiceObject[];
    const byName = new Map(held.map(service => [service.Spec.Name, service]));
    const ids: string[] = [];
    for (const [key, spec] of specs) {
      const name = scoped(this.#options.stack, key);
      const known = byName.get(name);
      ids.push(
        known === undefined
          ? await this.#createService(name, spec)
          : await this.#updateService(name, spec, known),
      );
      this.#done.push(`service ${name}`);
    }
    return ids;
  }

  async #createService(name: string, spec: ApiObject): Promise<string> {
    const { api, out, warn } = this.#deps;
    const image = imageOf(spec);
    const auth = await this.#deps.authOf(image);
    out(`Creating service ${name}\n`);
    const asks = this.#options.resolveImage !== "never";
    const { ready } = await this.#withImage(spec, image, asks, auth);
    const answer = dictOf(
      await saying(`failed to create service ${name}`, () =>
        api.post("/services/create", ready, {}, authHeader(auth)),
      ),
    );
    tellWarnings(answer["Warnings"], warn);
    return String(answer["ID"] ?? "");
  }

  async #updateService(name: string, spec: ApiObject, known: ServiceObject): Promise<string> {
    const { api, out, warn } = this.#deps;
    const image = imageOf(spec);
    const auth = await this.#deps.authOf(image);
    out(`Updating service ${name} (id: ${known.ID})\n`);
    const same = image === known.Spec.Labels?.[IMAGE_LABEL];
    const held = known.Spec.TaskTemplate?.ContainerSpec?.Image ?? "";
    const { resolveImage } = this.#options;
    const asks = resolveImage === "always" || (resolveImage === "changed" && !same);
    const wanted = same && !asks ? held : image;
    // A deployment does not force an update; the count of forced ones stays.
    const force = known.Spec.TaskTemplate?.ForceUpdate ?? 0;
    const forced = withTask(spec, { ForceUpdate: force });
    const { ready, warning } = await this.#withImage(forced, wanted, asks, auth);
    const query = { version: known.Version.Index };
    const answer = dictOf(
      await saying(`failed to update service ${name}`, () =>
        api.post(`/services/${known.ID}/update`, ready, query, authHeader(auth)),
      ),
    );
    tellWarnings(answer["Warnings"], warn);
    if (warning !== null) warn(warning);
    return known.ID;
  }

  /** Pins the image to its digest when a registry is to be asked and answers. */
  async #withImage(
    spec: ApiObject,
    image: string,
    asks: boolean,
    auth: string | null,
  ): Promise<{ readonly ready: ApiObject; readonly warning: string | null }> {
    const tagged = taggedImage(image);
    if (!asks) return { ready: withImage(spec, tagged), warning: null };
    let found: unknown = null;
    try {
      found = await this.#deps.api.find(`/distribution/${tagged}/json`, authHeader(auth));
    } catch (error) {
      // The registry is out of reach, or refuses; the nodes may yet have the image.
      if (!(error instanceof Error)) throw error;
    }
    if (found === null) return { ready: withImage(spec, tagged), warning: noDigest(tagged) };
    const digest = String(dictOf(dictOf(found)["Descriptor"])["digest"] ?? "");
    const pinned = hasDigest(tagged) || digest === "" ? tagged : `${tagged}@${digest}`;
    const platforms = platformsOf(dictOf(found)["Platforms"]);
    const ready = withImage(spec, pinned);
    if (platforms.length === 0) return { ready, warning: null };
    const placement = dictOf(dictOf(ready["TaskTemplate"])["Placement"]);
    return {
      ready: withTask(ready, { Placement: { ...placement, Platforms: platforms } }),
      warning: null,
    };
  }
}

async function saying<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw composeError(`${what}: ${error.message}`);
  }
}

function imageOf(spec: ApiObject): string {
  return String(dictOf(dictOf(spec["TaskTemplate"])["ContainerSpec"])["Image"] ?? "");
}

function withTask(spec: ApiObject, fields: ApiObject): ApiObject {
  return { ...spec, TaskTemplate: { ...dictOf(spec["TaskTemplate"]), ...fields } };
}

function withImage(spec: ApiObject, image: string): ApiObject {
  const container = dictOf(dictOf(spec["TaskTemplate"])["ContainerSpec"]);
  return withTask(spec, { ContainerSpec: { ...container, Image: image } });
}

function authHeader(auth: string | null): Readonly<Record<string, string>> {
  return auth === null ? {} : { "X-Registry-Auth": auth };
}

function tellWarnings(warnings: unknown, warn: (line: string) => void): void {
  for (const warning of Array.isArray(warnings) ? warnings : []) warn(String(warning));
}

/** "arm" stands for several kinds of processor, so it is no constraint. */
function platformsOf(said: unknown): ApiObject[] {
  return (Array.isArray(said) ? said : []).map(dictOf).map(platform => {
    const architecture = String(platform["architecture"] ?? "");
    return {
      ...(["", "arm"].includes(architecture.toLowerCase()) ? {} : { Architecture: architecture }),
      ...(typeof platform["os"] === "string" ? { OS: platform["os"] } : {}),
    };
  });
}

function noDigest(image: string): string {
  return (
    `image ${image} could not be accessed on a registry to record\nits digest. ` +
    `Each node will access ${image} independently,\npossibly leading to different nodes running ` +
    "different\nversions of the image.\n"
  );
}

/**
 * Makes the cluster's objects of a stack what the file says: networks, secrets and configs first,
 * then the services; objects of no file are left but for services with `prune`. A fault of the file
 * leaves everything as it was; when the daemon refuses something on the way, what was done is told.
 *
 * Resolves to the ids of the services. Throws in docker's words.
 */
export function deployStack(
  file: ComposeFile,
  options: DeployOptions,
  deps: DeployDeps,
): Promise<string[]> {
  return new Deployment(options, deps).run(file);
}
