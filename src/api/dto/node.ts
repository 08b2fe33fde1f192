import type { ManagerInfo, NodeView } from "../../control/operations.ts";
import { hostnameOf, type Node, type NodeDescription } from "../../model/rows.ts";
import { metaDto, optional } from "./common.ts";
import { asGoJson } from "./spec.ts";
import { tlsInfoOfNode } from "./tls.ts";

/** Docker's `Node`; `manager` is its part in the Raft group, null for workers. */
export function nodeDto(view: NodeView, manager: ManagerInfo | null): object {
  const { node } = view;
  return {
    ...metaDto(node),
    Spec: {
      ...optional("Name", node.spec.Name),
      Labels: node.spec.Labels ?? {},
      Role: node.spec.Role,
      Availability: node.spec.Availability,
    },
    Description: {
      ...optional("Hostname", hostnameOf(node)),
      ...descriptionDto(node.description),
      TLSInfo: node.description === null ? {} : tlsInfoOfNode(node.certificatePem, view),
    },
    Status: {
      State: node.status.state,
      ...optional("Message", node.status.message),
      ...optional("Addr", hostOf(node.status.addr)),
    },
    ...(manager === null
      ? {}
      : {
          ManagerStatus: {
            ...optional("Leader", manager.leader),
            Reachability: manager.reachable ? "reachable" : "unreachable",
            Addr: manager.addr,
          },
        }),
  };
}

function descriptionDto(description: NodeDescription | null): object {
  if (description === null) return { Platform: {}, Resources: {}, Engine: {} };
  const { resources } = description;
  return {
    Platform: { Architecture: description.architecture, OS: description.os },
    Resources: {
      NanoCPUs: resources.nanoCpus,
      MemoryBytes: resources.memoryBytes,
      ...optional("GenericResources", resources.generic.map(asGoJson)),
    },
    Engine: {
      EngineVersion: description.engineVersion,
      ...(Object.keys(description.engineLabels).length > 0
        ? { Labels: description.engineLabels }
        : {}),
      ...optional(
        "Plugins",
        description.plugins.map(plugin => ({ Type: plugin.type, Name: plugin.name })),
      ),
    },
  };
}

/** `10.0.0.1:2377` and `[fd00::1]:2377` without the port; a bare address as it is. */
export function hostOf(addr: Node["status"]["addr"]): string {
  const bracketed = /^\[(.+)\](?::\d+)?$/.exec(addr);
  if (bracketed !== null) return bracketed[1] ?? addr;
  const plain = /^([^:]+):\d+$/.exec(addr);
  return plain?.[1] ?? addr;
}
