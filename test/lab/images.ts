import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { LabError } from "./errors.ts";
import { must } from "./run.ts";
import { type TarEntry, tar } from "./tar.ts";

/**
 * The lab's images. All of them share one layer, so an Engine unpacks it once and the rest is
 * configuration; equal input gives equal image ids on every host, as pulls by digest would.
 */

export interface ImageSpec {
  readonly tag: string;
  readonly cmd: readonly string[];
  readonly env?: readonly string[];
  readonly port?: number;
}

const VERSIONS = ["1", "2", "3"] as const;

export const IMAGES: readonly ImageSpec[] = [
  { tag: "busybox:latest", cmd: ["sh"] },
  ...VERSIONS.map(v => ({ tag: `swarmd/web:${v}`, cmd: ["web"], env: [`APPVER=${v}`], port: 80 })),
  ...[...VERSIONS, "fail", "done"].map(v => ({
    tag: `swarmd/app:${v}`,
    cmd: ["app"],
    env: [`APPVER=${v}`],
  })),
];

/** The shell is pid 1: without the trap the kernel would drop SIGTERM. */
const WEB = `#!/bin/sh
trap 'exit 0' TERM INT
httpd -f -p "\${PORT:-80}" -h /www &
wait $!
`;

/** Answers "HOSTNAME VERSION CLIENT", for example "3f2a9c01d7be v1 10.77.0.254". */
const WEB_INDEX = `#!/bin/sh
read -r name </etc/hostname
client=\${REMOTE_ADDR#[} client=\${client%]} client=\${client#::ffff:}
printf 'Content-Type: text/plain\\r\\n\\r\\n%s v%s %s\\n' "$name" "$APPVER" "$client"
`;

const APP = `#!/bin/sh
trap 'echo "app v$APPVER stops"; exit 0' TERM INT
echo "app v$APPVER starts"
case "$APPVER" in
fail) echo 'app fails' >&2; exit 1 ;;
done) exit 0 ;;
esac
while :; do sleep 3600 & wait $!; done
`;

const PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP = "root:x:0:\nnogroup:x:65534:\n";
const BUSYBOX_PLACES = ["/bin/busybox", "/usr/bin/busybox"];
const DIRECTORIES = "bin dev etc proc root run sys tmp usr usr/bin var var/tmp www www/cgi-bin";
const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };
const PT_INTERP = 3;
const LOAD_TIMEOUT_MS = 60_000;

/** Writes the archive that `docker load` takes. */
export async function writeImages(file: string): Promise<void> {
  const layer = tar(await rootFiles());
  const layerDigest = sha256(layer);
  const configs = IMAGES.map(image => {
    const content = Buffer.from(JSON.stringify(imageConfig(image, layerDigest)));
    return { tag: image.tag, path: `${sha256(content)}.json`, content };
  });
  const manifest = configs.map(config => ({
    Config: config.path,
    RepoTags: [config.tag],
    Layers: ["layer.tar"],
  }));
  const archive = tar([
    plainFile("layer.tar", layer),
    ...configs.map(config => plainFile(config.path, config.content)),
    plainFile("manifest.json", Buffer.from(JSON.stringify(manifest))),
  ]);
  await writeFile(file, archive);
}

export async function loadImages(host: string, dockerSocket: string, file: string): Promise<void> {
  await must(host, ["docker", "-H", `unix://${dockerSocket}`, "load", "-q", "-i", file], {
    timeoutMs: LOAD_TIMEOUT_MS,
  });
}

function imageConfig(image: ImageSpec, layerDigest: string): object {
  return {
    architecture: GO_ARCHITECTURES[process.arch] ?? process.arch,
    os: "linux",
    created: "2024-01-01T00:00:00Z",
    config: {
      Env: ["PATH=/bin:/usr/bin", ...(image.env ?? [])],
      Cmd: image.cmd,
      ...(image.port === undefined ? {} : { ExposedPorts: { [`${image.port}/tcp`]: {} } }),
    },
    history: [{ created: "2024-01-01T00:00:00Z", created_by: "swarmd lab" }],
    rootfs: { type: "layers", diff_ids: [`sha256:${layerDigest}`] },
  };
}

async function rootFiles(): Promise<TarEntry[]> {
  const busybox = await findBusybox();
  const applets = (await must("lab", [busybox, "--list"])).split("\n");
  const directories = DIRECTORIES.split(" ").map(
    (path): TarEntry => ({
      path: `${path}/`,
      kind: "directory",
      mode: /tmp$/.test(path) ? 0o1777 : 0o755,
    }),
  );
  const links = applets
    .filter(name => name !== "" && name !== "busybox")
    .map(
      (name): TarEntry => ({
        path: `bin/${name}`,
        kind: "symlink",
        mode: 0o777,
        target: "busybox",
      }),
    );
  return [
    ...directories,
    { path: "bin/busybox", kind: "file", mode: 0o755, content: await readFile(busybox) },
    ...links,
    script("bin/web", WEB),
    script("bin/app", APP),
    script("www/cgi-bin/index.cgi", WEB_INDEX),
    plainFile("etc/passwd", Buffer.from(PASSWD)),
    plainFile("etc/group", Buffer.from(GROUP)),
  ];
}

/** A busybox linked to shared libraries would not start in an empty root. */
async function findBusybox(): Promise<string> {
  for (const path of BUSYBOX_PLACES) {
    const program = await readFile(path).catch(() => null);
    if (program !== null && !needsInterpreter(program)) return path;
  }
  throw new LabError("no static busybox found: run `sh scripts/bootstrap.sh lab`");
}

/** Whether an ELF64 program has a PT_INTERP header (elf(5)), so is linked dynamically. */
function needsInterpreter(elf: Buffer): boolean {
  const start = Number(elf.readBigUInt64LE(32));
  const size = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  const types = Array.from({ length: count }, (_, i) => elf.readUInt32LE(start + i * size));
  return types.includes(PT_INTERP);
}

function script(path: string, text: string): TarEntry {
  return { path, kind: "file", mode: 0o755, content: Buffer.from(text) };
}

function plainFile(path: string, content: Buffer): TarEntry {
  return { path, kind: "file", mode: 0o644, content };
}

function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
