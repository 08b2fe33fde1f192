import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Rng } from "../base/rng.ts";
import type { TokenSource } from "../control/ports.ts";
import { checkDesiredRoot, newJoinToken, nextRoot } from "../pki/ca.ts";
import type { ExternalCa } from "../tls/external-ca.ts";
import { newMeshKey } from "../tls/mesh-key.ts";
import { newUnlockKey } from "../tls/unlock-key.ts";

export interface TokenSourceDeps {
  readonly external: ExternalCa;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly ids: IdSource;
}

/** Docker's words; what went wrong is in the log of the leader, and after them. */
const NO_CROSS_SIGN = "unable to generate a cross-signed certificate for root rotation";

/** The cluster's secrets, made by `tls`. */
export function tokenSource({ external, clock, rng, ids }: TokenSourceDeps): TokenSource {
  return {
    newJoinToken: (_role, rootCertPem) => newJoinToken(rootCertPem, ids),
    newUnlockKey,
    newMeshKey,
    checkRoot: given => checkDesiredRoot(given, clock.nowMs()),
    reachesCa: (urls, rootPem, signal) => external.reaches(urls, rootPem, signal),
    nextRoot: (present, given, urls, signal) => {
      if (present.keyPem !== "") return nextRoot(present, given, { clock, rng });
      return nextRoot(present, given, {
        ...{ clock, rng },
        crossSign: next =>
          external.crossSign(next, present.certPem, urls, signal).catch((error: unknown) => {
            const text = `${NO_CROSS_SIGN}: ${errorMessage(error)}`;
            throw new SwarmError("internal", text, { rpc: "Internal" }, error);
          }),
      });
    },
  };
}
