import type { OverlayNetwork } from "../model/overlay.ts";

/** The Engine's side of networks; may be called only outside of the plugin's handlers. */
export interface EngineSide {
  ensure(network: OverlayNetwork, signal: AbortSignal): Promise<string>;
  remove(engineId: string, signal: AbortSignal): Promise<void>;
}
