export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

interface Named {
  readonly name: string;
  readonly help: string;
}

/** What may follow these words: verbs and flags. */
export interface Verb {
  readonly words: readonly string[];
  readonly verbs: readonly Named[];
  readonly flags: readonly Named[];
}

/** A script that completes verbs and flags; the tables in it are all it knows. */
export function completionScript(shell: Shell, verbs: readonly Verb[]): string {
  return SCRIPTS[shell](verbs);
}

const namesOf = (list: readonly Named[]): string => list.map(({ name }) => name).join(" ");

/** Both shells have the table as `case` branches: path of words, then candidates. */
function branches(verbs: readonly Verb[]): string {
  return verbs
    .map(({ words, verbs: next, flags }) => {
      const candidates = namesOf([...next, ...flags, { name: "--help", help: "" }]);
      return `    "${words.join(" ")}") candidates="${candidates}" ;;`;
    })
    .join("\n");
}

function bash(verbs: readonly Verb[]): string {
  return `# bash completion of swarmd
_swarmd() {
  local current="\${COMP_WORDS[COMP_CWORD]}" way="" word candidates=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in
      -*) ;;
      *) case " $(_swarmd_candidates "$way") " in
           *" $word "*) way="\${way:+$way }$word" ;;
         esac ;;
    esac
  done
  COMPREPLY=($(compgen -W "$(_swarmd_candidates "$way")" -- "$current"))
}
_swarmd_candidates() {
  local candidates=""
  case "$1" in
${branches(verbs)}
  esac
  printf '%s' "$candidates"
}
complete -o default -F _swarmd swarmd
`;
}

function zsh(verbs: readonly Verb[]): string {
  return `#compdef swarmd
_swarmd_candidates() {
  local candidates=""
  case "$1" in
${branches(verbs)}
  esac
  print -r -- $candidates
}
_swarmd() {
  local way="" word
  for word in "\${(@)words[2,CURRENT-1]}"; do
    [[ "$word" == -* ]] && continue
    if [[ " $(_swarmd_candidates "$way") " == *" $word "* ]]; then way="\${way:+$way }$word"; fi
  done
  compadd -- \${=$(_swarmd_candidates "$way")}
  _files
}
compdef _swarmd swarmd
`;
}

const quote = (text: string): string => `'${text.replace(/['\\]/g, "\\$&")}'`;

/** fish asks each line by itself whether it applies: when just these words have been said. */
function fish(verbs: readonly Verb[]): string {
  const lines = verbs.flatMap(({ words, verbs: next, flags }) => {
    const said = words.map(word => `__fish_seen_subcommand_from ${word}`);
    const open = next.length > 0 ? [`not __fish_seen_subcommand_from ${namesOf(next)}`] : [];
    const when = [...said, ...open].join("; and ");
    const condition = when === "" ? "" : ` -n ${quote(when)}`;
    return [
      ...next.map(
        ({ name, help }) => `complete -c swarmd -f${condition} -a ${name} -d ${quote(help)}`,
      ),
      ...flags.map(
        ({ name, help }) => `complete -c swarmd${condition} -l ${name.slice(2)} -d ${quote(help)}`,
      ),
    ];
  });
  return `# fish completion of swarmd\n${lines.join("\n")}\n`;
}

const SCRIPTS: { readonly [S in Shell]: (verbs: readonly Verb[]) => string } = { bash, zsh, fish };
