/**
 * `AbortSignal.any` that leaves nothing behind. Node keeps a combined signal that has listeners until
 * it aborts; a simulated process that is killed never aborts its own, so each run would stay in
 * memory whole. Returns an undo.
 */
export function collectableAny(): () => void {
  const original = AbortSignal.any;
  AbortSignal.any = anyOf;
  return () => {
    AbortSignal.any = original;
  };
}

function anyOf(signals: Iterable<AbortSignal>): AbortSignal {
  const all = [...signals];
  const combined = new AbortController();
  const first = all.find(signal => signal.aborted);
  if (first !== undefined) {
    combined.abort(first.reason);
    return combined.signal;
  }
  const undo: (() => void)[] = [];
  for (const signal of all) {
    const abort = (): void => {
      for (const one of undo) one();
      combined.abort(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    undo.push(() => signal.removeEventListener("abort", abort));
  }
  return combined.signal;
}
