import type { DoctorReport, ProbedThing } from "../../src/model/data-path-status.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";

const NAMES: Readonly<Record<ProbedThing, string>> = {
  node: "nodes",
  control: "control port",
  vxlan: "VXLAN",
  mtu: "full-size packets",
  wireguard: "WireGuard",
};

/** `swarmd network doctor`; exit code 1 when something is not as it should be. */
export async function networkDoctor(
  context: CliContext,
  flags: { readonly json?: boolean },
): Promise<void> {
  const report = await context
    .client()
    .call<DoctorReport>("POST", "/swarmd/v1/network-doctor", { signal: context.signal });
  const failed = report.findings.length + report.moreFindings;
  if (flags.json === true) context.out(`${JSON.stringify(report)}\n`);
  else context.out(doctorText(report));
  if (failed > 0) throw new CliError(`${failed} ${failed === 1 ? "problem" : "problems"} found`);
}

/** The report as a person reads it. */
export function doctorText({ hosts, ways, findings, moreFindings }: DoctorReport): string {
  const probed = hosts.filter(host => host.probed).length;
  const lines = [`${probed} of ${hosts.length} hosts probed each other`];
  for (const { what, tried, open } of ways) {
    const count = `${open} of ${tried} ways`;
    lines.push(`${open === tried ? "ok  " : "FAIL"} ${NAMES[what]}: ${count}`);
  }
  for (const { what, from, to, problem, advice } of findings) {
    const way = to === "" ? from : `${from} -> ${to}`;
    lines.push("", `${way} (${NAMES[what]}): ${problem}`, `  ${advice}`);
  }
  if (moreFindings > 0) lines.push("", `and ${moreFindings} more`);
  if (findings.length === 0) lines.push("nothing is blocked");
  return `${lines.join("\n")}\n`;
}
