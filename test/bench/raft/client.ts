/** The load of `npm run bench -- raft`, in a process of its own: the same for either system. */
import { drive, keyOf } from "./drive.ts";
import { H2Client } from "./h2-client.ts";
import { requestHeaders } from "./h2-frames.ts";
import { encodeKey, encodePut, KV_SERVICE } from "./kv-wire.ts";
import { type Load, obeyParent } from "./orders.ts";

const CONNECTIONS = 4;
const PUT = requestHeaders(KV_SERVICE.put.path);
const RANGE = requestHeaders(KV_SERVICE.range.path);

obeyParent<Load>(async load => {
  const { addr, what, valueBytes } = load;
  const [host = "", port = ""] = addr.split(":");
  const clients = Array.from({ length: CONNECTIONS }, () => new H2Client(host, Number(port)));
  const value = Buffer.alloc(valueBytes, "v");
  try {
    return await drive(load, n => {
      const client = clients[n % CONNECTIONS];
      if (client === undefined) throw new Error("no client");
      const key = keyOf(n);
      return what === "write"
        ? client.call(PUT, encodePut({ key, value }))
        : client.call(RANGE, encodeKey(key));
    });
  } finally {
    for (const client of clients) client.close();
  }
});
