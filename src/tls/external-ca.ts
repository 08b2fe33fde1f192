import type { KeyObject } from "node:crypto";
import https from "node:https";
import { isIP } from "node:net";
import { connect } from "node:tls";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError, toSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { decodeDer, encodeDer } from "../pki/asn1.ts";
import type { RootCa } from "../pki/ca.ts";
import { nodeNameOfCertificate, parseCertificate, subjectDer } from "../pki/certificate.ts";
import type { NodeName } from "../pki/core/names.ts";
import { makeCsr } from "../pki/csr.ts";
import { loadPrivateKey } from "../pki/keys.ts";
import { basicConstraintsOfRoot } from "../pki/x509-parts.ts";
import { certificateOfAnswer, crossSignRequest, nodeSignRequest } from "./core/sign-request.ts";

/** SwarmKit ca/external.go. */
const REQUEST_TIMEOUT_MS = 5_000;
const MAX_ANSWER_BYTES = 256 * 1024;
const HTTPS_PORT = 443;
/** A spec may name more; one that names hundreds is not waited for. */
const MAX_URLS = 8;

/** How this manager shows itself to the CA; null before it has a certificate. */
export type OwnCertificate = { readonly certPem: string; readonly keyPem: string } | null;

/** Where to sign, and the roots that the CA's own certificate may be of. */
export interface Authorities {
  readonly urls: readonly string[];
  readonly caPem: string;
}

/** A CA of somebody else's that speaks CFSSL's `api/v1/cfssl/sign` (swarm mode's external CA). */
export interface ExternalSigner {
  /**
   * A node's certificate of the root `rootPem`, from the first URL that gives one. Throws
   * unavailable when none could be asked, failed_precondition when it was refused or is not what
   * was asked for.
   */
  signNode(
    request: { readonly csrPem: string; readonly publicKey: KeyObject; readonly name: NodeName },
    rootPem: string,
    authorities: Authorities,
    signal: AbortSignal,
  ): Promise<string>;
}

export interface ExternalCaDeps {
  readonly own: () => OwnCertificate;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class ExternalCa implements ExternalSigner {
  readonly #deps: ExternalCaDeps;

  constructor(deps: ExternalCaDeps) {
    this.#deps = deps;
  }

  async signNode(
    request: { readonly csrPem: string; readonly publicKey: KeyObject; readonly name: NodeName },
    rootPem: string,
    authorities: Authorities,
    signal: AbortSignal,
  ): Promise<string> {
    const body = nodeSignRequest(request.csrPem, request.name);
    return this.#first(authorities, body, signal, certPem => {
      checkNodeCertificate(certPem, request, rootPem);
    });
  }

  /** The next root's name and key as a certificate of the present root, whose key it has. */
  async crossSign(
    next: RootCa,
    presentPem: string,
    urls: readonly string[],
    signal: AbortSignal,
  ): Promise<string> {
    const nextCert = parseCertificate(next.certPem, "the next root certificate");
    const subject = subjectDer(nextCert);
    const key = loadPrivateKey(next.keyPem, "the next root's key");
    const body = crossSignRequest(makeCsr(key, decodeDer(subject, "the next root's subject")), {
      commonName: String((nextCert.toLegacyObject().subject as { CN?: unknown }).CN ?? ""),
      basicConstraintsHex: encodeDer(basicConstraintsOfRoot()).toString("hex"),
    });
    return this.#first({ urls, caPem: presentPem }, body, signal, certPem => {
      const cert = parseCertificate(certPem, "its answer");
      const present = parseCertificate(presentPem, "the root certificate");
      const fits = cert.ca && cert.publicKey.equals(nextCert.publicKey);
      if (!fits || !cert.verify(present.publicKey) || !subjectDer(cert).equals(subject)) {
        throw new SwarmError(
          "failed_precondition",
          "its answer is no certificate of the next root",
        );
      }
    });
  }

  /** Whether one of them answers at all, with a certificate of `rootPem`. */
  async reaches(urls: readonly string[], rootPem: string, signal: AbortSignal): Promise<boolean> {
    const tries = urls.slice(0, MAX_URLS).map(async url => {
      try {
        await this.#inTime(signal, inner => this.#handshake(new URL(url), rootPem, inner));
        return true;
      } catch (error) {
        const why = { url, error: errorMessage(error) };
        this.#deps.logger.warn("an external CA is unreachable or invalid", why);
        return false;
      }
    });
    return (await Promise.all(tries)).includes(true);
  }

  async #first(
    { urls, caPem }: Authorities,
    body: string,
    signal: AbortSignal,
    check: (certPem: string) => void,
  ): Promise<string> {
    let failure = new SwarmError("unavailable", "the cluster has no external CA for its root");
    for (const url of urls.slice(0, MAX_URLS)) {
      signal.throwIfAborted();
      try {
        const certPem = await this.#post(url, body, caPem, signal);
        check(certPem);
        return certPem;
      } catch (error) {
        const { code, message } = toSwarmError(error, "unavailable");
        const text = `the external CA at ${url} gave no certificate: ${message}`;
        failure = new SwarmError(code === "unavailable" ? code : "failed_precondition", text);
        this.#deps.logger.warn("an external CA gave no certificate", { url, error: message });
      }
    }
    throw failure;
  }

  async #post(url: string, body: string, caPem: string, signal: AbortSignal): Promise<string> {
    const target = new URL(url);
    const tls = this.#tls(target, caPem);
    const { status, text } = await this.#inTime(signal, inner =>
      post(target, body, { ...tls, signal: inner }),
    );
    return certificateOfAnswer(status, text);
  }

  async #inTime<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const late = new AbortController();
    const timer = this.#deps.clock.setTimer("external CA", REQUEST_TIMEOUT_MS, () => late.abort());
    try {
      return await work(AbortSignal.any([signal, late.signal]));
    } catch (error) {
      if (!late.signal.aborted || signal.aborted) throw error;
      throw new SwarmError("unavailable", `no answer within ${REQUEST_TIMEOUT_MS / 1_000} s`);
    } finally {
      timer.cancel();
    }
  }

  #tls(target: URL, caPem: string): https.RequestOptions {
    if (target.protocol !== "https:") throw new Error("invalid HTTP scheme");
    const own = this.#deps.own();
    return {
      ca: caPem,
      minVersion: "TLSv1.2",
      agent: false,
      ...(own === null ? {} : { cert: own.certPem, key: own.keyPem }),
    };
  }

  #handshake(target: URL, rootPem: string, signal: AbortSignal): Promise<void> {
    const host = target.hostname.replace(/^\[(.*)\]$/, "$1");
    const { ca, cert, key } = this.#tls(target, rootPem);
    return new Promise((resolve, reject) => {
      const socket = connect({
        ...{ host, port: Number(target.port || HTTPS_PORT), minVersion: "TLSv1.2", ca, cert, key },
        ...(isIP(host) === 0 ? { servername: host } : {}),
      });
      const settle = (act: () => void): void => {
        signal.removeEventListener("abort", onAbort);
        socket.destroy();
        act();
      };
      const onAbort = (): void => settle(() => reject(signal.reason));
      signal.addEventListener("abort", onAbort, { once: true });
      socket.once("secureConnect", () => settle(resolve));
      socket.once("error", error => settle(() => reject(error)));
    });
  }
}

function post(
  target: URL,
  body: string,
  options: https.RequestOptions,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const headers = {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
    };
    const request = https.request(target, { ...options, method: "POST", headers });
    request.on("error", reject);
    request.on("response", response => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) request.destroy(new Error("its answer is too long"));
        else chunks.push(chunk);
      });
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        resolve({ status: response.statusCode ?? 0, text });
      });
    });
    request.end(body);
  });
}

/** It must be for that key and that node, and of the cluster's root: nodes take no other. */
function checkNodeCertificate(
  certPem: string,
  asked: { readonly publicKey: KeyObject; readonly name: NodeName },
  rootPem: string,
): void {
  const refuse = (why: string): never => {
    throw new SwarmError("failed_precondition", `its certificate ${why}`);
  };
  const leaf = parseCertificate(certPem, "its answer");
  const root = parseCertificate(rootPem, "the root certificate");
  if (!leaf.verify(root.publicKey)) refuse("is not signed by the cluster's root itself");
  if (!leaf.publicKey.equals(asked.publicKey)) refuse("is for another key");
  const name = nodeNameOfCertificate(leaf);
  const { nodeId, role, clusterId } = asked.name;
  const isAsked =
    name?.nodeId === nodeId && name.role === role && name.clusterId === clusterId && !leaf.ca;
  if (!isAsked) refuse("names another node, role or cluster than was asked for");
}
