/** The scheduler's reading of constraints is the model's, which validates with it too. */
export {
  type Constraint,
  compileConstraint,
  labelReader,
  matchesConstraints,
  parseConstraints,
} from "../../model/constraint.ts";
