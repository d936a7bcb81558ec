import type { DecisionRecord } from './decision-log.ts';
import type { HttpAnswer } from './http-client.ts';
import type { LinkEvidence } from './link-watch.ts';
import type { ConntrackEvidence, RuleVisit } from './observer.ts';
import type { Checks } from './scenario.ts';

/** What a server of the demo says of a request. */
export interface SeenByApp {
  readonly app: string;
  readonly origin: string;
}

/** The server's own words; empty where they cannot be read. */
export function seenByApp({ body }: HttpAnswer): SeenByApp {
  try {
    const { app = '', origin = '' } = JSON.parse(body) as Partial<SeenByApp>;
    return { app, origin: origin.replace(/^::ffff:/, '') };
  } catch {
    return { app: '', origin: '' };
  }
}

/** The client got its answer, and the server saw this address. */
export function checkAnswer(checks: Checks, client: string, answer: HttpAnswer, source: string): void {
  const found = `${answer.status} in ${answer.elapsedMs.toFixed(1)} ms, from ${source}`;
  checks.that(client, 'answer', 'the answer', found, answer.status === 200, 'status 200');
}

/** Packets that a rule counted. */
export function packetsOf(visits: readonly RuleVisit[], node: string, id: string): number {
  return visits.find((visit) => visit.node === node && visit.id === id)?.packets ?? 0;
}

/** A rule was visited at all: how often depends on whether the kernel sent a packet again. */
export function checkVisited(
  checks: Checks,
  visits: readonly RuleVisit[],
  place: { readonly node: string; readonly at?: string },
  id: string,
  what: string,
): void {
  const packets = packetsOf(visits, place.node, id);
  const found = `${id} counted ${packets} ${packets === 1 ? 'packet' : 'packets'}`;
  checks.that(place.at ?? place.node, 'counters', what, found, packets > 0, `${id} counts at least 1 packet`);
}

/**
 * The first of the pod's connection that is tracked, and its mark.
 *
 * @param mark - default 0x210, which node mode gives to what the proxy answers
 */
export function checkConntrack(
  checks: Checks,
  node: string,
  entries: readonly ConntrackEvidence[],
  what: string,
  reply: (entry: ConntrackEvidence) => boolean,
  expected: string,
  mark = '0x210',
): void {
  const entry = entries[0];
  const found = entry === undefined ? undefined : `${entry.original}, answers ${entry.reply}, mark ${entry.mark}`;
  const pass = entry !== undefined && entry.mark === mark && reply(entry);
  checks.that(node, 'conntrack', what, found, pass, `${expected}, mark ${mark}`);
}

/** The link carried the tunnel, and nothing that can be read. */
export function checkCiphertext(checks: Checks, wire: LinkEvidence): void {
  const found = `${wire.tunnelSegments} segments of port 15008 (${wire.tunnelBytes} bytes), ${wire.plaintextSegments} with plaintext`;
  const pass = wire.tunnelSegments > 0 && wire.plaintextSegments === 0 && wire.lost === 0;
  checks.that('link', 'wire', 'between the nodes', found, pass, 'ciphertext alone, no frame lost');
}

/** The same packet socket that sees no plaintext elsewhere does see it here. */
export function checkPlaintext(checks: Checks, wire: LinkEvidence): void {
  const pass = wire.tunnelSegments === 0 && wire.plaintextSegments > 0;
  checks.that('link', 'wire', 'leaves the node', segmentsText(wire), pass, 'plaintext, no tunnel');
}

/** Nothing of it went over the link at all. */
export function checkSilence(checks: Checks, wire: LinkEvidence): void {
  const pass = wire.tunnelSegments === 0 && wire.plaintextSegments === 0 && wire.lost === 0;
  checks.that('link', 'wire', 'between the nodes', segmentsText(wire), pass, 'nothing of it leaves the node');
}

function segmentsText({ tunnelSegments, plaintextSegments }: LinkEvidence): string {
  return `${tunnelSegments} segments of port 15008, ${plaintextSegments} with plaintext`;
}

/** The proxy's decision and where it connected to. */
export function checkDecision(checks: Checks, at: string, record: DecisionRecord | undefined, kind: string): void {
  const found =
    record === undefined ? undefined : `${record.decision.kind}${record.dialled ? ` to ${record.dialled}` : ''}`;
  checks.that(at, 'log', 'decision', found, record?.decision.kind === kind, kind);
}

/** The clause that decided, in one line: an explanation may have many. */
export function rbacText(record: DecisionRecord | undefined): string | undefined {
  const { rbac } = record ?? {};
  if (rbac === undefined) return undefined;
  const reason = typeof rbac.reason === 'string' ? rbac.reason : JSON.stringify(rbac.reason ?? '');
  return `${rbac.allowed ? 'allowed' : 'denied'}: ${reason}`;
}

/** The whole explanation as text. */
export function explanationText(record: DecisionRecord | undefined): string {
  const explanation = record?.rbac?.explanation;
  return typeof explanation === 'string' ? explanation : JSON.stringify(explanation ?? '');
}

export function checkRbac(checks: Checks, at: string, record: DecisionRecord | undefined): void {
  checks.that(at, 'log', 'RBAC', rbacText(record), record?.rbac?.allowed === true, 'allowed');
}
