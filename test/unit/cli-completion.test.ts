import { spawnSync } from "node:child_process";
import { Command } from "commander";
import t from "tap";
import { verbsOf } from "../../cli/commands/completion.ts";
import { completionScript } from "../../cli/format/completion.ts";

function program(): Command {
  const root = new Command("swarmd").option("-H, --host <host>", "daemon socket");
  const service = root.command("service").description("Manage services");
  service.command("create").description("It's new").option("--replicas <n>", "how many");
  service.command("ls").description("List services").option("-q, --quiet", "ids");
  root.command("node").description("Manage nodes").command("ls").option("--json", "as JSON");
  return root;
}

function complete(words: readonly string[]): string[] {
  const script = completionScript("bash", verbsOf(program()));
  const list = words.map(word => `'${word}'`).join(" ");
  const ask = `COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _swarmd; echo "\${COMPREPLY[@]}"`;
  const { stdout, status, stderr } = spawnSync("bash", ["-c", `${script}\n${ask}`]);
  if (status !== 0) throw new Error(String(stderr));
  return String(stdout).trim().split(/\s+/);
}

t.test("bash completes verbs and flags where they belong", async t => {
  t.same(complete(["swarmd", ""]), ["service", "node", "--host", "--help"]);
  t.same(complete(["swarmd", "service", "c"]), ["create"]);
  t.same(complete(["swarmd", "service", "create", "--"]), ["--replicas", "--help"]);
  t.same(complete(["swarmd", "-H", "unix:///x", "node", "ls", "--j"]), ["--json"]);
  t.same(complete(["swarmd", "service", "nosuch", "l"]), ["ls"]);
});

t.test("zsh and fish have the same tables", async t => {
  const zsh = completionScript("zsh", verbsOf(program()));
  t.match(zsh, /^#compdef swarmd/);
  t.match(zsh, /"service create"\) candidates="--replicas --help" ;;/);
  const fish = completionScript("fish", verbsOf(program()));
  t.ok(
    fish.includes(
      "complete -c swarmd -f -n 'not __fish_seen_subcommand_from service node' -a node",
    ),
  );
  t.ok(fish.includes("-a create -d 'It\\'s new'"), "descriptions are quoted");
  t.match(
    fish,
    /__fish_seen_subcommand_from service; and __fish_seen_subcommand_from ls' -l quiet/,
  );
});
