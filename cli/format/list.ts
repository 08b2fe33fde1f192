import type { CliContext } from "../context.ts";
import { formatTable } from "./table.ts";
import { compileTemplate } from "./template.ts";

export interface Column<Row> {
  /** The field's name in a template. */
  readonly name: string;
  readonly title: string;
  readonly of: (row: Row) => string;
}

export interface ListFlags {
  readonly quiet?: boolean;
  readonly format?: string;
  readonly json?: boolean;
}

/**
 * Prints a list as the user asked: a table, ids only (`quiet`), a template a line (`table …` keeps
 * the header), or JSON, a line a row with the columns' names.
 */
export function printList<Row>(
  context: CliContext,
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  flags: ListFlags,
  idOf: (row: Row) => string,
): void {
  if (flags.quiet === true && flags.format === undefined) {
    for (const row of rows) context.out(`${idOf(row)}\n`);
    return;
  }
  const named = (row: Row): Record<string, string> =>
    Object.fromEntries(columns.map(column => [column.name, column.of(row)]));
  if (flags.json === true || flags.format === "json") {
    for (const row of rows) context.out(`${JSON.stringify(named(row))}\n`);
    return;
  }
  const format = flags.format ?? "";
  if (format.startsWith("table ")) {
    const template = format.slice("table ".length).replaceAll("\\t", "\t");
    const header = template.replace(/\{\{\s*\.(\w+)\s*\}\}/g, (_all, name: string) => {
      return columns.find(column => column.name === name)?.title ?? name.toUpperCase();
    });
    const print = compileTemplate(template);
    const cells = rows.map(row => print(named(row)).split("\t"));
    context.out(formatTable(header.split("\t"), cells));
    return;
  }
  if (format !== "" && format !== "table") {
    const print = compileTemplate(format);
    for (const row of rows) context.out(`${print(named(row))}\n`);
    return;
  }
  context.out(
    formatTable(
      columns.map(column => column.title),
      rows.map(row => columns.map(column => column.of(row))),
    ),
  );
}
