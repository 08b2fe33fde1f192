import fc from "fast-check";
import t from "tap";
import { networkContains, parseCidr, parseIp } from "../../src/model/ip.ts";
import { parsePublishAddresses, publishAddresses } from "../../src/model/publish-address.ts";
import { normalizeServiceSpec, validateServiceSpec } from "../../src/model/validate-service.ts";

/** Published ports that answer at some addresses only (label swarmd.publish.address). */

t.test("entries", async t => {
  const parsed = parsePublishAddresses("127.0.0.1, 8443=10.77.0.9/24,8443=fd00::0:1,::1");
  t.same(parsed?.general, ["127.0.0.1", "::1"]);
  t.same(parsed?.byPort, new Map([[8_443, ["10.77.0.0/24", "fd00::1"]]]));
  t.same(parsePublishAddresses("10.0.0.0/8,10.1.0.0/16,10.1.1.1")?.general, ["10.0.0.0/8"]);
  t.same(parsePublishAddresses("10.1.1.1/32")?.general, ["10.1.1.1"]);
  for (const bad of [
    "",
    "host",
    "1.2.3",
    "1.2.3.4/33",
    "0=1.2.3.4",
    "70000=::1",
    "1.2.3.4,",
    "80=",
  ]) {
    t.equal(parsePublishAddresses(bad), null, `'${bad}' is none`);
  }
  t.equal(parsePublishAddresses(Array(33).fill("::1").join()), null, "too many");
  const labels = { "swarmd.publish.address": "127.0.0.1,8443=10.77.0.0/24" };
  t.same(publishAddresses(labels, 8_443), ["10.77.0.0/24"]);
  t.same(publishAddresses(labels, 80), ["127.0.0.1"]);
  t.same(publishAddresses({}, 80), [], "everywhere");
});

t.test("no entry holds another one, which sets of the kernel refuse", async t => {
  const place = fc
    .tuple(fc.integer({ min: 8, max: 32 }), fc.integer({ min: 0, max: 7 }))
    .map(([bits, low]) => `10.0.${low}.${low}/${bits}`);
  fc.assert(
    fc.property(fc.array(place, { minLength: 1, maxLength: 8 }), places => {
      const kept = parsePublishAddresses(places.join())?.general ?? [];
      const nets = kept.map(text => parseCidr(text.includes("/") ? text : `${text}/32`));
      for (const [i, a] of nets.entries()) {
        for (const [j, b] of nets.entries()) {
          if (i !== j && a && b) t.notOk(networkContains(a, b.base));
        }
      }
      for (const asked of places) {
        const address = parseIp(asked.split("/")[0] ?? "") ?? 0n;
        t.ok(
          nets.some(net => net !== null && networkContains(net, address)),
          "none is lost",
        );
      }
    }),
    { numRuns: 50 },
  );
});

t.test("a service says it of ports that it has, in a form that they take", async t => {
  const check = (value: string, ports: readonly object[]): (() => void) => {
    const spec = {
      Name: "web",
      Labels: { "swarmd.publish.address": value },
      TaskTemplate: { ContainerSpec: { Image: "a" } },
      EndpointSpec: { Ports: ports },
    };
    return () => validateServiceSpec(normalizeServiceSpec(spec));
  };
  const port = { PublishedPort: 8_080, TargetPort: 80 };
  t.doesNotThrow(check("127.0.0.1,8080=10.0.0.0/8", [port]));
  t.throws(check("nowhere", [port]), /invalid value 'nowhere' of label swarmd\.publish\.address/);
  t.throws(check("8443=::1", [port]), /publishes no port 8443/);
  const own = { ...port, PublishMode: "host" };
  t.throws(check("10.0.0.0/8", [own]), /mode=host\), which takes addresses, not the network/);
  t.doesNotThrow(check("10.0.0.1", [own]));
});
