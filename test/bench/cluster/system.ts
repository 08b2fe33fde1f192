import type { LabMode } from "../../lab/context.ts";
import type { LabHost } from "../../lab/lab.ts";

/** What is measured: which daemon of a host is the cluster's, and how it is reached and ended. */
export interface System {
  readonly id: "swarmd" | "docker";
  readonly title: string;
  /** How the lab starts for it: its daemons run, in no cluster. */
  readonly mode: LabMode;
  socket(host: LabHost): string;
  pid(host: LabHost): Promise<number | null>;
  /** Starts the daemon again after its end; it answers when this resolves. */
  start(host: LabHost): Promise<void>;
}

export const SWARMD: System = {
  id: "swarmd",
  title: "swarmd",
  mode: "bare",
  socket: host => host.socketPath,
  pid: host => host.pid(),
  start: host => host.start(),
};

/** The Engine's own swarm mode: the Engine is the manager. */
export const DOCKER: System = {
  id: "docker",
  title: "Docker swarm mode",
  mode: "engines-only",
  socket: host => host.dockerSocketPath,
  pid: host => host.enginePid(),
  start: host => host.startEngine(),
};
