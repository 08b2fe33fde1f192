import { SwarmError } from "../base/errors.ts";
import { familyOf, type IpFamily } from "../model/ip.ts";
import type { OverlaySubnet } from "../model/overlay.ts";
import type { AskedAddress } from "../model/rows.ts";
import { containerMac, endpointDevice, halvesOf, hostPrefix } from "./core/names.ts";
import type { LocalEndpoint, LocalState } from "./local-state.ts";
import { placeKey } from "./naming.ts";
import type { PluginMethod } from "./plugin-server.ts";

/** Option of an Engine's network that says which of the cluster's it is. */
export const NETWORK_OPTION = "swarmd.network";
export const DRIVER_NAME = "swarmd";
const GENERIC_OPTIONS = "com.docker.network.generic";
const GATEWAY_REQUEST = "com.docker.network.gateway";
const ADDRESS_TYPE_OPTION = "RequestAddressType";
/** Containers' devices are called eth0, eth1. */
const DEVICE_PREFIX = "eth";

/** What the driver needs of the data path. None of it asks the Engine anything. */
export interface DriverPorts {
  readonly state: LocalState;
  readonly network: (networkId: string) => {
    readonly internal: boolean;
    readonly ingress: boolean;
    readonly subnets: readonly OverlaySubnet[];
  } | null;
  /** Whether this host has IPv6. */
  readonly ipv6: () => boolean;
  /** Joins the endpoint's devices to the network's namespace. */
  readonly plug: (endpoint: LocalEndpoint) => Promise<void>;
  readonly unplug: (endpoint: LocalEndpoint) => Promise<void>;
  /** Programs the network; resolves when its namespace is as it should be. */
  readonly sync: (networkId: string) => Promise<void>;
  /** Whether managers gave the address to a task of this node. */
  readonly isTasks: (networkId: string, addr: string) => boolean;
  /** The MAC address that managers gave to the task with that address; empty: none. */
  readonly macOf: (networkId: string, addr: string) => string;
  /** An address, CIDR, for a container that brought none. */
  readonly lease: (networkId: string, asked: AskedAddress) => Promise<string>;
  readonly release: (networkId: string, addr: string) => Promise<void>;
}

type Request = Readonly<Record<string, unknown>>;

function text(request: Request, key: string): string {
  const value = request[key];
  return typeof value === "string" ? value : "";
}

function object(request: Request, key: string): Request {
  const value = request[key];
  return typeof value === "object" && value !== null ? (value as Request) : {};
}

/** Methods of the Engine's remote network driver (libnetwork docs/remote.md). */
export function networkDriverMethods(ports: DriverPorts): Readonly<Record<string, PluginMethod>> {
  const nothing: PluginMethod = async () => ({});
  return {
    "Plugin.Activate": async () => ({ Implements: ["NetworkDriver", "IpamDriver"] }),
    "NetworkDriver.GetCapabilities": async () => ({ Scope: "local", ConnectivityScope: "global" }),
    "NetworkDriver.CreateNetwork": request => createNetwork(ports, request),
    "NetworkDriver.DeleteNetwork": request => deleteNetwork(ports, request),
    "NetworkDriver.CreateEndpoint": request => createEndpoint(ports, request),
    "NetworkDriver.DeleteEndpoint": request => deleteEndpoint(ports, request),
    "NetworkDriver.EndpointOperInfo": async () => ({ Value: {} }),
    "NetworkDriver.Join": request => join(ports, request),
    "NetworkDriver.Leave": request => leave(ports, request),
    "NetworkDriver.ProgramExternalConnectivity": nothing,
    "NetworkDriver.RevokeExternalConnectivity": nothing,
    "NetworkDriver.DiscoverNew": nothing,
    "NetworkDriver.DiscoverDelete": nothing,
  };
}

async function createNetwork({ state, network }: DriverPorts, request: Request): Promise<object> {
  const options = object(object(request, "Options"), GENERIC_OPTIONS);
  const networkId = text(options, NETWORK_OPTION);
  const known = networkId === "" ? null : network(networkId);
  if (known === null) {
    throw new SwarmError(
      "invalid_argument",
      "this driver's networks are made by swarmd: create an overlay network with " +
        "`docker network create -d overlay` on swarmd's socket",
    );
  }
  const id = text(request, "NetworkID");
  const { internal, ingress } = known;
  state.networks.set(id, { id, networkId, internal, ingress });
  await state.save();
  return {};
}

async function deleteNetwork({ state, sync }: DriverPorts, request: Request): Promise<object> {
  const known = state.networks.get(text(request, "NetworkID"));
  if (known === undefined) return {};
  state.networks.delete(known.id);
  await state.save();
  void sync(known.networkId);
  return {};
}

async function createEndpoint({ state, macOf }: DriverPorts, request: Request): Promise<object> {
  const id = text(request, "EndpointID");
  const network = state.networks.get(text(request, "NetworkID"));
  if (network === undefined) throw unknownNetwork(request);
  const given = object(request, "Interface");
  const addr = text(given, "Address").split("/")[0] ?? "";
  if (addr === "") throw new SwarmError("invalid_argument", "an endpoint needs an IPv4 address");
  const { networkId } = network;
  const mac = text(given, "MacAddress") || macOf(networkId, addr) || containerMac(addr);
  const device = endpointDevice(id);
  const addr6 = text(given, "AddressIPv6").split("/")[0] ?? "";
  const own6 = addr6 === "" ? {} : { addr6 };
  state.endpoints.set(id, { id, networkId, addr, ...own6, mac, device, sandbox: "" });
  await state.save();
  return { Interface: text(given, "MacAddress") === "" ? { MacAddress: mac } : {} };
}

async function deleteEndpoint(ports: DriverPorts, request: Request): Promise<object> {
  const endpoint = ports.state.endpoints.get(text(request, "EndpointID"));
  if (endpoint === undefined) return {};
  ports.state.endpoints.delete(endpoint.id);
  await ports.state.save();
  void ports.sync(endpoint.networkId);
  return {};
}

async function join(ports: DriverPorts, request: Request): Promise<object> {
  const { state } = ports;
  const known = state.endpoints.get(text(request, "EndpointID"));
  const engine = state.networks.get(text(request, "NetworkID"));
  if (known === undefined || engine === undefined) throw unknownNetwork(request);
  const network = ports.network(known.networkId);
  const endpoint = { ...known, sandbox: text(request, "SandboxKey") };
  const bridged = state.bridged.has(placeKey(known.networkId, known.addr));
  await ports.plug(endpoint);
  state.endpoints.set(endpoint.id, endpoint);
  await Promise.all([state.save(), ports.sync(endpoint.networkId)]);
  return {
    InterfaceName: { SrcName: `${endpoint.device}c`, DstPrefix: DEVICE_PREFIX },
    // Without one the Engine gives the container its gateway bridge. By the ingress network
    // answers must go back the way their requests came; one with ports of its host as well has the
    // bridge, and rules of its own.
    ...(engine.ingress && !bridged && defaultRoutes(network?.subnets ?? [], endpoint)),
    ...(endpoint.addr6 !== undefined && { StaticRoutes: routes6(network?.subnets ?? []) }),
  };
}

function subnetOf(subnets: readonly OverlaySubnet[], family: IpFamily): OverlaySubnet | undefined {
  return subnets.find(({ subnet }) => familyOf(subnet) === family);
}

function defaultRoutes(subnets: readonly OverlaySubnet[], { addr6 }: LocalEndpoint): object {
  return {
    ...{ Gateway: subnetOf(subnets, "ipv4")?.gateway ?? "" },
    ...(addr6 !== undefined && { GatewayIPv6: subnetOf(subnets, "ipv6")?.gateway ?? "" }),
  };
}

/** Libnetwork's kinds of routes: by a gateway, and on the container's own link. */
const NEXT_HOP = 0;
const CONNECTED = 1;

/** All addresses of the network are behind its gateway. */
function routes6(subnets: readonly OverlaySubnet[]): readonly object[] {
  const own = subnetOf(subnets, "ipv6");
  if (own === undefined) return [];
  const { subnet, gateway } = own;
  return [
    { Destination: hostPrefix(gateway), RouteType: CONNECTED },
    ...halvesOf(subnet).map(half => ({
      Destination: half,
      RouteType: NEXT_HOP,
      NextHop: gateway,
    })),
  ];
}

async function leave(ports: DriverPorts, request: Request): Promise<object> {
  const endpoint = ports.state.endpoints.get(text(request, "EndpointID"));
  if (endpoint === undefined) return {};
  ports.state.endpoints.set(endpoint.id, { ...endpoint, sandbox: "" });
  await Promise.all([ports.state.save(), ports.unplug(endpoint)]);
  await ports.sync(endpoint.networkId);
  return {};
}

function unknownNetwork(request: Request): SwarmError {
  const id = text(request, "NetworkID");
  return new SwarmError("not_found", `swarmd does not know the network ${id} of this Engine`);
}

/** Methods of the Engine's remote IPAM driver (libnetwork docs/ipam.md). */
export function ipamMethods(ports: DriverPorts): Readonly<Record<string, PluginMethod>> {
  return {
    "IpamDriver.GetCapabilities": async () => ({ RequiresMACAddress: false }),
    "IpamDriver.GetDefaultAddressSpaces": async () => ({
      LocalDefaultAddressSpace: "swarmd-local",
      GlobalDefaultAddressSpace: "swarmd-global",
    }),
    "IpamDriver.RequestPool": async request => requestPool(request),
    "IpamDriver.ReleasePool": async () => ({}),
    "IpamDriver.RequestAddress": request => requestAddress(ports, request),
    "IpamDriver.ReleaseAddress": request => releaseAddress(ports, request),
  };
}

/** A pool's id holds what later requests need: they name nothing else. */
function requestPool(request: Request): object {
  const pool = text(request, "Pool");
  const networkId = text(object(request, "Options"), NETWORK_OPTION);
  if (pool === "" || networkId === "") {
    throw new SwarmError("invalid_argument", "this driver's address pools are the cluster's");
  }
  return { PoolID: `${networkId}/${pool}`, Pool: pool, Data: {} };
}

function poolOf(request: Request): {
  readonly networkId: string;
  readonly prefix: string;
  readonly family: IpFamily;
} {
  const [networkId = "", base = "", prefix = ""] = text(request, "PoolID").split("/");
  return { networkId, prefix, family: familyOf(base) };
}

async function requestAddress(ports: DriverPorts, request: Request): Promise<object> {
  const { networkId, prefix, family } = poolOf(request);
  const asked = text(request, "Address");
  const type = text(object(request, "Options"), ADDRESS_TYPE_OPTION);
  if (type === GATEWAY_REQUEST) {
    const known = asked || subnetOf(ports.network(networkId)?.subnets ?? [], family)?.gateway;
    if (known === undefined)
      throw new SwarmError("not_found", `network ${networkId} has no gateway`);
    return { Address: `${known}/${prefix}`, Data: {} };
  }
  if (asked !== "" && ports.isTasks(networkId, asked)) {
    return { Address: `${asked}/${prefix}`, Data: {} };
  }
  const wish = { family, ...(asked !== "" && { address: asked }) };
  return { Address: await ports.lease(networkId, wish), Data: {} };
}

async function releaseAddress(ports: DriverPorts, request: Request): Promise<object> {
  await ports.release(poolOf(request).networkId, text(request, "Address"));
  return {};
}
