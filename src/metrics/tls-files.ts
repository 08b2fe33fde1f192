import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";

export interface MetricsTls {
  /** Paths of PEM files. */
  readonly cert: string;
  readonly key: string;
  /** Clients must have a certificate of one of these authorities. */
  readonly clientCa: string;
}

/** What the files held. */
export interface TlsContents {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

type Name = keyof TlsContents;

const FLAGS: Readonly<Record<Name, string>> = {
  cert: "http-cert",
  key: "http-key",
  ca: "http-client-ca",
};

/** The files of a server's certificate, which others may replace at any time. */
export class TlsFiles {
  readonly #paths: Readonly<Record<Name, string>>;
  readonly #logger: Logger;
  #inUse: TlsContents;
  /** The fault that was told last; empty when there is none. */
  #told = "";

  /** Throws invalid_argument when a file cannot be read or the three do not make a context. */
  constructor({ cert, key, clientCa }: MetricsTls, deps: { readonly logger: Logger }) {
    this.#paths = { cert, key, ca: clientCa };
    this.#logger = deps.logger;
    this.#inUse = {
      cert: readPem("cert", cert),
      key: readPem("key", key),
      ca: readPem("ca", clientCa),
    };
    try {
      createSecureContext(this.#inUse);
    } catch (error) {
      const flags = Object.values(FLAGS).map(flag => `--${flag}`);
      throw new SwarmError("invalid_argument", `${flags.join(", ")}: ${errorMessage(error)}`);
    }
  }

  get inUse(): TlsContents {
    return this.#inUse;
  }

  /**
   * What the files hold now when that is something else, and makes a context; else null. A file that
   * is being written, or does not fit the others yet, is told of once and tried again next time.
   */
  async changed(): Promise<TlsContents | null> {
    try {
      const [cert, key, ca] = await Promise.all([
        readFile(this.#paths.cert, "utf8"),
        readFile(this.#paths.key, "utf8"),
        readFile(this.#paths.ca, "utf8"),
      ]);
      const { inUse } = this;
      if (cert === inUse.cert && key === inUse.key && ca === inUse.ca) return null;
      const contents = { cert, key, ca };
      createSecureContext(contents);
      this.#inUse = contents;
      this.#told = "";
      this.#logger.info("the certificate of metrics was read again", { path: this.#paths.cert });
      return contents;
    } catch (error) {
      this.#tell(errorMessage(error));
      return null;
    }
  }

  #tell(fault: string): void {
    if (fault === this.#told) return;
    this.#told = fault;
    this.#logger.warn("a new certificate of metrics cannot be used; the old one stays", {
      error: fault,
    });
  }
}

function readPem(name: Name, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new SwarmError("invalid_argument", `--${FLAGS[name]}: ${errorMessage(error)}`);
  }
}
