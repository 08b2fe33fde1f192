import type { Cluster } from "./rows.ts";

/** A root CA, or the certificate of one whose key somebody else keeps. */
export type Root = Cluster["rootCa"];

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]*?)\s*-----END \1-----/g;

/** PEM blocks in one form, so that texts can be compared; empty when there are none. */
export function normalizePem(text: string): string {
  return [...text.matchAll(BLOCK)]
    .map(([, label, body = ""]) => {
      const lines = body.replace(/\s/g, "").match(/.{1,64}/g) ?? [];
      return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
    })
    .join("");
}

type ExternalCas = Cluster["spec"]["CAConfig"]["ExternalCAs"];

/**
 * Where certificates of the root `wantedPem` are signed, in the order to try. An external CA that
 * names no certificate is one of the present root (SwarmKit ca/server.go, filterExternalCAURLS).
 */
export function externalCaUrls(
  authorities: ExternalCas,
  wantedPem: string,
  presentPem: string,
): readonly string[] {
  const wanted = normalizePem(wantedPem);
  return (authorities ?? [])
    .filter(authority => {
      const own = String(authority["CACert"] ?? "");
      return normalizePem(own === "" ? presentPem : own) === wanted;
    })
    .map(authority => String(authority["URL"] ?? ""));
}

/** The URLs that sign for the root that issues now; none: the cluster's own key does. */
export function signingUrls({ rootCa, nextRoot, spec }: Cluster): readonly string[] {
  const issuing = nextRoot ?? rootCa;
  return externalCaUrls(spec.CAConfig.ExternalCAs, issuing.certPem, rootCa.certPem);
}
