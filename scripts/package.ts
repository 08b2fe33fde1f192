import { execFileSync } from "node:child_process";
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";

/**
 * `npm run package [-- FILE]`: one archive of all a host needs besides Node.js and an Engine, to be
 * unpacked below /usr/local. The same sources give the same archive.
 */
const ROOT = resolve(import.meta.dirname, "..");
/** The one package that is not in the bundle: its native part is loaded from its own folder. */
const OUTSIDE = "classic-level";
const SHELLS = {
  bash: "share/bash-completion/completions/swarmd",
  zsh: "share/zsh/site-functions/_swarmd",
  fish: "share/fish/vendor_completions.d/swarmd.fish",
} as const;
const DOCS = ["LICENSE", "CHANGELOG.md", "README.md", "docs/operations.md", "docs/errors.md"];
/** Sources and other systems' binaries of the native package. */
const LEFT_OUT = /\/(deps|binding\.(cc|gyp)|prebuilds\/(?!linux-)[^/]+)$/;

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

async function manifestOf(dir: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(dir, "package.json"), "utf8"));
}

/** `name` and all it needs, as folders of node_modules. */
async function withDependencies(name: string, found = new Set<string>()): Promise<Set<string>> {
  if (found.has(name)) return found;
  found.add(name);
  const { dependencies = {} } = await manifestOf(join(ROOT, "node_modules", name));
  for (const needed of Object.keys(dependencies)) await withDependencies(needed, found);
  return found;
}

async function place(tree: string): Promise<void> {
  const lib = join(tree, "lib/swarmd");
  await cp(join(ROOT, "dist"), join(lib, "dist"), { recursive: true });
  const { name, version } = await manifestOf(ROOT);
  await writeFile(
    join(lib, "package.json"),
    `${JSON.stringify({ name, version, type: "module" })}\n`,
  );
  for (const needed of await withDependencies(OUTSIDE)) {
    await cp(join(ROOT, "node_modules", needed), join(lib, "node_modules", needed), {
      recursive: true,
      filter: path => !LEFT_OUT.test(path),
    });
  }
  await mkdir(join(tree, "bin"), { recursive: true });
  await symlink("../lib/swarmd/dist/swarmd.js", join(tree, "bin/swarmd"));
  await copy("packaging/swarmd.service", join(tree, "lib/systemd/system/swarmd.service"));
  for (const doc of DOCS) await copy(doc, join(tree, "share/doc/swarmd", doc.replace("docs/", "")));
  for (const [shell, path] of Object.entries(SHELLS)) {
    const script = run(process.execPath, [join(ROOT, "dist/swarmd.js"), "completion", shell]);
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await writeFile(join(tree, path), script);
  }
}

async function copy(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await cp(join(ROOT, from), to);
  await chmod(to, 0o644);
}

/** Files only: the folders of /usr/local stay as they are. */
async function archive(tree: string, file: string): Promise<void> {
  const found = await readdir(tree, { recursive: true, withFileTypes: true });
  const files = found
    .filter(entry => !entry.isDirectory())
    .map(entry => relative(tree, join(entry.path, entry.name)))
    .sort();
  const same = ["--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--mode=go-w"];
  run("tar", [...same, "--use-compress-program=gzip -n", "-cf", file, "-C", tree, ...files]);
}

function run(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { cwd: ROOT, encoding: "utf8" });
}

const { version } = await manifestOf(ROOT);
const file = resolve(process.argv[2] ?? join(ROOT, `swarmd-${version}-linux.tar.gz`));
run(process.execPath, ["--import=tsx", "scripts/build.ts"]);
const tree = await mkdtemp(join(tmpdir(), "swarmd-package-"));
try {
  await chmod(tree, 0o755);
  await place(tree);
  await archive(tree, file);
} finally {
  await rm(tree, { recursive: true });
}
process.stdout.write(`${file}\n`);
