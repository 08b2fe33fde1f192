import fc from "fast-check";
import t from "tap";
import { filtersQuery } from "../../cli/client.ts";
import { addObjectCommands } from "../../cli/commands/objects.ts";
import { addServiceWriteCommands } from "../../cli/commands/service-write.ts";
import { formatPorts, formatReplicas } from "../../cli/format/columns.ts";
import { humanDuration } from "../../cli/format/human.ts";
import { formatTable } from "../../cli/format/table.ts";
import { compileTemplate } from "../../cli/format/template.ts";
import {
  parseBytes,
  parseCpus,
  parseDuration,
  parseFileReference,
  parseMount,
  parsePublish,
  parseUlimit,
} from "../../cli/service/parse.ts";
import { splitCommand } from "../../cli/service/spec.ts";
import type { ApiService } from "../../cli/types.ts";
import { fakeDaemon, type Ran, runProgram } from "../support/cli-rig.ts";

t.test("values of flags", async t => {
  t.equal(parseDuration("d", "1m30s"), 90e9);
  t.equal(parseDuration("d", "500ms"), 5e8);
  t.equal(parseDuration("d", "0"), 0);
  t.throws(() => parseDuration("restart-delay", "5"), /invalid argument "5" for "--restart-delay"/);
  t.throws(() => parseDuration("d", "1x"), /invalid duration/);
  t.equal(parseBytes("m", "64M"), 64 * 1024 ** 2);
  t.equal(parseBytes("m", "1.5GiB"), 1.5 * 1024 ** 3);
  t.throws(() => parseBytes("limit-memory", "lots"), /invalid size: 'lots'/);
  t.equal(parseCpus("c", "0.5"), 5e8);
  t.throws(() => parseCpus("limit-cpu", "NaN"), /rational number/);
  t.throws(() => parseCpus("limit-cpu", ""), /rational number/);
  t.same(parseUlimit("ulimit", "nofile=10:20"), { Name: "nofile", Soft: 10, Hard: 20 });
});

t.test("ports", async t => {
  t.same(parsePublish("publish", "8080:80"), [
    { Protocol: "tcp", PublishMode: "ingress", TargetPort: 80, PublishedPort: 8080 },
  ]);
  t.same(parsePublish("publish", "published=53,target=53,protocol=udp,mode=host"), [
    { Protocol: "udp", PublishMode: "host", TargetPort: 53, PublishedPort: 53 },
  ]);
  t.equal(parsePublish("publish", "8000-8002:80-82").length, 3);
  t.throws(() => parsePublish("publish", "70000:80"), /invalid port '70000'/);
  t.throws(() => parsePublish("publish", "127.0.0.1:80:80"), /hostip is not supported/);
  t.throws(() => parsePublish("publish", "published=80"), /missing mandatory field "target"/);
  t.throws(() => parsePublish("publish", "8000-8001:80"), /differ in length/);
});

t.test("mounts and files", async t => {
  t.same(parseMount("mount", "type=bind,src=/a,dst=/b,ro,bind-propagation=rslave"), {
    Type: "bind",
    Source: "/a",
    Target: "/b",
    ReadOnly: true,
    BindOptions: { Propagation: "rslave" },
  });
  t.same(parseMount("mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700"), {
    Type: "tmpfs",
    Target: "/t",
    TmpfsOptions: { SizeBytes: 1048576, Mode: 0o700 },
  });
  t.throws(() => parseMount("mount", "type=bind,src=/a"), /target is required/);
  t.throws(() => parseMount("mount", "type=nfs,target=/a"), /invalid mount type 'nfs'/);
  t.throws(() => parseMount("mount", "targte=/a"), /unexpected key 'targte'/);
  t.same(parseFileReference("secret", "source=s,target=x,mode=0400,uid=7"), {
    source: "s",
    file: { UID: "7", GID: "0", Mode: 0o400, Name: "x" },
  });
  t.equal(parseFileReference("config", "c").file.Name, "/c");
});

t.test("command lines are split as a shell would", async t => {
  t.same(splitCommand(`sh -c "echo 'a b'" plain`), ["sh", "-c", "echo 'a b'", "plain"]);
  t.same(splitCommand(`a='x y' b\\`), ["a=x y", "b\\"]);
});

t.test("templates", async t => {
  const data = { ID: "x", Spec: { Name: "web", Labels: { a: "1" } }, List: ["p", "q"], Zero: 0 };
  const show = (source: string): string => compileTemplate(source)(data);
  t.equal(show("{{.ID}} {{.Spec.Name}}"), "x web");
  t.equal(show("{{json .Spec.Labels}}"), '{"a":"1"}');
  t.equal(show("{{.Spec.Name | upper}}"), "WEB");
  t.equal(show('{{join .List ", "}}'), "p, q");
  t.equal(show("{{range .List}}[{{.}}]{{end}}"), "[p][q]");
  t.equal(show('{{if .Zero}}yes{{else}}no{{end}}{{index .Spec.Labels "a"}}'), "no1");
  t.equal(show("{{.Missing}}"), "<no value>");
  t.throws(() => compileTemplate("{{.ID"), /unclosed action/);
  t.throws(() => show("{{bogus .ID}}"), /function "bogus" not defined/);
  t.throws(() => compileTemplate("{{if .ID}}x"), /if without end/);
});

t.test("tables and words", async t => {
  t.equal(
    formatTable(
      ["ID", "NAME"],
      [
        ["1", "a"],
        ["22222", ""],
      ],
    ),
    "ID      NAME\n1       a\n22222\n",
  );
  t.equal(humanDuration(500), "Less than a second");
  t.equal(humanDuration(61_000), "About a minute");
  t.equal(humanDuration(3 * 86_400_000), "3 days");
  fc.assert(
    fc.property(fc.nat(10 ** 12), ms => {
      t.notMatch(humanDuration(ms), /NaN|undefined|-/);
    }),
    { numRuns: 200 },
  );
  t.equal(
    formatPorts([
      { PublishedPort: 80, TargetPort: 8080, Protocol: "tcp", PublishMode: "ingress" },
      { PublishedPort: 81, TargetPort: 81, Protocol: "tcp", PublishMode: "host" },
    ]),
    "*:80->8080/tcp",
  );
  const job = {
    Spec: { Mode: { ReplicatedJob: { TotalCompletions: 5 } } },
    ServiceStatus: { RunningTasks: 1, DesiredTasks: 2, CompletedTasks: 3 },
  } as unknown as ApiService;
  t.equal(formatReplicas(job), "1/2 (3/5 completed)");
});

t.test("filters", async t => {
  t.equal(filtersQuery([]), undefined);
  t.equal(filtersQuery(["name=a", "name=b"]), '{"name":{"a":true,"b":true}}');
  t.throws(() => filtersQuery(["oops"]), /use --filter key=value/);
});

function runService(socket: string, args: readonly string[]): Promise<Ran> {
  return runProgram(socket, ["service", ...args], (program, context) => {
    addServiceWriteCommands(program.command("service").exitOverride(), context);
  });
}

t.test("a secret from standard input is taken byte for byte", async t => {
  const daemon = await fakeDaemon(t, { "POST /secrets/create": { ID: "id1" } });
  const bytes = Uint8Array.from([0, 0xff, 0xfe, 0x80, 0x0a]);
  for (const args of [["key"], ["key", "-"]]) {
    const words = ["secret", "create", ...args];
    const ran = await runProgram(daemon.socket, words, addObjectCommands, bytes);
    t.equal(ran.error, null);
    t.match(daemon.seen.pop()?.body, { Data: Buffer.from(bytes).toString("base64") });
  }
});

t.test("service create says what the flags say", async t => {
  const daemon = await fakeDaemon(t, {
    "POST /services/create": { ID: "id1", Warnings: ["careful"] },
  });
  const ran = await runService(daemon.socket, [
    ...["create", "-d", "--name", "web", "--replicas", "3", "-e", "A=1", "-l", "x=y"],
    ...["--constraint", "node.role==worker", "--limit-memory", "64m", "--reserve-cpu", "0.5"],
    ...["--update-order", "start-first", "--update-parallelism", "2", "--restart-delay", "1s"],
    ...["-p", "8080:80", "--health-cmd", "true", "--health-interval", "2s", "--no-resolve-image"],
    ...["--cap-add", "net_admin", "--init", "busybox:latest", "sleep", "-x", "100"],
  ]);
  t.equal(ran.error, null);
  t.equal(ran.out, "id1\n");
  t.equal(ran.err, "careful\n");
  t.same(daemon.seen[0]?.body, {
    Name: "web",
    Labels: { x: "y" },
    Mode: { Replicated: { Replicas: 3 } },
    TaskTemplate: {
      ContainerSpec: {
        Image: "busybox:latest",
        Args: ["sleep", "-x", "100"],
        Healthcheck: { Test: ["CMD-SHELL", "true"], Interval: 2e9 },
        Init: true,
        Env: ["A=1"],
        CapabilityAdd: ["CAP_NET_ADMIN"],
        CapabilityDrop: [],
      },
      Resources: {
        Limits: { MemoryBytes: 64 * 1024 ** 2 },
        Reservations: { NanoCPUs: 5e8 },
      },
      RestartPolicy: { Delay: 1e9 },
      Placement: { Constraints: ["node.role==worker"] },
    },
    UpdateConfig: {
      Order: "start-first",
      Parallelism: 2,
      Delay: 0,
      Monitor: 5e9,
      FailureAction: "pause",
      MaxFailureRatio: 0,
    },
    EndpointSpec: {
      Ports: [{ Protocol: "tcp", PublishMode: "ingress", TargetPort: 80, PublishedPort: 8080 }],
    },
  });
});

t.test("service update changes only what it is told", async t => {
  const Spec = {
    Name: "web",
    Labels: { keep: "1", drop: "1" },
    Mode: { Replicated: { Replicas: 2 } },
    TaskTemplate: { ContainerSpec: { Image: "a:1", Env: ["A=1", "B=2"] }, ForceUpdate: 4 },
  };
  const daemon = await fakeDaemon(t, {
    "GET /services/web": { ID: "id1", Version: { Index: 7 }, Spec },
    "POST /services/id1/update": { Warnings: null },
  });
  const ran = await runService(daemon.socket, [
    ...[
      "update",
      "-d",
      "--image",
      "a:2",
      "--env-add",
      "B=3",
      "--env-rm",
      "A",
      "--label-rm",
      "drop",
    ],
    ...["--replicas", "5", "--force", "web"],
  ]);
  t.equal(ran.error, null);
  const write = daemon.seen.find(({ method }) => method === "POST");
  t.equal(write?.url, "/services/id1/update?version=7&registryAuthFrom=spec");
  t.same(write?.body, {
    Name: "web",
    Labels: { keep: "1" },
    Mode: { Replicated: { Replicas: 5 } },
    TaskTemplate: { ContainerSpec: { Image: "a:2", Env: ["B=3"] }, ForceUpdate: 5 },
  });
});

t.test("mistakes are named", async t => {
  const daemon = await fakeDaemon(t, {});
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [["create", "--mode", "often", "a"], /Unknown mode: often/],
    [
      ["create", "--mode", "global", "--replicas", "2", "a"],
      /replicas can only be used with replicated/,
    ],
    [["create", "--max-concurrent", "2", "a"], /max-concurrent can only be used/],
    [["create", "--bogus", "a"], /unknown option '--bogus'/],
    [["create"], /missing required argument 'image'/],
    [["create", "--update-order", "random", "a"], /must be one of start-first, stop-first/],
    [["create", "--no-healthcheck", "--health-cmd", "x", "a"], /--no-healthcheck conflicts/],
    [["scale", "web"], /use SERVICE=REPLICAS/],
    [["scale", "web=-1"], /a whole number, 0 or more/],
    [["update", "--rollback", "--image", "a:2", "web"], /may not be combined with --rollback/],
    [["rm", "one", "two"], /no such thing[\s\S]*no such thing/],
  ];
  for (const [args, expected] of cases) {
    const { error } = await runService(daemon.socket, args);
    t.match(error?.message ?? "no error", expected, args.join(" "));
  }
  const gone = await runService("/nonexistent/socket", ["rm", "x"]);
  t.match(
    gone.error?.message,
    /Cannot connect to the swarmd daemon at unix:\/\/\/nonexistent\/socket/,
  );
});
