import { newAllocators } from "../allocator/core/allocator.ts";
import { nodeIndexPlanner } from "../allocator/core/node-index.ts";
import type { Planner } from "../model/planner.ts";
import { constraintEnforcer } from "../orchestrator/core/constraint-enforcer.ts";
import { nodeHealthPlanner } from "../orchestrator/core/node-health.ts";
import { reaperPlanner } from "../orchestrator/core/reaper.ts";
import { servicePlanner } from "../orchestrator/core/service-planner.ts";
import { Scheduler } from "../scheduler/core/scheduler.ts";

/** The planners of one term of leadership, in the order of a task's life. */
export function newPlanners(): readonly Planner[] {
  const allocators = newAllocators();
  return [
    nodeIndexPlanner,
    allocators.services,
    allocators.attachments,
    nodeHealthPlanner,
    constraintEnforcer,
    servicePlanner,
    allocators.tasks,
    new Scheduler(),
    reaperPlanner,
  ];
}
