import { chmod, rm } from "node:fs/promises";
import { build, type Plugin } from "esbuild";
import { NODE_FLAGS } from "./node-flags.ts";

/**
 * One small entry, `dist/swarmd.js`, that answers at once, and chunks it loads when a command needs
 * them (the daemon is one). Only the native package stays outside. The Engine is reached by a
 * local socket, so the ssh client that dockerode brings along is left out: it costs memory on
 * every node.
 */
const withoutSsh: Plugin = {
  name: "without-ssh",
  setup(context) {
    context.onResolve({ filter: /^ssh2$/ }, () => ({ path: "ssh2", namespace: "left-out" }));
    context.onLoad({ filter: /.*/, namespace: "left-out" }, () => ({
      contents: "module.exports = { Client: class {} };",
    }));
  },
};

/** `env -S` splits its argument: the kernel hands a script's interpreter only one. */
const SHEBANG = `#!/usr/bin/env -S node ${NODE_FLAGS.join(" ")}\n`;
const REQUIRE =
  "import { createRequire as __createRequire } from 'node:module';\nimport { dirname as __dirnameOf } from 'node:path';\nimport { fileURLToPath as __toPath } from 'node:url';\nconst require = __createRequire(import.meta.url);\nconst __filename = __toPath(import.meta.url);\nconst __dirname = __dirnameOf(__filename);";

await rm("dist", { recursive: true, force: true });
await build({
  entryPoints: { swarmd: "cli/main.ts" },
  outdir: "dist",
  bundle: true,
  splitting: true,
  platform: "node",
  target: "node20",
  format: "esm",
  external: ["classic-level"],
  plugins: [withoutSsh],
  sourcemap: process.argv.includes("--sourcemap") ? "linked" : false,
  minifySyntax: true,
  legalComments: "none",
  chunkNames: "chunk-[hash]",
  banner: { js: SHEBANG + REQUIRE },
});
await chmod("dist/swarmd.js", 0o755);
