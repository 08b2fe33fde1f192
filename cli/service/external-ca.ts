import { readFileSync } from "node:fs";
import { CliError, EXIT_USAGE } from "../errors.ts";
import { csvPairs } from "./parse.ts";

/** Docker's `ExternalCA`. */
export interface ExternalCa {
  readonly Protocol: string;
  readonly URL: string;
  readonly Options: Readonly<Record<string, string>>;
  readonly CACert?: string;
}

/** `protocol=cfssl,url=https://…[,cacert=FILE][,option=value…]`, in Docker's words when it is not. */
export function parseExternalCa(text: string): ExternalCa {
  let protocol = "";
  let url = "";
  let cert = "";
  const options: Record<string, string> = {};
  for (const [name, value] of csvPairs(text)) {
    const key = name.toLowerCase();
    if (key === "protocol") protocol = knownProtocol(value);
    else if (key === "url") url = value;
    else if (key === "cacert") cert = readPem(value);
    else options[key] = value;
  }
  if (protocol === "") throw missing("protocol");
  if (url === "") throw missing("url");
  return {
    Protocol: protocol,
    URL: url,
    Options: options,
    ...(cert === "" ? {} : { CACert: cert }),
  };
}

function knownProtocol(value: string): string {
  if (value.toLowerCase() === "cfssl") return "cfssl";
  throw new CliError(`unrecognized external CA protocol ${value}`, EXIT_USAGE);
}

function missing(name: string): CliError {
  return new CliError(`the external-ca option needs a ${name}= parameter`, EXIT_USAGE);
}

/** The file of a certificate or key. */
export function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(`cannot read ${path}: ${why}`, EXIT_USAGE);
  }
}
