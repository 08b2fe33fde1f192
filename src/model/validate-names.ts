import { refusal } from "./validate-errors.ts";

/*
 * SwarmKit's patterns (manager/controlapi/common.go), written so that no input makes them
 * backtrack for long: its own nest quantifiers, which Go's engine bears and JavaScript's does not.
 */
const DNS_NAME = /^[a-zA-Z0-9](?:[a-zA-Z0-9_-]*[a-zA-Z0-9])?$/;
const OBJECT_NAME = /^[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?$/;

/** RFC 1035: a DNS label. */
const DNS_NAME_MAX = 63;
const OBJECT_NAME_MAX = 64;

/** Names of services and networks. */
export function validateDnsName(name: string): void {
  if (name === "") throw refusal("meta: name must be provided");
  if (!DNS_NAME.test(name)) throw refusal("name must be valid as a DNS name component");
  if (name.length > DNS_NAME_MAX) throw refusal("name must be 63 characters or fewer");
}

/** Names of secrets and configs. */
export function validateObjectName(name: string): void {
  if (name === "") throw refusal("name must be provided");
  if (name.length > OBJECT_NAME_MAX || !OBJECT_NAME.test(name)) {
    throw refusal(
      "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, " +
        "and the start and end character must be [a-zA-Z0-9]",
    );
  }
}
