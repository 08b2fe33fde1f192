import { type Rng, randomFloat, randomInt } from "../../../src/base/rng.ts";
import { pickOne } from "./fault-plan.ts";
import type { Availability, ObjectKind, ServiceShape } from "./history.ts";

/** What clients ask for next: a weighted choice of what makes sense, within bounds. */

/** An object as its client believes it to be. */
export interface KnownObject {
  readonly key: string;
  readonly kind: ObjectKind;
  readonly name: string;
  /** Empty while it is not known to exist. */
  readonly id: string;
  /** `maybe`: a write of unknown outcome decides. */
  readonly exists: "yes" | "no" | "maybe";
  /** Somebody is at work on it. */
  readonly busy: boolean;
  /** Services only. */
  readonly shape: ServiceShape | null;
  /** Nodes only; `active` for others. */
  readonly availability: Availability;
}

export type Intent =
  | { readonly do: "create"; readonly kind: "service"; readonly shape: ServiceShape }
  | { readonly do: "create"; readonly kind: "secret" | "config" }
  /** A new label only: nothing may be restarted for it. */
  | { readonly do: "relabel"; readonly key: string }
  /** Two updates of one version at once: one of them at most is granted. */
  | { readonly do: "race"; readonly key: string }
  | { readonly do: "scale"; readonly key: string; readonly replicas: number }
  | { readonly do: "image"; readonly key: string; readonly image: string }
  /** The same image again: every container is replaced. */
  | { readonly do: "force"; readonly key: string }
  | { readonly do: "remove"; readonly key: string }
  | { readonly do: "drain" | "activate"; readonly key: string }
  /** Look what became of a write of unknown outcome. */
  | { readonly do: "settle"; readonly key: string };

export const MAX_SERVICES = 6;
export const MAX_REPLICAS_EACH = 4;
export const MAX_REPLICAS_TOTAL = 14;
export const MAX_SMALL_OBJECTS = 8;
/** Fewer than this and services are made rather than removed. */
const FEW_SERVICES = 3;

export const IMAGES = ["swarmd/app:1", "swarmd/app:2", "swarmd/app:3"] as const;

interface Choice {
  readonly weight: number;
  readonly intent: Intent;
}

export function nextIntent(rng: Rng, objects: readonly KnownObject[]): Intent | null {
  const choices = [
    ...serviceCreation(rng, objects),
    ...serviceChanges(rng, objects),
    ...smallObjects(rng, objects),
    ...nodeChanges(rng, objects),
    ...openQuestions(rng, objects),
  ];
  return weighted(rng, choices);
}

function weighted(rng: Rng, choices: readonly Choice[]): Intent | null {
  const total = choices.reduce((sum, { weight }) => sum + weight, 0);
  let at = randomFloat(rng) * total;
  for (const { weight, intent } of choices) {
    at -= weight;
    if (at < 0) return intent;
  }
  return null;
}

function present(objects: readonly KnownObject[], kind: ObjectKind): readonly KnownObject[] {
  return objects.filter(object => object.kind === kind && object.exists !== "no");
}

function settled(objects: readonly KnownObject[], kind: ObjectKind): readonly KnownObject[] {
  return objects.filter(o => o.kind === kind && o.exists === "yes" && !o.busy);
}

function replicasOf(objects: readonly KnownObject[]): number {
  return present(objects, "service").reduce((sum, { shape }) => sum + (shape?.replicas ?? 0), 0);
}

function serviceCreation(rng: Rng, objects: readonly KnownObject[]): readonly Choice[] {
  const services = present(objects, "service");
  if (services.length >= MAX_SERVICES) return [];
  const shape = newShape(rng, objects);
  if (replicasOf(objects) + shape.replicas > MAX_REPLICAS_TOTAL) return [];
  const weight = services.length < FEW_SERVICES ? 12 : 3;
  return [{ weight, intent: { do: "create", kind: "service", shape } }];
}

function newShape(rng: Rng, objects: readonly KnownObject[]): ServiceShape {
  const modes = new Set(present(objects, "service").map(({ shape }) => shape?.mode));
  const odd = randomInt(rng, 4);
  const mode = odd === 0 && !modes.has("global") ? "global" : "replicated";
  const mortal = odd === 1 && !modes.has("mortal");
  const secret = randomInt(rng, 3) === 0 ? pickOne(rng, settled(objects, "secret")) : null;
  return {
    image: pickOne(rng, IMAGES) ?? IMAGES[0],
    generation: 0,
    mode: mortal ? "mortal" : mode,
    replicas: mode === "global" ? 0 : mortal ? 1 : 1 + randomInt(rng, MAX_REPLICAS_EACH),
    workersOnly: randomInt(rng, 4) === 0,
    order: randomInt(rng, 2) === 0 ? "start-first" : "stop-first",
    restart: randomInt(rng, 3) === 0 && !mortal ? "on-failure" : "any",
    secretId: secret?.id ?? "",
    secretName: secret?.name ?? "",
  };
}

function serviceChanges(rng: Rng, objects: readonly KnownObject[]): readonly Choice[] {
  const service = pickOne(rng, settled(objects, "service"));
  if (service === null || service.shape === null) return [];
  const { key, shape } = service;
  const image = pickOne(
    rng,
    IMAGES.filter(other => other !== shape.image),
  );
  const choices: Choice[] = [
    { weight: 4, intent: { do: "image", key, image: image ?? shape.image } },
    { weight: 1.5, intent: { do: "force", key } },
    { weight: 1.5, intent: { do: "relabel", key } },
  ];
  const replicas = randomInt(rng, MAX_REPLICAS_EACH + 1);
  const fits = replicasOf(objects) - shape.replicas + replicas <= MAX_REPLICAS_TOTAL;
  if (shape.mode === "replicated" && replicas !== shape.replicas && fits) {
    choices.push({ weight: 5, intent: { do: "scale", key, replicas } });
  }
  if (present(objects, "service").length > FEW_SERVICES) {
    choices.push({ weight: 2.5, intent: { do: "remove", key } });
  }
  return choices;
}

function openQuestions(rng: Rng, objects: readonly KnownObject[]): readonly Choice[] {
  const open = objects.filter(object => object.exists === "maybe" && !object.busy);
  const one = pickOne(rng, open);
  return one === null ? [] : [{ weight: 2, intent: { do: "settle", key: one.key } }];
}

function smallObjects(rng: Rng, objects: readonly KnownObject[]): readonly Choice[] {
  const choices: Choice[] = [];
  for (const kind of ["secret", "config"] as const) {
    const there = present(objects, kind).length;
    if (there < MAX_SMALL_OBJECTS) {
      choices.push({ weight: there === 0 ? 4 : 1.5, intent: { do: "create", kind } });
    }
    const one = pickOne(rng, settled(objects, kind));
    if (one === null) continue;
    choices.push({ weight: 0.5, intent: { do: "relabel", key: one.key } });
    choices.push({ weight: 0.7, intent: { do: "race", key: one.key } });
    if (there > 1) choices.push({ weight: 1, intent: { do: "remove", key: one.key } });
  }
  return choices;
}

/** At most one node is drained at a time, and not for long. */
function nodeChanges(rng: Rng, objects: readonly KnownObject[]): readonly Choice[] {
  const nodes = objects.filter(object => object.kind === "node");
  const drained = nodes.find(node => node.availability === "drain");
  if (drained !== undefined && !drained.busy) {
    return [{ weight: 3, intent: { do: "activate", key: drained.key } }];
  }
  const node = pickOne(rng, settled(objects, "node"));
  if (node === null) return [];
  const choices: Choice[] = [{ weight: 1.5, intent: { do: "relabel", key: node.key } }];
  const quiet = drained === undefined && nodes.every(one => !one.busy);
  if (quiet) choices.push({ weight: 0.7, intent: { do: "drain", key: node.key } });
  return choices;
}
