import t from "tap";
import {
  parseFdb,
  parseLink,
  parseNeighbours,
  parseRoutes,
  parseVips,
  vxlanOf,
} from "../../src/overlay/core/actual.ts";
import { hostGateway, hostMac } from "../../src/overlay/core/names.ts";

t.test("what ip and bridge say is understood", async t => {
  const link = [
    {
      ifname: "vx0",
      mtu: 1450,
      address: hostMac(3),
      linkinfo: { info_kind: "vxlan", info_data: { id: 4097, local: "10.77.0.3", port: 4789 } },
    },
  ];
  t.same(parseLink(JSON.stringify(link)), {
    vni: 4097,
    index: 3,
    localAddr: "10.77.0.3",
    port: 4789,
    mtu: 1450,
  });
  t.equal(parseLink(""), null);
  t.equal(vxlanOf(JSON.stringify(link), 4_097), "vx0");
  t.equal(vxlanOf(JSON.stringify(link), 5_000), "");
  const routes = [
    { dst: "10.0.1.5", gateway: hostGateway(2), dev: "vx0", flags: ["onlink"] },
    { dst: "10.0.1.3", dev: "vabc", scope: "link" },
    { dst: "default", gateway: "169.254.254.1", dev: "up0" },
  ];
  t.same(parseRoutes(JSON.stringify(routes)), new Map([["10.0.1.5", 2]]));
  const neighbours = [
    { dst: hostGateway(2), lladdr: hostMac(2), state: ["PERMANENT"] },
    { dst: hostGateway(4), lladdr: hostMac(5), state: ["PERMANENT"] },
  ];
  const fdb = [2, 4, 5].map(index => ({ mac: hostMac(index), dst: `10.77.0.${index}` }));
  const known = parseNeighbours(JSON.stringify(neighbours), ["ipv4"]);
  t.same(parseFdb(JSON.stringify(fdb), known), new Map([[2, "10.77.0.2"]]));
  t.same(
    parseNeighbours(JSON.stringify(neighbours), ["ipv4", "ipv6"]),
    new Set(),
    "one is missing",
  );
  const both = [...neighbours, { dst: hostGateway(2, "ipv6"), lladdr: hostMac(2) }];
  t.same(parseNeighbours(JSON.stringify(both), ["ipv4", "ipv6"]), new Set([2]));
});

t.test("what one ip says of several things is told apart", async t => {
  const tunnel = { id: 4_097, local: "10.77.0.3", port: 4_789 };
  const link = { ifname: "vx0", mtu: 1_450, flags: [], address: hostMac(3) };
  const listings = [
    [{ ifname: "lo", addr_info: [{ local: "127.0.0.1" }, { local: "10.0.1.1" }] }],
    [{ type: "unicast", dst: "10.0.1.5", gateway: hostGateway(2), dev: "vx0" }],
    [],
    [{ dst: hostGateway(2), lladdr: hostMac(2), state: ["PERMANENT"] }],
    [{ ...link, linkinfo: { info_kind: "vxlan", info_data: tunnel } }],
    [{ ifname: "up0", linkinfo: { info_kind: "veth" } }],
  ];
  const text = listings.map(listing => `${JSON.stringify(listing)}\n`).join("");
  t.equal(parseLink(text)?.vni, 4_097);
  t.same(parseRoutes(text), new Map([["10.0.1.5", 2]]));
  t.same(parseNeighbours(text, ["ipv4"]), new Set([2]));
  t.same(parseVips(text), new Set(["10.0.1.1"]));
});
