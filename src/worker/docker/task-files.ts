import { chmod, chown, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { FileMount } from "../core/container-config.ts";
import type { TaskFile } from "../core/task-work.ts";

const DIR_MODE = 0o700;

/**
 * Secrets and configs as files on the host, to be bind-mounted read-only. The folder must be on a
 * tmpfs (`/run`): secrets never reach a disk. Its mode keeps other users out; inside a container
 * only owner, group and mode of the file itself count.
 */
export class TaskFileStore {
  readonly #root: string;

  constructor(options: { readonly dir: string }) {
    this.#root = options.dir;
  }

  /** Writes the files of a task; the same again after a crash. */
  async write(taskId: string, files: readonly TaskFile[]): Promise<readonly FileMount[]> {
    if (files.length === 0) return [];
    const dir = this.#dirOf(taskId);
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true, mode: DIR_MODE });
    const mounts: FileMount[] = [];
    for (const [i, file] of files.entries()) {
      const hostPath = join(dir, `${i}-${file.kind}-${file.id}`);
      await writeFile(hostPath, file.data, { mode: 0o600 });
      await chown(hostPath, file.uid, file.gid);
      await chmod(hostPath, file.mode);
      mounts.push({ hostPath, target: file.target });
    }
    return mounts;
  }

  async remove(taskId: string): Promise<void> {
    await rm(this.#dirOf(taskId), { recursive: true, force: true });
  }

  #dirOf(taskId: string): string {
    return join(this.#root, taskId);
  }
}
