import type { WriteStream } from "node:tty";
import type { Board } from "./board.ts";
import { clock, frameOf, MIN_COLUMNS, MIN_ROWS, stamp } from "./frame.ts";
import { type Glyphs, paint } from "./text.ts";

/** Shows a board until it is closed. */
export interface Screen {
  close(): void;
}

export interface ScreenOptions {
  readonly coloured: boolean;
  readonly glyphs: Glyphs;
}

const FRAME_MS = 100;
const ESC = "\u001b[";
/** xterm's alternate screen keeps what the terminal showed before. */
const ENTER = `${ESC}?1049h${ESC}?25l${ESC}2J`;
const LEAVE = `${ESC}?25h${ESC}?1049l`;

/** Redraws a terminal; only lines that changed are written. */
export class LiveScreen implements Screen {
  readonly #out: WriteStream;
  readonly #board: Board;
  readonly #options: ScreenOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #onResize: () => void;
  #shown: string[] = [];

  constructor(options: ScreenOptions, deps: { readonly out: WriteStream; readonly board: Board }) {
    this.#options = options;
    this.#out = deps.out;
    this.#board = deps.board;
    this.#out.write(ENTER);
    this.#onResize = () => {
      this.#shown = [];
      this.#out.write(`${ESC}2J`);
      this.#draw();
    };
    this.#out.on("resize", this.#onResize);
    this.#timer = setInterval(() => this.#draw(), FRAME_MS);
    this.#draw();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#out.off("resize", this.#onResize);
    this.#out.write(LEAVE);
  }

  #draw(): void {
    const size = { columns: this.#out.columns || MIN_COLUMNS, rows: this.#out.rows || MIN_ROWS };
    const lines = frameOf(this.#board, size, this.#options.glyphs).map(line =>
      paint(line, this.#options.coloured),
    );
    const changed = lines.flatMap((line, i) =>
      line === this.#shown[i] ? [] : [`${ESC}${i + 1};1H${line}${ESC}K`],
    );
    this.#shown = lines;
    if (changed.length > 0) this.#out.write(changed.join(""));
  }
}

const PULSE_MS = 5_000;

/** Lines as things happen, for pipes and logs, and now and then how it stands. */
export class LogScreen implements Screen {
  readonly #board: Board;
  readonly #timer: NodeJS.Timeout;

  constructor(deps: { readonly board: Board; readonly write: (line: string) => void }) {
    const { board, write } = deps;
    this.#board = board;
    board.onEvent(event => write(`${stamp(event.atMs)}  ${event.text}`));
    this.#timer = setInterval(() => {
      const line = this.#pulse();
      if (line !== null) write(`${stamp(board.elapsedMs())}  ${line}`);
    }, PULSE_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #pulse(): string | null {
    const { service, traffic, hosts } = this.#board;
    if (service === null || traffic === null) return null;
    const leader = hosts.find(host => host.role === "leader")?.name ?? "none";
    const update = service.update;
    return [
      `leader ${leader}`,
      `web ${service.running}/${service.replicas} running`,
      ...(update === null ? [] : [`update ${update.done}/${service.replicas} ${update.state}`]),
      `client ${traffic.perSecond.toFixed(0)}/s, ${traffic.answered} answered, ${traffic.failed} failed`,
    ].join("; ");
  }
}

export { clock };
