import { createHash, randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import { tar } from "../../lab/tar.ts";

/** Two blocks of zeros end an archive. */
const TRAILER_BYTES = 1_024;
const MIB = 1024 * 1024;
const LAYER_MIB = 64;
const MODE = 0o644;

export const ARCHIVE_IMAGE = "bench/big:1";

function file(path: string, content: Buffer): Buffer {
  return tar([{ path, kind: "file", mode: MODE, content }]);
}

function sha256(data: Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

/** An image of that size as `docker save` writes it, in layers that do not compress. */
export async function writeArchive(path: string, sizeMib: number): Promise<void> {
  const out = await open(path, "w");
  const append = async (name: string, content: Buffer): Promise<void> => {
    await out.appendFile(file(name, content).subarray(0, -TRAILER_BYTES));
  };
  try {
    const layers: { readonly name: string; readonly digest: string }[] = [];
    for (let i = 0; i < sizeMib / LAYER_MIB; i += 1) {
      const layer = file(`data-${i}`, randomBytes(LAYER_MIB * MIB));
      const name = `layer-${i}/layer.tar`;
      layers.push({ name, digest: `sha256:${sha256(layer)}` });
      await append(name, layer);
    }
    const config = Buffer.from(
      JSON.stringify({
        ...{ architecture: "amd64", os: "linux", config: {} },
        rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
      }),
    );
    const Config = `${sha256(config)}.json`;
    await append(Config, config);
    const Layers = layers.map(({ name }) => name);
    const manifest = JSON.stringify([{ Config, RepoTags: [ARCHIVE_IMAGE], Layers }]);
    await append("manifest.json", Buffer.from(manifest));
    await out.appendFile(Buffer.alloc(TRAILER_BYTES));
  } finally {
    await out.close();
  }
}
