import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { RootCa } from "../../src/pki/ca.ts";

const run = promisify(execFile);
const CA_PROFILE = "CA";

export interface SignRequest {
  readonly hosts: readonly string[];
  readonly certificate_request: string;
  readonly subject: {
    readonly CN: string;
    readonly names: readonly { readonly O?: string; readonly OU?: string }[];
  };
  readonly profile: string;
}

/** What a test has the CA do instead of signing what was asked for. */
export interface Answer {
  readonly status: number;
  readonly body: string;
}

/**
 * An external CA as swarm mode knows them: CFSSL's `api/v1/cfssl/sign` over TLS with client
 * certificates, signing with OpenSSL. Its folder and its server go with `close`.
 */
export class CfsslStandIn {
  readonly requests: SignRequest[] = [];
  /** Subjects of the client certificates that were shown. */
  readonly clients: string[] = [];
  /** Null: signs. */
  answer: Answer | null = null;
  /** Changes what is signed; null: as asked for. */
  subject: string | null = null;
  readonly #dir: string;
  readonly #server: Server;
  readonly #onRequest: (request: SignRequest) => void;
  #serial = 1;

  private constructor(dir: string, server: Server, onRequest: (request: SignRequest) => void) {
    this.#onRequest = onRequest;
    this.#dir = dir;
    this.#server = server;
    server.on("request", (request, response) => {
      let text = "";
      request.setEncoding("utf8");
      request.on("data", (chunk: string) => {
        text += chunk;
      });
      request.on("end", () => {
        const peer = (
          request.socket as { getPeerCertificate?: () => { subject?: object } }
        ).getPeerCertificate?.().subject;
        this.clients.push(JSON.stringify(peer));
        void this.#sign(text).then(({ status, body }) => {
          response.writeHead(status, { "Content-Type": "application/json" });
          response.end(body);
        });
      });
    });
  }

  /**
   * `host`: the address it listens on, which its certificate names. `clientsPem`: roots of the
   * clients that it knows besides its own.
   */
  static async start(
    root: RootCa,
    {
      host = "127.0.0.1",
      port = 0,
      clientsPem = "",
      onRequest = (_request: SignRequest): void => undefined,
    } = {},
  ): Promise<CfsslStandIn> {
    const dir = await mkdtemp(join(tmpdir(), "cfssl-"));
    await writeFile(join(dir, "root.pem"), root.certPem);
    await writeFile(join(dir, "root.key"), root.keyPem);
    const key = join(dir, "server.key");
    const csr = join(dir, "server.csr");
    await run("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key]);
    await run("openssl", ["req", "-new", "-key", key, "-subj", "/CN=external-ca", "-out", csr]);
    const extensions = `subjectAltName=IP:${host}\nextendedKeyUsage=serverAuth\n`;
    const cert = await issue(dir, { csr, subject: "/CN=external-ca", extensions, serial: 0 });
    const server = createServer({
      cert,
      key: await readFile(key),
      ca: root.certPem + clientsPem,
      requestCert: true,
      rejectUnauthorized: true,
    });
    await new Promise<void>(resolve => server.listen(port, host, resolve));
    return new CfsslStandIn(dir, server, onRequest);
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `https://${address}:${port}/api/v1/cfssl/sign`;
  }

  async close(): Promise<void> {
    await new Promise<void>(resolve => this.#server.close(() => resolve()));
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #sign(text: string): Promise<Answer> {
    const request = JSON.parse(text) as SignRequest;
    this.requests.push(request);
    this.#onRequest(request);
    if (this.answer !== null) return this.answer;
    const serial = this.#serial;
    this.#serial += 1;
    const csr = join(this.#dir, `${serial}.csr`);
    await writeFile(csr, request.certificate_request);
    const [name = {}] = request.subject.names;
    const parts = { O: name.O, OU: name.OU, CN: request.subject.CN };
    const subject =
      this.subject ??
      Object.entries(parts)
        .map(([key, value]) => (value === undefined ? "" : `/${key}=${value}`))
        .join("");
    const names = request.hosts.map(host => `DNS:${host}`).join(",");
    const extensions =
      request.profile === CA_PROFILE
        ? "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        : `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`;
    const certificate = await issue(this.#dir, { csr, subject, extensions, serial });
    return {
      status: 200,
      body: JSON.stringify({ success: true, result: { certificate }, errors: [], messages: [] }),
    };
  }
}

async function issue(
  dir: string,
  what: {
    readonly csr: string;
    readonly subject: string;
    readonly extensions: string;
    readonly serial: number;
  },
): Promise<string> {
  const extFile = join(dir, `${what.serial}.ext`);
  const out = join(dir, `${what.serial}.pem`);
  await writeFile(extFile, what.extensions);
  await run("openssl", [
    ...["x509", "-req", "-in", what.csr, "-CA", join(dir, "root.pem")],
    ...["-CAkey", join(dir, "root.key"), "-subj", what.subject, "-sha256", "-days", "90"],
    ...["-set_serial", String(1_000 + what.serial), "-extfile", extFile, "-out", out],
  ]);
  return readFile(out, "utf8");
}
