import type { Test } from "tap";
import type { ApiTask } from "../../cli/types.ts";
import type { Lab, LabHost, UpOptions } from "../lab/lab.ts";
import { type Container, census, must, startLab } from "./e2e.ts";

/** What the end-to-end tests of overlay networks share: a lab, its services, and what they say. */

/** Says the container's name, the image's version and the client's address. */
export const PAGE = "/cgi-bin/index.cgi";
/** RUNNING means that it answers: updates lose nothing only then. */
export const HEALTHY = [
  ...["--health-cmd", `wget -q -O /dev/null http://127.0.0.1${PAGE}`],
  ...["--health-interval", "300ms", "--health-timeout", "2s", "--health-retries", "5"],
];
/** Counts what hosts send each other over the switch. */
export const SEEN_RULES = `table bridge seen {
  counter plain { }
  counter sealed { }
  chain forward {
    type filter hook forward priority 1;
    udp dport { 4789, 4790 } counter name plain
    udp dport 51820 counter name sealed
  }
}
`;
export const QUICK = ["--update-monitor", "500ms", "--rollback-monitor", "500ms"];

/** A task, with what the API says of its addresses. */
export type Attached = ApiTask & {
  readonly NetworksAttachments?: readonly { readonly Addresses?: readonly string[] }[];
};

export interface OverlayRig {
  readonly lab: Lab;
  readonly hosts: readonly LabHost[];
  readonly m1: LabHost;
  /** A service, by m1. */
  create(name: string, ...args: readonly string[]): Promise<string>;
  /** Of a service, on the hosts that are on. */
  containers(service: string): Promise<Container[]>;
  one(service: string, index?: number): Promise<Container>;
  /** Output of a command in the container. */
  inside(where: Container, ...command: readonly string[]): Promise<string>;
  /** What the container gets from there; "FAILED" when nothing. */
  fetch(where: Container, url: string): Promise<string>;
  /** The same of PAGE on that host. */
  page(where: Container, host: string): Promise<string>;
  /** Addresses of a name, sorted. */
  lookUp(where: Container, name: string, type: "a" | "aaaa"): Promise<string[]>;
  /** Its address on a network. */
  addressOf(where: Container, network: string, family?: "ipv4" | "ipv6"): Promise<string>;
}

const FIELDS = { ipv4: "IPAddress", ipv6: "GlobalIPv6Address" } as const;

export async function overlayRig(t: Test, name: string, options?: UpOptions): Promise<OverlayRig> {
  const lab = await startLab(t, name, options);
  const m1 = lab.host("m1");
  const containers = async (service: string): Promise<Container[]> => {
    const all = await census(lab.hosts().filter(host => host.isPoweredOn()));
    return all.filter(({ labels }) => labels["com.docker.swarm.service.name"] === service);
  };
  const inside = async (where: Container, ...command: readonly string[]): Promise<string> =>
    lab.host(where.host).docker(["exec", where.id, ...command]);
  const fetch = (where: Container, url: string): Promise<string> =>
    inside(where, "timeout", "5", "wget", "-q", "-O", "-", url).catch(() => "FAILED");
  return {
    lab,
    hosts: lab.hosts(),
    m1,
    create: (service, ...args) =>
      must(m1, "service", "create", "-d", "--name", service, ...QUICK, ...args),
    containers,
    one: async (service, index = 0) => {
      const found = (await containers(service))[index];
      if (found === undefined) throw new Error(`no container ${index} of ${service}`);
      return found;
    },
    inside,
    fetch,
    page: (where, host) => fetch(where, `http://${host}${PAGE}`),
    lookUp: async (where, asked, type) => {
      const command = `nslookup -type=${type} ${asked} 127.0.0.11 || true`;
      const text = await inside(where, "sh", "-c", command);
      const answer = text.slice(text.indexOf("Name:"));
      const form = type === "a" ? /^Address:\s+(\d+\.\d+\.\d+\.\d+)$/gm : /^Address:\s+(\S+)$/gm;
      return [...answer.matchAll(form)].map(match => match[1] ?? "").sort();
    },
    addressOf: async (where, network, family = "ipv4") => {
      const format = `{{(index .NetworkSettings.Networks "${network}").${FIELDS[family]}}}`;
      return (await lab.host(where.host).docker(["inspect", "-f", format, where.id])).trim();
    },
  };
}
