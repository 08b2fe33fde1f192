import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import t from "tap";

const ROOT = join(import.meta.dirname, "../..");
const ROWS = 37;

/** Lines of the table, as the numbers of its rows and what shows them. */
function rows(): readonly { readonly numbers: readonly number[]; readonly shownBy: string }[] {
  const text = readFileSync(join(ROOT, "docs/design/raft.md"), "utf8");
  return text
    .split("\n")
    .map(line => line.split("|").map(cell => cell.trim()))
    .filter(([, first = ""]) => /^\d/.test(first))
    .map(([, first = "", , shownBy = ""]) => ({ numbers: first.split(",").map(Number), shownBy }));
}

function testText(): string {
  const folders = ["unit", "e2e"].map(name => join(ROOT, "test", name));
  const files = folders.flatMap(dir => readdirSync(dir).map(name => join(dir, name)));
  const tests = files.filter(path => path.endsWith(".test.ts"));
  return tests.map(path => readFileSync(path, "utf8")).join("\n");
}

t.test("every row of the checklist names tests, and they exist", async t => {
  const all = rows();
  t.same(
    all.flatMap(({ numbers }) => numbers),
    Array.from({ length: ROWS }, (_, i) => i + 1),
  );
  const tests = testText();
  const golden = readdirSync(join(ROOT, "test/golden"), { recursive: true }).map(name =>
    basename(String(name)),
  );
  for (const { numbers, shownBy } of all) {
    const names = [...shownBy.matchAll(/"([^"]+)"/g)].map(([, name = ""]) => name);
    const places = [...shownBy.matchAll(/`([^`]+)`/g)].map(([, place = ""]) => place);
    t.ok(names.length + places.length > 0, `row ${numbers} is shown by something`);
    for (const name of names) {
      t.ok(tests.includes(name), `row ${numbers}: a test is called "${name}"`);
    }
    for (const place of places) {
      if (place.endsWith(".txt")) t.ok(golden.includes(place), `row ${numbers}: ${place}`);
      if (place.startsWith("test/"))
        t.ok(existsSync(join(ROOT, place)), `row ${numbers}: ${place}`);
    }
  }
});
