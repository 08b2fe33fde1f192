import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseImageReference } from "../model/reference.ts";
import { dictOf } from "./core/dict.ts";
import { composeError } from "./core/errors.ts";

/** Where Docker Hub's credentials are kept under. */
const HUB_KEY = "https://index.docker.io/v1/";
const HELPER_TIMEOUT_MS = 30_000;
/** A helper says so when it has no credentials for a registry. */
const NO_CREDENTIALS = /credentials not found/;

/** Credentials as the X-Registry-Auth header has them (Docker API, "Authentication"). */
interface AuthConfig {
  readonly username?: string;
  readonly password?: string;
  readonly email?: string;
  readonly serveraddress?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
}

interface DockerConfig {
  readonly auths?: Readonly<Record<string, AuthConfig & { readonly auth?: string }>>;
  readonly credsStore?: string;
  readonly credHelpers?: Readonly<Record<string, string>>;
}

export interface RegistryAuthDeps {
  readonly environment: Readonly<Record<string, string | undefined>>;
}

function configOf({ environment }: RegistryAuthDeps): DockerConfig {
  const home = environment["HOME"] ?? "/root";
  const path = join(environment["DOCKER_CONFIG"] ?? join(home, ".docker"), "config.json");
  if (!existsSync(path)) return {};
  try {
    return dictOf(JSON.parse(readFileSync(path, "utf8"))) as DockerConfig;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw composeError(`cannot read the registry credentials in ${path}: ${why}`);
  }
}

function hostOf(address: string): string {
  return address.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}

function storedFor(key: string, config: DockerConfig): AuthConfig {
  const auths = Object.entries(config.auths ?? {});
  const [address, entry] =
    auths.find(([name]) => name === key) ?? auths.find(([name]) => hostOf(name) === key) ?? [];
  if (address === undefined || entry === undefined) return {};
  const { auth = "", ...rest } = entry;
  const [, username = "", password = ""] =
    /^([^:]*):(.*)$/s.exec(Buffer.from(auth, "base64").toString("utf8")) ?? [];
  const decoded = auth === "" ? {} : { username, password: password.replace(/\0+$/, "") };
  return { ...rest, ...decoded, serveraddress: address };
}

function askHelper(name: string, key: string, deps: RegistryAuthDeps): Promise<AuthConfig> {
  return new Promise((resolve, reject) => {
    const program = `docker-credential-${name}`;
    const child = execFile(
      program,
      ["get"],
      { timeout: HELPER_TIMEOUT_MS, env: deps.environment },
      (error, stdout, stderr) => {
        if (error !== null) {
          const said = `${stdout}${stderr}`.trim();
          if (NO_CREDENTIALS.test(said)) resolve({});
          else reject(composeError(`${program} failed: ${said === "" ? error.message : said}`));
          return;
        }
        const {
          Username = "",
          Secret = "",
          ServerURL = key,
        } = JSON.parse(stdout) as {
          Username?: string;
          Secret?: string;
          ServerURL?: string;
        };
        resolve(
          Username === "<token>"
            ? { identitytoken: Secret, serveraddress: ServerURL }
            : { username: Username, password: Secret, serveraddress: ServerURL },
        );
      },
    );
    child.stdin?.on("error", () => child.kill());
    child.stdin?.end(key);
  });
}

/**
 * The X-Registry-Auth header of an image's registry, out of docker's own configuration
 * ($DOCKER_CONFIG, ~/.docker/config.json) and its credential helpers; of nothing known, an empty one.
 */
export async function registryAuth(image: string, deps: RegistryAuthDeps): Promise<string> {
  const config = configOf(deps);
  const { domain } = parseImageReference(image);
  const key = domain === "docker.io" ? HUB_KEY : domain;
  const helper = config.credHelpers?.[key] ?? config.credsStore ?? "";
  const auth = helper === "" ? storedFor(key, config) : await askHelper(helper, key, deps);
  const said = Object.entries(auth).filter(([, value]) => value !== "");
  const text = JSON.stringify(Object.fromEntries(said));
  return Buffer.from(text).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}
