import { checkConntrack, checkVisited } from '../../common-checks.ts';
import type { ConntrackEvidence, RuleVisit } from '../../observer.ts';
import type { Checks } from '../../scenario.ts';
import { CLIENT } from '../cast.ts';

/** What the pod's rules note of a connection in the pod that the proxy has a hand in (facts section 7.2). */
export const NOTED_MARK = '0x111';

/** Where the pod's answers with that mark go: to the proxy's socket, whose address is anybody's. */
export const TO_PROXY = { table: 100, local: true, device: 'lo', gateway: undefined } as const;

/** The client's connection was redirected to the proxy's listener in its pod, and noted. */
export function checkRedirected(
  checks: Checks,
  visits: readonly RuleVisit[],
  captured: readonly ConntrackEvidence[],
  source: string,
): void {
  checkVisited(checks, visits, { node: CLIENT.name }, 'nat-output-6', 'redirected to 15001 as it leaves');
  const isRedirected = ({ reply }: ConntrackEvidence) => reply === `127.0.0.1:15001 > ${source}`;
  const expected = 'answers from 127.0.0.1:15001';
  checkConntrack(checks, CLIENT.name, captured, 'connection', isRedirected, expected, NOTED_MARK);
}
