import t from "tap";
import { realClock } from "../../src/system/real.ts";
import { readContainerLogs } from "../../src/worker/docker/container-logs.ts";
import { DockerEngine } from "../../src/worker/docker/engine.ts";
import type { LogReadOptions } from "../../src/worker/executor.ts";
import { FakeEngine } from "../support/fake-engine.ts";

interface Line {
  readonly stream: "stdout" | "stderr";
  readonly text: string;
  readonly at: number;
}

const OPTIONS: LogReadOptions = {
  stdout: true,
  stderr: true,
  follow: false,
  tail: -1,
  sinceMs: 0,
};

function frame({ stream, text, at }: Line): Buffer {
  const stamp = `2026-01-01T00:00:00.${String(at).padStart(9, "0")}Z`;
  const data = Buffer.from(`${stamp}  ${text}\n`);
  const header = Buffer.alloc(8);
  header.writeUInt8(stream === "stdout" ? 1 : 2, 0);
  header.writeUInt32BE(data.length, 4);
  return Buffer.concat([header, data]);
}

/** Reads as the Engine does: the last lines first, then the streams. */
function answerLike(lines: readonly Line[], asked: string[]): FakeEngine {
  const engine = new FakeEngine();
  engine.on("GET /containers/c/logs", (request, response) => {
    const { searchParams: query } = new URL(request.url ?? "", "http://d");
    asked.push(query.get("tail") ?? "");
    const sinceNs = Number((query.get("since") ?? "0.0").split(".")[1]);
    const tail = query.get("tail") === "all" ? lines.length : Number(query.get("tail"));
    response.writeHead(200);
    for (const line of lines.slice(Math.max(0, lines.length - tail))) {
      if (line.at >= sinceNs && query.get(line.stream) === "1") response.write(frame(line));
    }
    response.end();
  });
  return engine;
}

t.test("the last lines are those of the streams asked for", async t => {
  const lines: Line[] = [];
  for (let at = 0; at < 200; at++) {
    lines.push({ stream: at % 50 === 0 ? "stdout" : "stderr", text: `l${at}`, at });
  }
  const { signal } = new AbortController();
  const asked: string[] = [];
  const fake = answerLike(lines, asked);
  await fake.start();
  t.teardown(() => fake.close());
  const engine = new DockerEngine({ socketPath: fake.socketPath }, { clock: realClock });
  const read = async (options: Partial<LogReadOptions>): Promise<string[]> => {
    const texts: string[] = [];
    const source = { containerId: "c", tty: false };
    const all = { ...OPTIONS, ...options };
    for await (const { data } of readContainerLogs(engine, source, all, signal)) {
      texts.push(new TextDecoder().decode(data).trim());
    }
    return texts;
  };
  t.same(await read({ stderr: false, tail: 1 }), ["l150"]);
  t.same(asked.splice(0), ["1", "8", "64", "all"], "farther back each time");
  t.same(await read({ stderr: false, tail: 3 }), ["l50", "l100", "l150"]);
  t.same(await read({ stderr: false, tail: 9 }), ["l0", "l50", "l100", "l150"]);
  t.same(await read({ stdout: false, tail: 2 }), ["l198", "l199"]);
  t.same(await read({ stderr: false, tail: 0 }), []);
  asked.splice(0);
  t.same(await read({ tail: 2 }), ["l198", "l199"]);
  t.same(asked, ["2"], "with both, as the Engine does");
});
