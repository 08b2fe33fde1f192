/**
 * Merging of async iterators. Each source is asked for its next item only when its last one was
 * taken, so a slow reader slows the sources down and nothing piles up.
 */
type Source<T> = AsyncGenerator<T, void>;

/**
 * Items as they come. `stop` is called before the sources are closed: it must end the reads that
 * still wait, as a generator cannot be closed in the middle of one.
 */
export async function* mergeArrivals<T>(
  sources: readonly Source<T>[],
  stop: () => void,
): AsyncGenerator<T, void> {
  const waiting = new Map(sources.map(source => [source, pull(source)]));
  try {
    while (waiting.size > 0) {
      const { source, result } = await Promise.race(waiting.values());
      if (result.done) waiting.delete(source);
      else {
        yield result.value;
        // Behind the others: a source that never pauses must not starve them.
        waiting.delete(source);
        waiting.set(source, pull(source));
      }
    }
  } finally {
    stop();
    await closeAll(sources, [...waiting.values()]);
  }
}

/** Items in the order of `inOrder`, given that each source is in that order itself. */
export async function* mergeSorted<T>(
  sources: readonly Source<T>[],
  inOrder: (a: T, b: T) => boolean,
): AsyncGenerator<T, void> {
  const heads: { source: Source<T>; value: T }[] = [];
  const advance = async (source: Source<T>): Promise<void> => {
    const result = await source.next();
    if (!result.done) heads.push({ source, value: result.value });
  };
  try {
    await Promise.all(sources.map(advance));
    while (heads.length > 0) {
      let best = 0;
      for (const [i, head] of heads.entries()) {
        const leader = heads[best];
        if (leader !== undefined && !inOrder(leader.value, head.value)) best = i;
      }
      const [next] = heads.splice(best, 1);
      if (next === undefined) return;
      yield next.value;
      await advance(next.source);
    }
  } finally {
    await closeAll(sources, []);
  }
}

async function pull<T>(source: Source<T>): Promise<{
  readonly source: Source<T>;
  readonly result: IteratorResult<T, void>;
}> {
  return { source, result: await source.next() };
}

/** Pending reads may fail when their source is closed or aborted: their items are not wanted. */
async function closeAll<T>(
  sources: readonly Source<T>[],
  pending: readonly Promise<unknown>[],
): Promise<void> {
  const closing = sources.map(source => source.return());
  await Promise.allSettled(pending);
  await Promise.allSettled(closing);
}
