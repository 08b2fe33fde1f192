import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../bundle.ts";

/** A change of one place in the source. */
export interface Edit {
  /** From the repository's root. */
  readonly file: string;
  /** Occurs exactly once. */
  readonly from: string;
  readonly to: string;
}

/** What the simulator and the suites need of the repository. */
const COPIED = ["src", "test", "package.json", "tsconfig.json"] as const;

/** The text with the edit made. Throws when its place is not there, or there twice. */
export function edited(text: string, { file, from, to }: Edit): string {
  const parts = text.split(from);
  if (parts.length === 2) return parts.join(to);
  throw new Error(`${file} has this ${parts.length - 1} times, not once:\n${from}`);
}

/** The text of a file of the repository with all edits of it made. */
export async function editedFile(file: string, edits: readonly Edit[]): Promise<string> {
  const text = await readFile(join(ROOT, file), "utf8");
  return edits.filter(edit => edit.file === file).reduce(edited, text);
}

/** Copies the sources to a temporary folder and makes the edits there. Returns the folder. */
export async function copyWith(edits: readonly Edit[]): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-mutant-"));
  for (const part of COPIED) await cp(join(ROOT, part), join(dir, part), { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(dir, "node_modules"));
  for (const file of new Set(edits.map(edit => edit.file))) {
    await writeFile(join(dir, file), await editedFile(file, edits));
  }
  return dir;
}

export async function removeCopy(dir: string): Promise<void> {
  await rm(dir, { recursive: true });
}
