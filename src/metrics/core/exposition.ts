/** Metrics in the text format that Prometheus reads (version 0.0.4). */
export type MetricType = "gauge" | "counter" | "histogram";

export type MetricLabels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels?: MetricLabels;
  readonly value: number;
  /** Of a histogram's parts: "_bucket", "_sum", "_count". */
  readonly suffix?: string;
}

export interface Family {
  /** In base units: seconds, bytes. A counter's ends in _total. */
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  readonly samples: readonly Sample[];
}

export const EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function gauge(name: string, help: string, value: number, labels?: MetricLabels): Family {
  return family("gauge", name, help, [labels === undefined ? { value } : { value, labels }]);
}

export function counter(name: string, help: string, value: number): Family {
  return family("counter", name, help, [{ value }]);
}

export function family(
  type: MetricType,
  name: string,
  help: string,
  samples: readonly Sample[],
): Family {
  return { name, help, type, samples };
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function labelsText(labels: MetricLabels | undefined): string {
  const pairs = Object.entries(labels ?? {}).map(
    ([key, value]) => `${key}="${escapeLabel(value)}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  return value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value);
}

/** A family without samples is left out. */
export function exposition(families: readonly Family[]): string {
  const lines: string[] = [];
  for (const { name, help, type, samples } of families) {
    if (samples.length === 0) continue;
    lines.push(`# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`);
    lines.push(`# TYPE ${name} ${type}`);
    for (const { suffix = "", labels, value } of samples) {
      lines.push(`${name}${suffix}${labelsText(labels)} ${numberText(value)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}
