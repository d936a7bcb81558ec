import type { Lab } from '../../lab/index.ts';
import type { DecisionLog, DecisionRecord } from './decision-log.ts';
import type { HttpAnswer } from './http-client.ts';
import type { LinkEvidence, LinkWatch } from './link-watch.ts';
import type { ConntrackEvidence, Observer, RuleVisit } from './observer.ts';

/** One thing that was to be seen, and what was. */
export interface Check {
  /** Where: a node, a proxy, a pod, `link`. */
  readonly at: string;
  /** What was read: the kernel's counters or tables, a packet socket, a proxy's log, a pod's answer. */
  readonly from: 'answer' | 'counters' | 'routing' | 'conntrack' | 'log' | 'wire';
  readonly what: string;
  readonly found: string;
  /** Only where it was not found. */
  readonly expected?: string;
  readonly pass: boolean;
}

/** What a scenario shows: the checks in the order in which a packet meets them, and what they were made of. */
export interface ScenarioEvidence {
  readonly checks: readonly Check[];
  readonly request: { readonly from: string; readonly to: string; readonly source: string };
  readonly answer?: Pick<HttpAnswer, 'status' | 'elapsedMs'> & { readonly origin: string };
  readonly counters?: readonly RuleVisit[];
  readonly routes?: readonly { readonly at: string; readonly packet: string; readonly decision: string }[];
  readonly conntrack?: readonly ConntrackEvidence[];
  readonly decisions?: readonly DecisionRecord[];
  readonly wire?: LinkEvidence;
  readonly [key: string]: unknown;
}

/** What a scenario has to work with. */
export interface ScenarioContext {
  readonly lab: Lab;
  readonly observer: Observer;
  readonly link: LinkWatch;
  /** The log of each node's proxy, by the node's name. */
  readonly decisions: Readonly<Record<'node-a' | 'node-b', DecisionLog>>;
  readonly signal: AbortSignal;
}

export interface Scenario {
  readonly name: string;
  /** What is shown, in one line. */
  readonly title: string;
  run(context: ScenarioContext): Promise<ScenarioEvidence>;
}

/** A scenario that ran. `failure` where it could not be carried through. */
export type ScenarioResult = { readonly name: string; readonly title: string; readonly pass: boolean } & (
  | ScenarioEvidence
  | { readonly checks: readonly Check[]; readonly failure: string }
);

/** Collects checks: nothing throws, so that a run shows everything that is wrong. */
export class Checks {
  readonly list: Check[] = [];

  /** Passes where both are the same. */
  is(at: string, from: Check['from'], what: string, found: unknown, expected: unknown): void {
    this.that(at, from, what, found, found === expected, String(expected));
  }

  /** @param expected - for whoever reads that it failed */
  that(at: string, from: Check['from'], what: string, found: unknown, pass: boolean, expected: string): void {
    const check = { at, from, what, found: found === undefined ? 'nothing' : String(found), pass };
    this.list.push(pass ? check : { ...check, expected });
  }
}
