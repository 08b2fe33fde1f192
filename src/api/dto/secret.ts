import type { Config, Secret } from "../../model/rows.ts";
import { metaDto, optional } from "./common.ts";
import { asGoJson } from "./spec.ts";

/** Docker's `Secret`; the data never leaves. */
export function secretDto(secret: Secret): object {
  const { Name, Labels, Driver, Templating } = secret.spec;
  return {
    ...metaDto(secret),
    Spec: {
      Name,
      Labels: Labels ?? {},
      ...optional("Driver", Driver && asGoJson(Driver)),
      ...optional("Templating", Templating && asGoJson(Templating)),
    },
  };
}

/** Docker's `Config`. */
export function configDto(config: Config): object {
  const { Name, Labels, Data, Templating } = config.spec;
  return {
    ...metaDto(config),
    Spec: {
      Name,
      Labels: Labels ?? {},
      ...optional("Data", Data),
      ...optional("Templating", Templating && asGoJson(Templating)),
    },
  };
}
