/** What the data path of this node has done since the daemon's start. They only grow. */
export interface OverlayCounts {
  /** Changes of networks' namespaces that were programmed, and attempts that failed. */
  readonly changes: number;
  readonly failures: number;
  /** Looks at what is there, and those that found something wrong. */
  readonly audits: number;
  readonly repairs: number;
}

/** Plain numbers, for whoever shows them. */
export class OverlayCounters implements OverlayCounts {
  changes = 0;
  failures = 0;
  audits = 0;
  repairs = 0;

  /** As they are now. */
  read(): OverlayCounts {
    const { changes, failures, audits, repairs } = this;
    return { changes, failures, audits, repairs };
  }
}
