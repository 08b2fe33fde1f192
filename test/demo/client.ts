import http from "node:http";
import { createInterface } from "node:readline";
import type { Backend, ClientOrder, ClientReport, FailedTry } from "./wire.ts";

/**
 * A client outside the cluster: sends requests at a steady rate to the backends it is told of, in
 * turn. One that does not answer is left alone for a while and the request goes to another, as a
 * load balancer with health checks has it. Ends with its standard input.
 */

const EVERY_MS = 25;
const REPORT_EVERY_MS = 200;
const ANSWER_TIMEOUT_MS = 500;
const MAX_TRIES = 3;
const LEFT_ALONE_MS = 1_000;
const ANSWER = /^\S+ (v\S+) /;

let backends: readonly Backend[] = [];
const leftAloneUntilMs = new Map<string, number>();
let next = 0;
let report = emptyReport();

interface MutableReport {
  answered: number;
  retried: number;
  failed: number;
  readonly byVersion: Record<string, number>;
  readonly failedTries: FailedTry[];
}

function emptyReport(): MutableReport {
  return { answered: 0, retried: 0, failed: 0, byVersion: {}, failedTries: [] };
}

/** The next in turn that is not left alone; any, when all are. */
function choose(tried: ReadonlySet<string>): Backend | null {
  const untried = backends.filter(backend => !tried.has(backend.id));
  const nowMs = performance.now();
  const fit = untried.filter(backend => (leftAloneUntilMs.get(backend.id) ?? 0) <= nowMs);
  const from = fit.length > 0 ? fit : untried;
  next += 1;
  return from[next % Math.max(1, from.length)] ?? null;
}

function ask(backend: Backend): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = http.get(
      { host: backend.addr, port: backend.port, agent: false, timeout: ANSWER_TIMEOUT_MS },
      response => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("error", reject);
        response.on("end", () => {
          const version = ANSWER.exec(text)?.[1];
          if (response.statusCode === 200 && version !== undefined) resolve(version);
          else reject(new Error("bad answer"));
        });
      },
    );
    call.on("timeout", () => call.destroy(new Error("no answer")));
    call.on("error", reject);
  });
}

function whyOf(error: unknown): FailedTry["why"] {
  if (!(error instanceof Error)) return "bad answer";
  if (error.message === "no answer" || error.message === "bad answer") return error.message;
  const code = "code" in error ? error.code : "";
  if (code === "ECONNREFUSED") return "refused";
  return code === "ECONNRESET" ? "broken off" : "no answer";
}

async function request(): Promise<void> {
  const tried = new Set<string>();
  while (tried.size < MAX_TRIES) {
    const backend = choose(tried);
    if (backend === null) break;
    try {
      const version = await ask(backend);
      report.answered += 1;
      report.retried += tried.size > 0 ? 1 : 0;
      report.byVersion[version] = (report.byVersion[version] ?? 0) + 1;
      return;
    } catch (error) {
      tried.add(backend.id);
      leftAloneUntilMs.set(backend.id, performance.now() + LEFT_ALONE_MS);
      report.failedTries.push({ backend: backend.id, why: whyOf(error) });
    }
  }
  report.failed += 1;
}

function tell(): void {
  const told: ClientReport = report;
  report = emptyReport();
  process.stdout.write(`${JSON.stringify(told)}\n`);
}

createInterface({ input: process.stdin })
  .on("line", line => {
    ({ backends } = JSON.parse(line) as ClientOrder);
  })
  .on("close", () => process.exit(0));
// The terminal's ^C is for the demonstration, which ends its client.
process.on("SIGINT", () => undefined);
setInterval(() => {
  if (backends.length > 0) void request();
}, EVERY_MS);
setInterval(tell, REPORT_EVERY_MS);
