import { errorMessage } from "../base/errors.ts";
import type { Mount, ServiceSpec } from "./service-spec.ts";
import { expandTemplate, type TemplateValue } from "./template.ts";
import { goQuote, refusal } from "./validate-errors.ts";

/**
 * Fills the placeholders of a spec as a node would, so that one which no node could fill is refused
 * in the words the task would fail with (SwarmKit template.ExpandContainerSpec). Throws
 * invalid_argument.
 */
export function validateTemplates(spec: ServiceSpec): void {
  const container = spec.TaskTemplate?.ContainerSpec ?? {};
  const expand = expander(spec);
  const { Hostname: hostname = "", Env: env = [], Mounts: mounts = [] } = container;
  wrapped("expanding hostname failed", () => expand(hostname));
  wrapped("expanding env failed", () => {
    for (const entry of env) wrapped(`expanding env ${goQuote(entry)}`, () => expand(entry));
  });
  wrapped("expanding mounts failed", () => {
    for (const mount of mounts) checkMount(mount, expand);
  });
}

type Expand = (text: string) => string;

function expander({ Name = "", Labels = {} }: ServiceSpec): Expand {
  const context: TemplateValue = {
    Service: { ID: "serviceid", Name, Labels },
    Node: { ID: "nodeid", Hostname: "hostname", Platform: { OS: "os", Architecture: "arch" } },
    Task: { ID: "taskid", Name: "taskname", Slot: "1" },
  };
  return text => expandTemplate(text, context);
}

function checkMount(mount: Mount, expand: Expand): void {
  const { Source: source = "", Target: target = "", VolumeOptions: volume } = mount;
  wrapped(`expanding mount target ${goQuote(target)}`, () => expand(target));
  wrapped(`expanding mount source ${goQuote(source)}`, () => expand(source));
  for (const [key, value] of Object.entries(volume?.Labels ?? {})) {
    wrapped(`expanding volume label ${goQuote(key)}`, () => expand(value));
  }
  for (const [key, value] of Object.entries(volume?.DriverConfig?.Options ?? {})) {
    wrapped(`expanding volume driver option ${goQuote(key)}`, () => expand(value));
  }
}

function wrapped(what: string, work: () => unknown): void {
  try {
    work();
  } catch (error) {
    throw refusal(`${what}: ${errorMessage(error)}`);
  }
}
