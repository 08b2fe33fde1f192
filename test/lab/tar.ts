/** Writes POSIX ustar archives: enough for image layers, and the same bytes for the same input. */

export interface TarEntry {
  readonly path: string;
  readonly kind: "file" | "directory" | "symlink";
  readonly mode: number;
  readonly content?: Buffer;
  readonly target?: string;
}

const BLOCK = 512;
const NAME_BYTES = 100;
const TYPE_FLAG = { file: "0", symlink: "2", directory: "5" } as const;

/** Field offsets and widths of POSIX.1-1988 (ustar). */
const FIELD = {
  name: [0, NAME_BYTES],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  target: [157, NAME_BYTES],
  magic: [257, 8],
} as const;

export function tar(entries: readonly TarEntry[]): Buffer {
  const parts = entries.flatMap(entry => {
    const content = entry.content ?? Buffer.alloc(0);
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK);
    return [header(entry, content.length), content, padding];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]);
}

function header(entry: TarEntry, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const put = (field: keyof typeof FIELD, text: string): void => {
    const [offset, width] = FIELD[field];
    if (Buffer.byteLength(text) > width) throw new RangeError(`tar: ${field} too long: ${text}`);
    block.write(text, offset);
  };
  const octal = (field: keyof typeof FIELD, value: number): void =>
    put(field, `${value.toString(8).padStart(FIELD[field][1] - 1, "0")}\0`);
  put("name", entry.path);
  octal("mode", entry.mode);
  octal("uid", 0);
  octal("gid", 0);
  octal("size", size);
  octal("mtime", 0);
  put("type", TYPE_FLAG[entry.kind]);
  put("target", entry.target ?? "");
  put("magic", "ustar\u000000");
  put("checksum", " ".repeat(FIELD.checksum[1]));
  const sum = block.reduce((total, byte) => total + byte, 0);
  put("checksum", `${sum.toString(8).padStart(6, "0")}\0 `);
  return block;
}
