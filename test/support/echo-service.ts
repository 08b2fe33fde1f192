/** A service with one method of each kind, for tests of the transport; messages are strings. */
const encode = (value: string): Buffer => Buffer.from(value, "utf8");
const decode = (bytes: Buffer): string => bytes.toString("utf8");
const text = {
  requestSerialize: encode,
  requestDeserialize: decode,
  responseSerialize: encode,
  responseDeserialize: decode,
};

export const EchoService = {
  unary: { path: "/test.Echo/Unary", requestStream: false, responseStream: false, ...text },
  down: { path: "/test.Echo/Down", requestStream: false, responseStream: true, ...text },
  up: { path: "/test.Echo/Up", requestStream: true, responseStream: false, ...text },
  both: { path: "/test.Echo/Both", requestStream: true, responseStream: true, ...text },
} as const;
