import { type Command, Option } from "commander";

/**
 * Docker's switches take a value after `=`: `--detach=false`, `--read-only=true`. Commander's do not,
 * so such words are put in its terms before it reads them.
 */

const VALUE = /^(--[a-z][a-z0-9-]*)=(true|false|t|f|1|0)$/i;
const TRUE_WORDS: ReadonlySet<string> = new Set(["true", "t", "1"]);
/** After their first argument comes another program's command line. */
const PASS_ON: ReadonlySet<string> = new Set(["create", "daemon"]);
const OFF = "-off";

/** The switch for an explicit no, where that is more than not saying it. */
export function offSwitch(name: string): Option {
  return new Option(`--${name}${OFF}`).hideHelp();
}

/** The words with switches as commander has them. */
export function plainSwitches(program: Command, argv: readonly string[]): string[] {
  const words: string[] = [];
  let command = program;
  for (let i = 0; i < argv.length; i += 1) {
    const word = argv[i] ?? "";
    if (word === "--") return [...words, ...argv.slice(i)];
    if (!word.startsWith("-") || word === "-") {
      const next = command.commands.find(
        one => one.name() === word || one.aliases().includes(word),
      );
      if (next === undefined && PASS_ON.has(command.name())) return [...words, ...argv.slice(i)];
      command = next ?? command;
      words.push(word);
      continue;
    }
    words.push(...plainSwitch(command, word));
    if (takesNext(command, word)) {
      i += 1;
      words.push(...argv.slice(i, i + 1));
    }
  }
  return words;
}

function plainSwitch(command: Command, word: string): readonly string[] {
  const [, name = "", value = ""] = VALUE.exec(word) ?? [];
  const option = command.options.find(one => one.long === name);
  if (option === undefined || option.required || option.optional) return [word];
  if (TRUE_WORDS.has(value.toLowerCase())) return [name];
  return command.options.some(one => one.long === name + OFF) ? [name + OFF] : [];
}

/** Whether the flag's value is the word after it. */
function takesNext(command: Command, word: string): boolean {
  const option = command.options.find(one => one.long === word || one.short === word);
  return option?.required === true;
}
