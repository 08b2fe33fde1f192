import { readdir, readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { errorMessage } from "../base/errors.ts";
import type { Commands } from "./commands.ts";
import { UPLINK } from "./core/names.ts";
import { vipTable } from "./core/nft.ts";

/** What this host has for overlay networks. */
export interface HostFacts {
  /** Why there can be none here; empty: there can. */
  readonly problem: string;
  /** Containers can have IPv6 addresses, and published ports answer on those of the host. */
  readonly ipv6: boolean;
  /** Why there can be no encrypted network here; empty: there can. */
  readonly wireguard: string;
  /** Why no task with published SCTP ports can be here; empty: it can. */
  readonly sctp: string;
  /** What works less well, and why. */
  readonly warnings: readonly string[];
}

/** Programs without which there is no data path, and what to ask them. */
const NEEDED: readonly (readonly string[])[] = [
  ["ip", "-V"],
  ["bridge", "-V"],
  ["nft", "--version"],
  ["nsenter", "--version"],
];
const WANTED: readonly { readonly command: readonly string[]; readonly off: string }[] = [
  {
    command: ["conntrack", "--version"],
    off: "UDP flows stay with a backend that has gone (install conntrack)",
  },
  {
    command: ["iptables", "--version"],
    off: "published ports stay closed where the policy of FORWARD is DROP (install iptables)",
  },
];
const PROBE_NAMESPACE = "swarmd-probe";
const PROBE_DEVICE = "vxprobe";
const PROBE_TUNNEL = "swgprobe";
/** The last one, which no network is given. */
const PROBE_VNI = 0xff_ffff;
const DEFAULT_MTU = 1_500;
const SCTP_TRACKING = "/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established";
/** In the kernel by now, or a module that it loads when somebody opens such a socket. */
const SCTP_SOCKETS = "grep -qw ^SCTP /proc/net/protocols || modprobe -n -q sctp";

/** Tries what the data path is made of: names what is missing instead of failing later. */
export async function probeHost(commands: Commands): Promise<HostFacts> {
  const wanted = Promise.all(
    WANTED.map(async ({ command, off }) =>
      (await succeeds(commands, command)) ? "" : `no ${command[0]}: ${off}`,
    ),
  );
  const tunnels = missingWireguard(commands);
  const problem = (await missingPrograms(commands)) || (await missingFeatures(commands));
  const without6 = problem === "" ? await missingIpv6(commands) : problem;
  const warnings = (await wanted).filter(warning => warning !== "");
  if (without6 !== "" && problem === "") {
    warnings.push(`IPv6 is off in overlay networks on this host: ${without6}`);
  }
  // Connection tracking is loaded by now, if the kernel has it as a module.
  const sctp = await missingSctp(commands);
  return { problem, ipv6: without6 === "", wireguard: await tunnels, sctp, warnings };
}

async function missingSctp(commands: Commands): Promise<string> {
  const [tracked, sockets] = await Promise.all([
    succeeds(commands, ["test", "-e", SCTP_TRACKING]),
    succeeds(commands, ["sh", "-c", SCTP_SOCKETS]),
  ]);
  if (!sockets) return "the kernel has no SCTP (CONFIG_IP_SCTP), nor a module of it";
  return tracked ? "" : "the kernel tracks no SCTP connections (CONFIG_NF_CT_PROTO_SCTP)";
}

async function missingWireguard(commands: Commands): Promise<string> {
  if (!(await succeeds(commands, ["wg", "--version"]))) {
    return "missing program: wg (wireguard-tools)";
  }
  await succeeds(commands, ["ip", "link", "del", PROBE_TUNNEL]);
  const add = ["ip", "link", "add", PROBE_TUNNEL, "type", "wireguard"];
  const inKernel = await succeeds(commands, add);
  if (inKernel) await succeeds(commands, ["ip", "link", "del", PROBE_TUNNEL]);
  if (inKernel || (await succeeds(commands, ["wireguard-go", "--version"]))) return "";
  return "neither the kernel has WireGuard nor is there a wireguard-go";
}

async function missingIpv6(commands: Commands): Promise<string> {
  const ns = PROBE_NAMESPACE;
  try {
    await commands.run(["test", "-d", "/proc/sys/net/ipv6"]);
    await commands.run(["ip", "netns", "add", ns]);
    await commands.run(inProbe(["nft", "-f", "-"]), vipTable(UPLINK.hostAddr6));
    return "";
  } catch (error) {
    return errorMessage(error);
  } finally {
    await succeeds(commands, ["ip", "netns", "del", ns]);
  }
}

async function missingPrograms(commands: Commands): Promise<string> {
  if (process.getuid?.() !== 0) return "the daemon does not run as root";
  const works = await Promise.all(NEEDED.map(command => succeeds(commands, command)));
  const missing = NEEDED.filter((_command, at) => works[at] === false).map(([program]) => program);
  if (missing.length === 0) return "";
  return `missing programs: ${missing.join(", ")} (packages iproute2, nftables, util-linux)`;
}

/** A namespace, a tunnel and a table with maps, made and removed again. */
async function missingFeatures(commands: Commands): Promise<string> {
  const ns = PROBE_NAMESPACE;
  const steps: readonly (readonly [string, readonly string[], string])[] = [
    ["network namespaces", ["ip", "netns", "add", ns], ""],
    [
      "VXLAN",
      ["ip", "-n", ns, "-batch", "-"],
      `link add ${PROBE_DEVICE} type vxlan id ${PROBE_VNI} dstport 4789 nolearning\n`,
    ],
    ["nftables NAT with maps", inProbe(["nft", "-f", "-"]), vipTable("169.254.254.1")],
  ];
  try {
    await succeeds(commands, ["ip", "netns", "del", ns]);
    for (const [what, command, input] of steps) {
      try {
        await commands.run(command, input);
      } catch (error) {
        return `the kernel or its tools lack ${what}: ${errorMessage(error)}`;
      }
    }
    return "";
  } finally {
    await succeeds(commands, ["ip", "netns", "del", ns]);
  }
}

function inProbe(command: readonly string[]): readonly string[] {
  return ["nsenter", `--net=/run/netns/${PROBE_NAMESPACE}`, ...command];
}

async function succeeds(commands: Commands, command: readonly string[]): Promise<boolean> {
  try {
    await commands.run(command);
    return true;
  } catch {
    return false;
  }
}

/** MTU of the device that has the address; the usual one when none has. */
export async function underlayMtu(addr: string): Promise<number> {
  const interfaces = Object.entries(networkInterfaces());
  const found = interfaces.find(([, addrs]) => addrs?.some(({ address }) => address === addr));
  if (found === undefined) return DEFAULT_MTU;
  const text = await readFile(`/sys/class/net/${found[0]}/mtu`, "utf8").catch(() => "");
  return Number(text.trim()) || DEFAULT_MTU;
}

/** Names of the network namespaces there are. */
export async function listNamespaces(): Promise<readonly string[]> {
  return readdir("/run/netns").catch(() => []);
}
