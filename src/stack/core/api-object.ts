/** An object of the Docker API, as the docker command line writes it. */
export type ApiObject = Readonly<Record<string, unknown>>;

function isOmitted(value: unknown): boolean {
  return (
    value === undefined ||
    value === "" ||
    value === 0 ||
    value === false ||
    (Array.isArray(value) && value.length === 0)
  );
}

/** Leaves out what Go's `omitempty` leaves out; an object stays, an optional value is undefined. */
export function omitEmpty(object: ApiObject): ApiObject {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => !isOmitted(value)));
}

/** The field when it was said, also when it is zero. */
export function told(name: string, value: unknown): ApiObject {
  return value === undefined ? {} : { [name]: value };
}

/** A mapping that is left out when it is empty. */
export function mapping<T>(
  map: Readonly<Record<string, T>> | undefined,
): Readonly<Record<string, T>> | undefined {
  return map === undefined || Object.keys(map).length === 0 ? undefined : map;
}
