import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parseDirectives } from "../golden/datadriven.ts";
import { SchedulerScript } from "../golden/scheduler-script.ts";

const DIR = join(import.meta.dirname, "../golden/scheduler");

/** The file with every output replaced by what the run gave. */
function rewritten(source: string, outputs: ReadonlyMap<number, string>): string {
  const lines = source.split("\n");
  const result: string[] = [];
  let skipping = false;
  let pending = "";
  lines.forEach((line, i) => {
    const output = outputs.get(i + 1);
    if (output !== undefined) pending = output;
    if (skipping && line !== "") return;
    skipping = line === "----";
    result.push(line);
    if (skipping && pending !== "") result.push(pending);
    if (skipping) pending = "";
  });
  return result.join("\n");
}

for (const file of readdirSync(DIR).filter(name => name.endsWith(".txt"))) {
  t.test(file, async t => {
    const path = join(DIR, file);
    const source = readFileSync(path, "utf8");
    const script = new SchedulerScript();
    const outputs = new Map<number, string>();
    for (const directive of parseDirectives(source)) {
      const output = script.run(directive);
      outputs.set(directive.line, output);
      if (process.env["GOLDEN_REWRITE"] === undefined) {
        t.equal(output, directive.expected, `line ${directive.line}: ${directive.command}`);
      }
    }
    if (process.env["GOLDEN_REWRITE"] !== undefined) {
      writeFileSync(path, rewritten(source, outputs));
    }
    t.ok(outputs.size > 0);
  });
}
