import type { ServiceSpec } from "../../model/service-spec.ts";

/**
 * The spec with credentials for its image (Docker's X-Registry-Auth header, base64). They are kept
 * in `ContainerSpec.PullOptions`, which no client may set or see.
 */
export function withRegistryAuth(spec: ServiceSpec, registryAuth: string): ServiceSpec {
  const template = spec.TaskTemplate;
  const container = template?.ContainerSpec;
  if (template === undefined || container === undefined) return spec;
  const { PullOptions: _, ...rest } = container;
  const options = registryAuth === "" ? {} : { PullOptions: { RegistryAuth: registryAuth } };
  return { ...spec, TaskTemplate: { ...template, ContainerSpec: { ...rest, ...options } } };
}

export function registryAuthOf(spec: ServiceSpec): string {
  return spec.TaskTemplate?.ContainerSpec?.PullOptions?.RegistryAuth ?? "";
}
