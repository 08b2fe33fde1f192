import { createSocket, type Socket } from "node:dgram";
import { connect, createServer, type Server } from "node:net";
import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import {
  type Answer,
  encodeAnswer,
  encodeName,
  parseQuery,
  RCODE,
  TYPE,
} from "../../src/overlay/core/dns-message.ts";
import { DnsServer } from "../../src/overlay/dns-server.ts";
import { Upstream } from "../../src/overlay/dns-upstream.ts";
import { realClock } from "../../src/system/real.ts";

/** A network's name server on real sockets, with another one behind it. */

const HOME = "127.0.0.1";

function query(name: string, id = 7): Uint8Array {
  return Uint8Array.from([0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...encodeName(name), 0, 1, 0, 1]);
}

function bound(): Promise<Socket> {
  return new Promise(resolve => {
    const socket = createSocket("udp4");
    socket.bind(0, HOME, () => resolve(socket));
  });
}

function listening(port: number): Promise<Server> {
  return new Promise(resolve => {
    const server = createServer();
    server.listen(port, HOME, () => resolve(server));
  });
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

function address(addr: string): Answer {
  return { rcode: RCODE.ok, ttlS: 1, records: [{ type: TYPE.a, addr }] };
}

async function askUdp(port: number, message: Uint8Array): Promise<Buffer> {
  const socket = await bound();
  try {
    return await new Promise<Buffer>(resolve => {
      socket.on("message", resolve);
      socket.send(message, port, HOME);
    });
  } finally {
    socket.close();
  }
}

function askTcp(port: number, messages: readonly Uint8Array[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, HOME);
    const chunks: Buffer[] = [];
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      const all = Buffer.concat(chunks);
      if (all.length >= messages.length * 2 && all.at(-1) === 9) {
        socket.destroy();
        resolve(all);
      }
    });
    const framed = messages.flatMap(message => [Buffer.from([0, message.length]), message]);
    // In pieces, as a network may bring it.
    const whole = Buffer.concat(framed);
    socket.write(whole.subarray(0, 3));
    socket.write(whole.subarray(3));
  });
}

t.test("a network's name server", async t => {
  const [udp, upstreamUdp] = [await bound(), await bound()];
  const tcp = await listening(0);
  upstreamUdp.on("message", (message, from) => {
    const asked = parseQuery(message);
    if (asked === null || asked.name === "silent") return;
    upstreamUdp.send(encodeAnswer(asked, address("192.0.2.9")), from.port, from.address);
  });
  const upstream = new Upstream({ port: upstreamUdp.address().port }, { clock: realClock });
  const server = new DnsServer(
    { udp, tcp },
    {
      upstream,
      clock: realClock,
      logger: silentLogger,
      askerOf: addr => ({
        answer: asked => (asked.name === "web" && addr === HOME ? address("10.0.1.9") : null),
        nameservers: internal ? [] : [HOME],
      }),
    },
  );
  let internal = false;
  t.teardown(() => {
    server.close();
    upstreamUdp.close();
  });
  const { port } = udp.address();
  t.same([...(await askUdp(port, query("web"))).subarray(-4)], [10, 0, 1, 9]);
  const other = await askUdp(port, query("example.com", 9));
  t.same([...other.subarray(-4)], [192, 0, 2, 9], "passed on");
  t.equal(other[1], 9, "as the answer to the question that was asked");
  const both = await askTcp(portOf(tcp), [query("web", 1), query("web", 2)]);
  t.same([both[3], both[both.length / 2 + 3]], [1, 2], "two questions on one connection");
  internal = true;
  const refused = await askUdp(port, query("example.com"));
  t.equal((refused[3] ?? 0) & 0xf, RCODE.servFail, "nobody outside hears of an internal network");
  t.same([...(await askUdp(port, query("web"))).subarray(-4)], [10, 0, 1, 9]);
});

t.test("a name server that cannot be reached is passed over", async t => {
  const other = await bound();
  other.on("message", (message, from) => {
    const asked = parseQuery(message);
    if (asked === null) return;
    other.send(encodeAnswer(asked, address("192.0.2.1")), from.port, from.address);
  });
  const upstream = new Upstream({ port: other.address().port }, { clock: realClock });
  // The first is no address that anything can be sent to.
  const answer = await upstream.ask(query("x"), "udp", ["255.255.255.255", HOME]);
  t.same([...(answer ?? []).slice(-4)], [192, 0, 2, 1]);
  t.equal(await upstream.ask(query("x"), "udp", []), null);
  other.close();
});
