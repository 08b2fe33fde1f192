/** The scheduler's reading of constraints is the model's, which validates with it too. */
export {
  type Constraint,
  ENGINE_LABEL_PREFIX,
  labelOf,
  matchesConstraints,
  NODE_LABEL_PREFIX,
  parseConstraints,
} from "../../model/constraint.ts";
