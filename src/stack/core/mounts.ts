import { type ApiObject, mapping, omitEmpty } from "./api-object.ts";
import { type Dict, dictOf } from "./dict.ts";
import { composeError, quoted } from "./errors.ts";
import { volumeOf } from "./model.ts";
import { scoped, stackLabels } from "./names.ts";
import type { ServiceVolume } from "./volume-spec.ts";

/** Mounts of a service out of its volumes and the file's. */
export interface MountContext {
  readonly stack: string;
  readonly volumes: Readonly<Record<string, Dict>>;
}

type Options = "volume" | "image" | "bind" | "tmpfs" | "cluster";
type MountType = Options | "npipe";

/** Which options a type of mount refuses, in the order in which docker looks at them. */
const REFUSED: Readonly<Record<MountType, readonly Options[]>> = {
  volume: ["image", "tmpfs", "bind", "cluster"],
  image: ["volume", "bind", "tmpfs", "cluster"],
  bind: ["volume", "image", "tmpfs", "cluster"],
  tmpfs: ["bind", "volume", "image", "cluster"],
  npipe: ["volume", "image", "tmpfs"],
  cluster: ["tmpfs", "bind", "volume"],
};

function isMountType(type: string): type is MountType {
  return Object.hasOwn(REFUSED, type);
}

function refuseOthers(type: MountType, volume: ServiceVolume): void {
  for (const options of REFUSED[type]) {
    if (volume[options] === undefined) continue;
    const word = options === "image" && type === "volume" ? "images" : options;
    throw composeError(`${word} options are incompatible with type ${type}`);
  }
}

function needSource(type: MountType, source: string): void {
  if (source === "") throw composeError(`invalid ${type} source, source cannot be empty`);
}

function baseOf(volume: ServiceVolume, source: string): ApiObject {
  return omitEmpty({
    Type: volume.type,
    Source: source,
    Target: volume.target,
    ReadOnly: volume.read_only,
    Consistency: volume.consistency,
  });
}

function namedVolume(volume: ServiceVolume, source: string, context: MountContext): ApiObject {
  const stored = context.volumes[source];
  if (stored === undefined) throw composeError(`undefined volume ${quoted(source)}`);
  const { name = "", external, labels, driver = "", driver_opts: opts } = volumeOf(dictOf(stored));
  const own = { NoCopy: volume.volume?.nocopy, Subpath: volume.volume?.subpath };
  const hasDriver = driver !== "" || opts !== undefined;
  const made = {
    Labels: stackLabels(context.stack, labels),
    DriverConfig: hasDriver ? omitEmpty({ Name: driver, Options: mapping(opts) }) : undefined,
  };
  return {
    ...baseOf(volume, name === "" ? scoped(context.stack, source) : name),
    VolumeOptions: omitEmpty(external === true ? own : { ...own, ...made }),
  };
}

function clusterVolume(volume: ServiceVolume, source: string, context: MountContext): ApiObject {
  let name = source;
  if (!source.startsWith("group:")) {
    const stored = context.volumes[source];
    if (stored === undefined) throw composeError(`undefined volume ${quoted(source)}`);
    const { name: own = "" } = volumeOf(dictOf(stored));
    name = own === "" ? scoped(context.stack, source) : own;
  }
  return { ...baseOf(volume, name), ClusterOptions: {} };
}

function withBind(volume: ServiceVolume, source: string): ApiObject {
  const { bind } = volume;
  const options = bind && { BindOptions: omitEmpty({ Propagation: bind.propagation }) };
  return { ...baseOf(volume, source), ...options };
}

type Maker = (volume: ServiceVolume, source: string, context: MountContext) => ApiObject;

const MAKERS: Readonly<Record<MountType, Maker>> = {
  volume: (volume, source, context) =>
    source === "" ? baseOf(volume, "") : namedVolume(volume, source, context),
  image: (volume, source) => {
    const { image } = volume;
    const options = image && { ImageOptions: omitEmpty({ Subpath: image.subpath }) };
    return { ...baseOf(volume, source), ...options };
  },
  bind: withBind,
  npipe: withBind,
  tmpfs: (volume, source) => {
    if (source !== "") throw composeError("invalid tmpfs source, source must be empty");
    const { tmpfs } = volume;
    const options = tmpfs && { TmpfsOptions: omitEmpty({ SizeBytes: tmpfs.size }) };
    return { ...baseOf(volume, ""), ...options };
  },
  cluster: clusterVolume,
};

/** Throws in docker's words when the options do not fit the type or the volume is not defined. */
export function convertMount(volume: ServiceVolume, context: MountContext): ApiObject {
  const type = volume.type === undefined || volume.type === "" ? "volume" : volume.type;
  if (!isMountType(type)) {
    throw composeError("volume type must be volume, bind, tmpfs, npipe, or cluster");
  }
  const { source = "" } = volume;
  if (["image", "bind", "npipe", "cluster"].includes(type)) needSource(type, source);
  if (type === "tmpfs" && source !== "") return MAKERS.tmpfs(volume, source, context);
  refuseOthers(type, volume);
  return MAKERS[type](volume, source, context);
}
