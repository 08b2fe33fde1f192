import { composeError } from "./errors.ts";

/** A service's volume in its long form. */
export interface ServiceVolume {
  readonly type?: string;
  readonly source?: string;
  readonly target?: string;
  readonly read_only?: boolean;
  readonly consistency?: string;
  readonly bind?: { readonly propagation?: string };
  readonly volume?: { readonly nocopy?: boolean; readonly subpath?: string };
  readonly image?: { readonly subpath?: string };
  readonly tmpfs?: { readonly size?: number };
  readonly cluster?: Readonly<Record<string, never>>;
}

type Draft = { -readonly [K in keyof ServiceVolume]: ServiceVolume[K] };

const PROPAGATIONS: ReadonlySet<string> = new Set([
  "rprivate",
  "private",
  "rshared",
  "shared",
  "rslave",
  "slave",
]);
const DRIVE = /^\p{L}$/u;

/** Reads [SOURCE:]TARGET[:OPTIONS]. Throws in docker's words. */
export function parseVolume(spec: string): ServiceVolume {
  if (spec === "") throw composeError("invalid empty volume spec");
  if (spec.length <= 2) return { type: "volume", target: spec };
  const volume: Draft = {};
  const sections = sectionsOf(spec);
  sections.forEach((section, i) => {
    fill(volume, section, i === sections.length - 1, spec);
  });
  volume.type = typeOf(volume.source ?? "");
  return volume;
}

/** Sections between colons; the colon of a Windows drive is none. */
function sectionsOf(spec: string): string[] {
  const sections: string[] = [];
  let section = "";
  for (const char of spec) {
    if (char === ":" && !DRIVE.test(section)) {
      sections.push(section);
      section = "";
    } else section += char;
  }
  return [...sections, section];
}

function fill(volume: Draft, section: string, isLast: boolean, spec: string): void {
  if (section === "") {
    throw composeError(`invalid spec: ${spec}: empty section between colons`);
  }
  if (volume.source === undefined && isLast) volume.target = section;
  else if (volume.source === undefined) volume.source = section;
  else if (volume.target === undefined) volume.target = section;
  else if (!isLast) throw composeError(`invalid spec: ${spec}: too many colons`);
  else for (const option of section.split(",")) applyOption(volume, option);
}

/** Options that docker does not know it passes over, and so do we. */
function applyOption(volume: Draft, option: string): void {
  if (option === "ro") volume.read_only = true;
  else if (option === "rw") volume.read_only = false;
  else if (option === "nocopy") volume.volume = { nocopy: true };
  else if (PROPAGATIONS.has(option)) volume.bind = { propagation: option };
}

function typeOf(source: string): string {
  const isPath = /^[./~]/.test(source) || /^\\\\/.test(source) || /^\p{L}:/u.test(source);
  return isPath ? "bind" : "volume";
}
