import { isSwarmError } from "../../base/errors.ts";
import { parseImageReference } from "../../model/reference.ts";
import { composeError } from "./errors.ts";

/** The labels by which the docker command line tells a stack's objects. */
export const NAMESPACE_LABEL = "com.docker.stack.namespace";
export const IMAGE_LABEL = "com.docker.stack.image";
export const DEFAULT_NETWORK = "default";

/** `name` within the stack: STACK_NAME. */
export function scoped(stack: string, name: string): string {
  return `${stack}_${name}`;
}

/** `name` as the file says it, of an object of the stack. */
export function unscoped(stack: string, name: string): string {
  const prefix = `${stack}_`;
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

export function stackLabels(
  stack: string,
  own: Readonly<Record<string, string>> = {},
): Record<string, string> {
  return { ...own, [NAMESPACE_LABEL]: stack };
}

export function checkStackName(stack: string): void {
  if (stack.replace(/^[\s"']+/, "") === "") {
    throw composeError(`invalid stack name: ${JSON.stringify(stack)}`);
  }
}

/** Networks that every Engine has by itself; they know no aliases. */
export function isBuiltInNetwork(name: string): boolean {
  return ["default", "bridge", "host", "none"].includes(name) || name.startsWith("container:");
}

export function checkImage(service: string, image: string): void {
  const where = `invalid image reference for service ${service}`;
  if (image === "") throw composeError(`${where}: no image specified`);
  // Docker takes an image's id here.
  if (/^[a-f0-9]{64}$/.test(image)) return;
  try {
    parseImageReference(image);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    throw composeError(`${where}: ${error.message}`);
  }
}

/** The image in its short form and with a tag; as it is when it is no reference. */
export function taggedImage(image: string): string {
  try {
    const { domain, path, tag, digest } = parseImageReference(image);
    const hub = domain === "docker.io";
    const short = hub ? path.replace(/^library\/(?=[^/]+$)/, "") : `${domain}/${path}`;
    const withTag = tag === "" && digest === "" ? `${short}:latest` : short + suffix(":", tag);
    return withTag + suffix("@", digest);
  } catch (error) {
    if (isSwarmError(error)) return image;
    throw error;
  }
}

function suffix(mark: string, text: string): string {
  return text === "" ? "" : mark + text;
}

export function hasDigest(image: string): boolean {
  return image.includes("@");
}
