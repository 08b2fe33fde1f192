import { Argument, type Command } from "commander";
import type { CliContext } from "../context.ts";
import { completionScript, SHELLS, type Shell, type Verb } from "../format/completion.ts";

/** All verbs below `command`, with their flags. */
export function verbsOf(command: Command, words: readonly string[] = []): readonly Verb[] {
  const flags = command.options.flatMap(({ long, description, hidden }) =>
    long === undefined || long === null || hidden ? [] : [{ name: long, help: description }],
  );
  const verbs = command.commands.map(sub => ({ name: sub.name(), help: sub.description() }));
  const below = command.commands.flatMap(sub => verbsOf(sub, [...words, sub.name()]));
  return [{ words, verbs, flags }, ...below];
}

/** `swarmd completion bash|zsh|fish`. */
export function addCompletionCommand(program: Command, context: CliContext): void {
  program
    .command("completion")
    .description("Print a completion script, for example: source <(swarmd completion bash)")
    .addArgument(new Argument("<shell>").choices(SHELLS))
    .action((shell: Shell) => context.out(completionScript(shell, verbsOf(program))));
}
