import type { Chance } from "./chance.ts";
import type { World } from "./world.ts";

export interface WeatherPlan {
  /** Mean length of a storm. */
  readonly stormMs: number;
  /** Share of the time that is stormy; 1 = always. */
  readonly stormShare: number;
}

/** In the calm, activity goes on so much slower. */
const CALM_RATE = 0.02;

interface Spell {
  readonly untilMs: number;
  readonly rate: number;
}

/**
 * Bursts: in a storm clients are busy and faults come thick, so that they meet each other's traces;
 * in the calm between two storms little happens, and what is slow (time-outs, catching up, cleaning
 * up) has time to end. Who acts at random waits in the weather's time, which runs slower in the calm.
 */
export class Weather {
  readonly #plan: WeatherPlan;
  readonly #world: World;
  readonly #chance: Chance;
  /** From the present one on. */
  readonly #spells: Spell[] = [];
  #stormy = false;

  constructor(plan: WeatherPlan, deps: { readonly world: World; readonly chance: Chance }) {
    this.#plan = plan;
    this.#world = deps.world;
    this.#chance = deps.chance;
  }

  /** Runs `fn` once `activeMs` of the weather's time have passed. */
  after(activeMs: number, fn: () => void): void {
    this.#world.after(this.#delayMs(activeMs), fn);
  }

  sleep(activeMs: number): Promise<void> {
    return this.#world.sleep(this.#delayMs(activeMs));
  }

  #delayMs(activeMs: number): number {
    const { nowMs } = this.#world;
    while (this.#spell(0).untilMs <= nowMs) this.#spells.shift();
    let leftMs = activeMs;
    let atMs = nowMs;
    for (let i = 0; ; i += 1) {
      const { untilMs, rate } = this.#spell(i);
      const holdsMs = (untilMs - atMs) * rate;
      if (leftMs <= holdsMs) return atMs + leftMs / rate - nowMs;
      leftMs -= holdsMs;
      atMs = untilMs;
    }
  }

  #spell(at: number): Spell {
    for (;;) {
      const known = this.#spells[at];
      if (known !== undefined) return known;
      const startMs = this.#spells.at(-1)?.untilMs ?? this.#world.nowMs;
      this.#spells.push(this.#next(startMs));
    }
  }

  /** The first spell is a storm. */
  #next(startMs: number): Spell {
    const { stormMs, stormShare } = this.#plan;
    this.#stormy = stormShare >= 1 || !this.#stormy;
    const meanMs = this.#stormy ? stormMs : (stormMs * (1 - stormShare)) / stormShare;
    const untilMs = startMs + this.#chance.exponential(meanMs);
    return { untilMs, rate: this.#stormy ? 1 : CALM_RATE };
  }
}
