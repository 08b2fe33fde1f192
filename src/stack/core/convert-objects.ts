import { type ApiObject, mapping, omitEmpty } from "./api-object.ts";
import { byText, type Dict, dictOf } from "./dict.ts";
import { type ComposeFile, fileObjectOf, networkOf } from "./model.ts";
import { DEFAULT_NETWORK, scoped, stackLabels } from "./names.ts";

const DEFAULT_DRIVER = "overlay";

export interface PlannedNetworks {
  /** To be made, by name in the cluster. */
  readonly own: ReadonlyMap<string, ApiObject>;
  /** Names that must exist already. */
  readonly external: readonly string[];
}

function usedNetworks(file: ComposeFile): string[] {
  const used = Object.values(file.services).flatMap(service => {
    const names = Object.keys(dictOf(service["networks"]));
    return names.length === 0 ? [DEFAULT_NETWORK] : names;
  });
  return [...new Set(used)].sort(byText);
}

function networkRequest(name: string, stack: string, dict: Dict): ApiObject {
  const said = networkOf(dict);
  const { driver = "", ipam } = said;
  const pools = (ipam?.config ?? []).map(({ subnet }) => omitEmpty({ Subnet: subnet }));
  const hasIpam = (ipam?.driver ?? "") !== "" || pools.length > 0;
  return {
    Name: name,
    CheckDuplicate: true,
    Driver: driver === "" ? DEFAULT_DRIVER : driver,
    Scope: "",
    IPAM: hasIpam
      ? { Driver: ipam?.driver ?? "", Options: null, Config: pools.length > 0 ? pools : null }
      : null,
    Internal: said.internal ?? false,
    Attachable: said.attachable ?? false,
    Ingress: false,
    ConfigOnly: false,
    ConfigFrom: null,
    Options: said.driver_opts ?? null,
    Labels: stackLabels(stack, said.labels),
  };
}

/** The networks that services use; others of the file are not made. */
export function planNetworks(stack: string, file: ComposeFile): PlannedNetworks {
  const own = new Map<string, ApiObject>();
  const external: string[] = [];
  for (const key of usedNetworks(file)) {
    const dict = dictOf(file.networks[key]);
    const said = networkOf(dict);
    const { name = "" } = said;
    if (said.external === true) external.push(name);
    else {
      const full = name === "" ? scoped(stack, key) : name;
      own.set(full, networkRequest(full, stack, dict));
    }
  }
  return { own, external };
}

/** A secret or config to be made or updated; its contents are read by the caller. */
export interface PlannedObject {
  readonly name: string;
  /** Null when the contents come from elsewhere: a driver. */
  readonly path: string | null;
  /** All but the contents. */
  readonly spec: ApiObject;
}

/** Throws nothing: what is wrong with an object shows when its file is read. */
export function planObjects(
  stack: string,
  kind: "secret" | "config",
  objects: Readonly<Record<string, Dict>>,
): PlannedObject[] {
  const planned: PlannedObject[] = [];
  for (const [key, dict] of Object.entries(objects).sort(([a], [b]) => byText(a, b))) {
    const said = fileObjectOf(dict);
    if (said.external === true) continue;
    const { name: own = "", driver = "", template_driver: template = "" } = said;
    const byDriver = kind === "secret" && driver !== "";
    const name = own === "" ? scoped(stack, key) : own;
    const driverSpec = omitEmpty({ Name: driver, Options: mapping(said.driver_opts) });
    planned.push({
      name,
      path: byDriver ? null : (said.file ?? ""),
      spec: {
        Name: name,
        Labels: stackLabels(stack, said.labels),
        ...(byDriver ? { Driver: driverSpec } : {}),
        ...(template === "" ? {} : { Templating: { Name: template } }),
      },
    });
  }
  return planned;
}
