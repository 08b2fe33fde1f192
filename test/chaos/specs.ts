import type { ServiceAnswer } from "./api.ts";
import { GENERATION_LABEL } from "./core/container-log.ts";
import type { ServiceShape } from "./core/history.ts";

/** Between what the run means and what the API is told. */

/** Carries the value of the last write of an object. */
export const WRITE_LABEL = "chaos.write";
const MODE_LABEL = "chaos.mode";

const NS_PER_MS = 1_000_000;
const RESTART_DELAY_MS = 500;
const STOP_GRACE_MS = 5_000;
const MONITOR_MS = 500;
/** Lives for a while and fails. */
const MORTAL = ["sh", "-c", "trap 'exit 0' TERM; sleep 25 & wait $!; exit 3"];

export function serviceSpec(name: string, value: string, shape: ServiceShape): object {
  const { mode, replicas, image, order, restart, workersOnly } = shape;
  return {
    Name: name,
    Labels: { [WRITE_LABEL]: value, [MODE_LABEL]: mode },
    TaskTemplate: {
      ContainerSpec: {
        Image: image,
        Labels: { [GENERATION_LABEL]: String(shape.generation) },
        StopGracePeriod: STOP_GRACE_MS * NS_PER_MS,
        ...(mode === "mortal" ? { Command: MORTAL } : {}),
        ...(shape.secretId === "" ? {} : { Secrets: [secretReference(shape)] }),
      },
      RestartPolicy: { Condition: restart, Delay: RESTART_DELAY_MS * NS_PER_MS },
      ...(workersOnly ? { Placement: { Constraints: ["node.role==worker"] } } : {}),
    },
    Mode: mode === "global" ? { Global: {} } : { Replicated: { Replicas: replicas } },
    UpdateConfig: {
      Parallelism: 1,
      Monitor: MONITOR_MS * NS_PER_MS,
      FailureAction: "continue",
      Order: order,
    },
  };
}

function secretReference({ secretId, secretName }: ServiceShape): object {
  const file = { Name: secretName, UID: "0", GID: "0", Mode: 0o444 };
  return { SecretID: secretId, SecretName: secretName, File: file };
}

/** What must be as it was written; in the order of `expectedShape`. */
export function shapeSeen(service: ServiceAnswer): string {
  const { Image, Labels } = service.Spec.TaskTemplate.ContainerSpec;
  const replicas = service.Spec.Mode.Replicated?.Replicas ?? 0;
  const generation = Labels?.[GENERATION_LABEL] ?? "none";
  return `${Image}, generation ${generation}, ${replicas} replicas`;
}

export function shapeExpected({ image, generation, replicas }: ServiceShape): string {
  return `${image}, generation ${generation}, ${replicas} replicas`;
}

export function modeSeen(service: ServiceAnswer): ServiceShape["mode"] {
  const mode = service.Spec.Labels?.[MODE_LABEL];
  return mode === "global" || mode === "mortal" ? mode : "replicated";
}
