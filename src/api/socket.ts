import { chmod, chown, mkdir, readFile, stat, unlink } from "node:fs/promises";
import type { Server } from "node:http";
import net from "node:net";
import { dirname } from "node:path";
import { SwarmError } from "../base/errors.ts";

const SOCKET_MODE = 0o660;
const DIR_MODE = 0o755;
/** Unix group whose members may use the socket, as for the Engine's. */
const SOCKET_GROUP = "docker";

/** Listens on a unix socket that only root and the docker group may use. */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: DIR_MODE });
  await removeStaleSocket(path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const gid = await groupId(SOCKET_GROUP);
  if (gid !== null && process.getuid?.() === 0) await chown(path, 0, gid);
  await chmod(path, SOCKET_MODE);
}

/** A socket that nobody answers on is left from a daemon that died. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found === null) return;
  if (!found.isSocket()) {
    throw new SwarmError("failed_precondition", `${path} exists and is not a socket; remove it`);
  }
  if (await answers(path)) {
    const text = `another daemon listens on ${path}; stop it or choose another socket`;
    throw new SwarmError("failed_precondition", text);
  }
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = net.connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

async function groupId(name: string): Promise<number | null> {
  const groups = await readFile("/etc/group", "utf8").catch(() => "");
  const line = groups.split("\n").find(entry => entry.startsWith(`${name}:`));
  const gid = Number(line?.split(":")[2]);
  return line === undefined || !Number.isInteger(gid) ? null : gid;
}
