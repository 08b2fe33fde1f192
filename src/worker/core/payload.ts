import { SwarmError } from "../../base/errors.ts";
import type { AssignedTask } from "../../model/assignment.ts";
import type { Config, Secret } from "../../model/rows.ts";
import { expandTemplate, type TemplateFunction, templateFailure } from "../../model/template.ts";
import { environmentOf, type NodeFacts, templateContext } from "./task-context.ts";

/** The one template driver there is, named after the language whose templates it reads. */
const DRIVER = "golang";

/** What the templates of a task's secrets and configs may ask for. */
export interface PayloadContext {
  readonly assigned: AssignedTask;
  readonly node: NodeFacts;
  /** Raw data of the task's own secrets and configs by the name of their file. */
  readonly secrets: ReadonlyMap<string, Uint8Array>;
  readonly configs: ReadonlyMap<string, Uint8Array>;
}

/**
 * The data of a secret or config as the task sees it. One with a template driver is evaluated with
 * the task's own context and the functions `env`, `secret` and `config` (SwarmKit
 * template/context.go PayloadContext); what those give is not evaluated again. Throws
 * invalid_argument.
 */
export function expandPayload(
  spec: Secret["spec"] | Config["spec"],
  data: Uint8Array,
  context: PayloadContext,
): Uint8Array {
  const driver = spec.Templating?.Name ?? "";
  if (driver === "") return data;
  if (driver !== DRIVER) {
    throw new SwarmError("invalid_argument", `unrecognized template driver: ${driver}`);
  }
  const text = new TextDecoder().decode(data);
  const expanded = expandTemplate(text, templateContext(context), functionsOf(context));
  return new TextEncoder().encode(expanded);
}

function functionsOf(context: PayloadContext): ReadonlyMap<string, TemplateFunction> {
  return new Map([
    ["env", lookup(name => environmentOf(context).get(name) ?? "")],
    ["secret", lookup(name => textOf(context.secrets, "secret", name))],
    ["config", lookup(name => textOf(context.configs, "config", name))],
  ]);
}

function lookup(find: (name: string) => string): TemplateFunction {
  return (args, body) => {
    const [name] = args;
    if (args.length !== 1 || typeof name !== "string") {
      throw templateFailure(body, "needs one name");
    }
    return find(name);
  };
}

function textOf(files: ReadonlyMap<string, Uint8Array>, kind: string, name: string): string {
  const data = files.get(name);
  if (data !== undefined) return new TextDecoder().decode(data);
  throw new SwarmError("invalid_argument", `${kind} target ${name} not found`);
}
