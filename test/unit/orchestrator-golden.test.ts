import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { runScript } from "../golden/planner/script.ts";

/** `UPDATE_GOLDEN=1` writes what the planners do into the scripts; read the diff before keeping it. */
const REWRITE = process.env["UPDATE_GOLDEN"] === "1";
const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "golden", "planner");

for (const file of readdirSync(folder).sort()) {
  if (!file.endsWith(".txt")) continue;
  t.test(file, t => {
    const path = join(folder, file);
    const expected = readFileSync(path, "utf8");
    const actual = runScript(expected);
    if (REWRITE && actual !== expected) writeFileSync(path, actual);
    else t.equal(actual, expected);
    t.end();
  });
}
