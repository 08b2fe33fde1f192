import { type Board, type EventLine, type HostRow, STEPS, type TaskChip } from "./board.ts";
import { fill, type Glyphs, type Line, type Span, type Style, span, widthOf } from "./text.ts";

/** The picture of a board: exactly `rows` lines of exactly `columns`. */

export const MIN_COLUMNS = 80;
export const MIN_ROWS = 24;
const MAX_COLUMNS = 120;
const LABEL_COLUMNS = 10;
const MIN_BAR_COLUMNS = 5;
const MAX_BAR_COLUMNS = 40;
const MS_PER_S = 1_000;
const S_PER_MIN = 60;

interface Size {
  readonly columns: number;
  readonly rows: number;
}

export function frameOf(board: Board, size: Size, glyphs: Glyphs): Line[] {
  const columns = Math.min(size.columns, MAX_COLUMNS);
  const rule: Line = [span(glyphs.rule.repeat(columns), "dim")];
  const top: Line[] = [
    spread(
      [span("swarmd", "mark"), span("  a cluster of five Docker hosts", "bold")],
      [span(clock(board.elapsedMs()), "dim")],
      columns,
    ),
    stepsLine(board, glyphs),
    rule,
    [span(board.caption, "bold")],
    [],
    spread([span("HOST  ROLE     STATE", "dim")], legend(glyphs), columns),
    ...board.hosts.map(host => hostLine(host, board.tasks, glyphs)),
    [],
    serviceLine(board, glyphs),
    updateLine(board, columns, glyphs),
    trafficLine(board),
    sharesLine(board, columns, glyphs),
    rule,
  ];
  const room = Math.max(0, size.rows - top.length);
  const events = room === 0 ? [] : board.events.slice(-room).map(eventLine);
  const blank: Line[] = Array.from({ length: room - events.length }, () => []);
  return [...top, ...events, ...blank].slice(0, size.rows).map(line => fill(line, columns, glyphs));
}

/** Minutes and seconds. */
export function clock(ms: number): string {
  const seconds = Math.floor(ms / MS_PER_S);
  const rest = String(seconds % S_PER_MIN).padStart(2, "0");
  return `${String(Math.floor(seconds / S_PER_MIN)).padStart(2, "0")}:${rest}`;
}

/** Seconds with a tenth, for log lines. */
export function stamp(ms: number): string {
  return `${(ms / MS_PER_S).toFixed(1).padStart(5)}s`;
}

function spread(left: Line, right: Line, columns: number): Line {
  const gap = Math.max(1, columns - widthOf(left) - widthOf(right));
  return [...left, span(" ".repeat(gap)), ...right];
}

function stepsLine(board: Board, glyphs: Glyphs): Line {
  const current = STEPS.indexOf(board.step);
  return STEPS.flatMap((name, i): Span[] => {
    const isPast = i < current || board.finished;
    const glyph = isPast ? glyphs.done : i === current ? glyphs.now : glyphs.later;
    const style: Style = isPast ? "good" : i === current ? "bold" : "dim";
    return [span(`${glyph} ${name}`, style), span("  ")];
  });
}

const PHASE_STYLES: Readonly<Record<TaskChip["phase"], Style | null>> = {
  running: null, // The colour of its version.
  starting: "busy",
  stopping: "dim",
  failed: "bad",
  lost: "bad",
};

function legend(glyphs: Glyphs): Line {
  const phases = ["running", "starting", "stopping", "lost"] as const;
  return phases.flatMap(phase => [
    span(`${phase === "running" ? "" : "  "}${glyphs[phase]}`, PHASE_STYLES[phase] ?? "plain"),
    span(` ${phase}`, "dim"),
  ]);
}

/** The first version is drawn as the old one, all others as new. */
export function versionStyle(version: string): Style {
  return version === "v1" ? "old" : "new";
}

function hostLine(host: HostRow, tasks: readonly TaskChip[], glyphs: Glyphs): Line {
  const leads = host.role === "leader";
  const chips = tasks.filter(task => task.host === host.name);
  return [
    span(host.name.padEnd(6), "bold"),
    span(host.role.padEnd(9), leads ? "mark" : "plain"),
    span(host.state.padEnd(16), host.mood),
    ...chips.flatMap(chip => chipSpans(chip, glyphs)),
  ];
}

function chipSpans(chip: TaskChip, glyphs: Glyphs): Span[] {
  const style = PHASE_STYLES[chip.phase] ?? versionStyle(chip.version);
  return [span(`${glyphs[chip.phase]} ${chip.slot} ${chip.version}`, style), span("   ")];
}

function label(text: string): Span {
  return span(text.padEnd(LABEL_COLUMNS), "dim");
}

function serviceLine({ service }: Board, _glyphs: Glyphs): Line {
  if (service === null) return [label("service"), span("none yet", "dim")];
  const whole = service.running === service.replicas;
  return [
    label("service"),
    span(`web  ${service.image}  `),
    span(`${service.running}/${service.replicas} running`, whole ? "good" : "busy"),
  ];
}

function updateLine({ service }: Board, columns: number, glyphs: Glyphs): Line {
  const update = service?.update ?? null;
  if (service === null || update === null) return [label("update"), span("none", "dim")];
  const width = Math.max(MIN_BAR_COLUMNS, Math.min(MAX_BAR_COLUMNS, columns - 45));
  const share = Math.min(1, update.done / Math.max(1, service.replicas));
  const full = Math.round(width * share);
  return [
    label("update"),
    span(glyphs.full.repeat(full), "new"),
    span(glyphs.empty.repeat(width - full), "old"),
    span(`  ${update.done}/${service.replicas}  `),
    span(update.state, update.state === "completed" ? "good" : "busy"),
  ];
}

function trafficLine({ traffic }: Board): Line {
  if (traffic === null) return [label("client"), span("not yet", "dim")];
  const { perSecond, answered, retried, failed } = traffic;
  return [
    label("client"),
    span(`${perSecond.toFixed(0).padStart(3)}/s  `),
    span(`${answered} answered`, "good"),
    span(`, of them ${retried} at a second try  `, retried > 0 ? "plain" : "dim"),
    span(`${failed} failed`, failed > 0 ? "bad" : "dim"),
  ];
}

/** Who answers: the share of each version in the last second, and the rate over time. */
function sharesLine({ traffic }: Board, columns: number, glyphs: Glyphs): Line {
  if (traffic === null) return [label("")];
  const total = Object.values(traffic.shares).reduce((sum, count) => sum + count, 0);
  const parts = Object.entries(traffic.shares)
    .sort(([a], [b]) => a.localeCompare(b))
    .flatMap(([version, count]): Span[] => [
      span(
        `${version} ${Math.round((100 * count) / Math.max(1, total))}%  `,
        versionStyle(version),
      ),
    ]);
  const room = Math.max(0, Math.min(60, columns - LABEL_COLUMNS - 20));
  return [
    label(""),
    span(spark(traffic.history.slice(-room), glyphs), "good"),
    span("  "),
    ...parts,
  ];
}

function spark(values: readonly number[], { levels }: Glyphs): string {
  const top = Math.max(1, ...values);
  const steps = [...levels];
  return values.map(value => steps[Math.round((value / top) * (steps.length - 1))] ?? "").join("");
}

const EVENT_STYLES: Readonly<Record<EventLine["kind"], Style>> = {
  command: "plain",
  fact: "dim",
  fault: "bad",
  result: "good",
};

function eventLine(event: EventLine): Line {
  return [span(`${stamp(event.atMs)}  `, "dim"), span(event.text, EVENT_STYLES[event.kind])];
}
