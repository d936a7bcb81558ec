import type { LabMode } from '../../../lab/index.ts';
import type { Scenario } from '../scenario.ts';
import * as node from './node-mode/index.ts';
import * as pod from './pod-mode/index.ts';

/** What is shown in either mode, in the order in which it runs: the first has the first tunnel between the nodes to itself. */
export const SCENARIO_NAMES = [
  'cross-node',
  'same-node',
  'outside-mesh',
  'plaintext-in',
  'denied',
  'fast-path',
] as const;

/** The scenarios of a mode, by {@link SCENARIO_NAMES}. */
export const scenarios: Readonly<Record<LabMode, readonly Scenario[]>> = {
  node: inOrder(Object.values(node)),
  pod: inOrder(Object.values(pod)),
};

function inOrder(of: readonly Scenario[]): Scenario[] {
  return SCENARIO_NAMES.map((name) => of.find((scenario) => scenario.name === name)!);
}
