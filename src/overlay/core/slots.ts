/**
 * Backends of a virtual address sit in numbered slots; a connection takes one at random. When one
 * goes, the last takes its slot, so that a change touches as few elements as it can.
 */
export function nextSlots(
  current: readonly string[],
  wanted: readonly string[],
): readonly string[] {
  const keep = new Set(wanted);
  const known = new Set(current);
  const fresh = wanted.filter(backend => !known.has(backend));
  const slots: string[] = [];
  const holes: number[] = [];
  for (const [i, backend] of current.entries()) {
    if (keep.has(backend)) slots[i] = backend;
    else holes.push(i);
  }
  for (const hole of holes) {
    const next = fresh.shift();
    if (next !== undefined) slots[hole] = next;
  }
  const open = holes.filter(hole => slots[hole] === undefined);
  while (open.length > 0) {
    const last = lastFilled(slots);
    const hole = open.shift();
    if (hole === undefined || last < hole) break;
    slots[hole] = slots[last] ?? "";
    slots.length = last;
  }
  slots.length = lastFilled(slots) + 1;
  return [...slots, ...fresh];
}

function lastFilled(slots: readonly (string | undefined)[]): number {
  let last = slots.length - 1;
  while (last >= 0 && slots[last] === undefined) last -= 1;
  return last;
}
