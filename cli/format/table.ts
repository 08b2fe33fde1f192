/** Columns padded to their widest cell, three spaces apart, as docker's tables. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map(row => (row[column] ?? "").length)),
  );
  const lines = [header, ...rows].map(row =>
    row
      .map((cell, column) =>
        column === row.length - 1 ? cell : cell.padEnd((widths[column] ?? 0) + GAP),
      )
      .join("")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

const GAP = 3;
