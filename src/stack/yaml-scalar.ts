/**
 * What a plain scalar of YAML means to docker's reader (yaml.v3): a mix of YAML 1.2 and 1.1, with
 * octal numbers as 0400 and 0o400, and yes/no as texts.
 */
const WORDS: ReadonlyMap<string, null | boolean | number> = new Map<
  string,
  null | boolean | number
>([
  ["", null],
  ["~", null],
  ["null", null],
  ["Null", null],
  ["NULL", null],
  ["true", true],
  ["True", true],
  ["TRUE", true],
  ["false", false],
  ["False", false],
  ["FALSE", false],
  [".inf", Number.POSITIVE_INFINITY],
  ["+.inf", Number.POSITIVE_INFINITY],
  ["-.inf", Number.NEGATIVE_INFINITY],
  [".nan", Number.NaN],
]);

const INTEGERS: readonly (readonly [RegExp, number])[] = [
  [/^([-+]?)0b([01]+)$/, 2],
  [/^([-+]?)0o([0-7]+)$/, 8],
  [/^([-+]?)0([0-7]+)$/, 8],
  [/^([-+]?)0x([0-9a-fA-F]+)$/, 16],
  [/^([-+]?)(0|[1-9]\d*)$/, 10],
];
const FLOAT = /^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$/;

export function plainScalar(text: string): null | boolean | number | string {
  const word = WORDS.get(text);
  if (word !== undefined) return word;
  if (!/^[-+.\d]/.test(text)) return text;
  const digits = text.replaceAll("_", "");
  for (const [pattern, base] of INTEGERS) {
    const [, sign = "", number = ""] = pattern.exec(digits) ?? [];
    if (number !== "") return Number.parseInt(sign + number, base);
  }
  return FLOAT.test(digits) ? Number(digits) : text;
}
