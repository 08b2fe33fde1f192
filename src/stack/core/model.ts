import type { Dict } from "./dict.ts";
import type { ServicePort } from "./ports.ts";
import type { ServiceVolume } from "./volume-spec.ts";

/**
 * A loaded compose file: every value in its long form, under its key (shapes.ts). Times are
 * nanoseconds, sizes bytes. `extras` are the user's own keys, x-….
 */
export interface ComposeFile {
  readonly version: string;
  readonly services: Readonly<Record<string, Dict>>;
  readonly networks: Readonly<Record<string, Dict>>;
  readonly volumes: Readonly<Record<string, Dict>>;
  readonly secrets: Readonly<Record<string, Dict>>;
  readonly configs: Readonly<Record<string, Dict>>;
  readonly extras: Dict;
}

type Texts = readonly string[];
type TextMap = Readonly<Record<string, string>>;

export interface UpdateSettings {
  readonly parallelism?: number;
  readonly delay?: number;
  readonly failure_action?: string;
  readonly monitor?: number;
  readonly max_failure_ratio?: number;
  readonly order?: string;
}

export interface ReservedResources {
  readonly cpus?: string;
  readonly memory?: number;
  readonly pids?: number;
  readonly generic_resources?: readonly {
    readonly discrete_resource_spec?: { readonly kind?: string; readonly value?: number };
  }[];
}

export interface RestartSettings {
  readonly condition?: string;
  readonly delay?: number;
  readonly max_attempts?: number;
  readonly window?: number;
}

export interface DeploySettings {
  readonly mode?: string;
  readonly replicas?: number;
  readonly labels?: TextMap;
  readonly update_config?: UpdateSettings;
  readonly rollback_config?: UpdateSettings;
  readonly resources?: {
    readonly limits?: ReservedResources;
    readonly reservations?: ReservedResources;
  };
  readonly restart_policy?: RestartSettings;
  readonly placement?: {
    readonly constraints?: Texts;
    readonly preferences?: readonly { readonly spread?: string }[];
    readonly max_replicas_per_node?: number;
  };
  readonly endpoint_mode?: string;
}

export interface FileReference {
  readonly source?: string;
  readonly target?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly mode?: number;
}

export interface HealthSettings {
  readonly test?: Texts;
  readonly timeout?: number;
  readonly interval?: number;
  readonly retries?: number;
  readonly start_period?: number;
  readonly start_interval?: number;
  readonly disable?: boolean;
}

export interface CredentialSettings {
  readonly config?: string;
  readonly file?: string;
  readonly registry?: string;
}

export type UlimitSetting = number | { readonly soft?: number; readonly hard?: number };

/** A service as the conversion reads it. */
export interface ComposeService {
  readonly cap_add?: Texts;
  readonly cap_drop?: Texts;
  readonly command?: Texts;
  readonly configs?: readonly FileReference[];
  readonly credential_spec?: CredentialSettings;
  readonly deploy?: DeploySettings;
  readonly dns?: Texts;
  readonly dns_search?: Texts;
  readonly entrypoint?: Texts;
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly extra_hosts?: Texts;
  readonly hostname?: string;
  readonly healthcheck?: HealthSettings;
  readonly image?: string;
  readonly init?: boolean;
  readonly isolation?: string;
  readonly labels?: TextMap;
  readonly logging?: { readonly driver?: string; readonly options?: TextMap };
  readonly networks?: Readonly<
    Record<string, { readonly aliases?: Texts; readonly driver_opts?: TextMap } | null>
  >;
  readonly ports?: readonly ServicePort[];
  readonly read_only?: boolean;
  readonly restart?: string;
  readonly secrets?: readonly FileReference[];
  readonly stdin_open?: boolean;
  readonly stop_grace_period?: number;
  readonly stop_signal?: string;
  readonly sysctls?: TextMap;
  readonly tty?: boolean;
  readonly ulimits?: Readonly<Record<string, UlimitSetting>>;
  readonly user?: string;
  readonly oom_score_adj?: number;
  readonly volumes?: readonly ServiceVolume[];
  readonly working_dir?: string;
}

export interface ComposeNetwork {
  readonly name?: string;
  readonly driver?: string;
  readonly driver_opts?: TextMap;
  readonly ipam?: {
    readonly driver?: string;
    readonly config?: readonly { readonly subnet?: string }[];
  };
  readonly external?: boolean;
  readonly internal?: boolean;
  readonly attachable?: boolean;
  readonly labels?: TextMap;
}

export interface ComposeVolume {
  readonly name?: string;
  readonly driver?: string;
  readonly driver_opts?: TextMap;
  readonly external?: boolean;
  readonly labels?: TextMap;
}

export interface ComposeFileObject {
  readonly name?: string;
  readonly file?: string;
  readonly external?: boolean;
  readonly labels?: TextMap;
  readonly driver?: string;
  readonly driver_opts?: TextMap;
  readonly template_driver?: string;
}

/** The decoders make these of validated files; this is where their word is taken for it. */
export function serviceOf(dict: Dict): ComposeService {
  return dict as ComposeService;
}

export function networkOf(dict: Dict): ComposeNetwork {
  return dict as ComposeNetwork;
}

export function volumeOf(dict: Dict): ComposeVolume {
  return dict as ComposeVolume;
}

export function fileObjectOf(dict: Dict): ComposeFileObject {
  return dict as ComposeFileObject;
}
