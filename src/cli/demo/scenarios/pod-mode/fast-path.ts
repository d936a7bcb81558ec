import { checkAnswer, checkConntrack, checkVisited, seenByApp } from '../../common-checks.ts';
import { HttpConnection } from '../../http-client.ts';
import { visitsBetween } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, HTTPBIN, VIP, VIP_PORT } from '../cast.ts';
import { NOTED_MARK } from './in-pod.ts';

export const fastPath: Scenario = {
  name: 'fast-path',
  title: 'a second request on the same connection: what its packets need not do again',
  run,
};

/** The one rule that packets between the proxy and the application of its pod go on meeting, both ways. */
const LATER_PACKETS = 'mangle-output-1';

async function run({ lab, observer, signal }: ScenarioContext): Promise<ScenarioEvidence> {
  const checks = new Checks();
  const before = observer.counters();
  const connection = await HttpConnection.open(lab.namespace(CLIENT.name), VIP, VIP_PORT, signal);
  const source = `${connection.localIp}:${connection.localPort}`;
  try {
    const first = await connection.get('/get?first', {}, signal);
    const between = await observer.settled(signal);
    const second = await connection.get('/get?second', {}, signal);
    const after = await observer.settled(signal);
    const flow = { source: connection.localIp, sourcePort: connection.localPort };
    const tracked = observer.connections('sleep', { ...flow, destination: VIP, destinationPort: VIP_PORT });
    const toHttpbin = { source: CLIENT.ip, destination: HTTPBIN.ip, destinationPort: HTTPBIN.port };
    const delivered = observer.connections('httpbin', toHttpbin);
    const visitedFirst = visitsBetween(before, between);
    const visitedSecond = visitsBetween(between, after);
    const beyond = visitedSecond.filter(({ id }) => id !== LATER_PACKETS).map(({ id }) => id);
    const skipped = visitedFirst.filter(({ node, id }) => !visitedSecond.some((v) => v.node === node && v.id === id));

    checkAnswer(checks, CLIENT.name, first, source);
    checkVisited(checks, visitedFirst, { node: 'sleep' }, 'nat-output-6', 'packet 1 is redirected to 15001');
    const isRedirected = ({ reply }: { reply: string }) => reply === `127.0.0.1:15001 > ${source}`;
    checkConntrack(
      checks,
      'sleep',
      tracked,
      'which is noted',
      isRedirected,
      'answers from 127.0.0.1:15001',
      NOTED_MARK,
    );
    checkAnswer(checks, CLIENT.name, second, source);
    checkVisited(
      checks,
      visitedSecond,
      { node: 'sleep' },
      LATER_PACKETS,
      'later packets: mark 0x111 by the connection’s',
    );
    checkVisited(
      checks,
      visitedSecond,
      { node: 'httpbin' },
      LATER_PACKETS,
      'later answers: the same, and they stay in the pod',
    );
    checkConntrack(checks, 'httpbin', delivered, 'by the connection’s mark', () => true, 'to httpbin', NOTED_MARK);
    const skippedIds = skipped.map(({ node, id }) => `${id} of ${node}`);
    const wanted = ['nat-output-6 of sleep', 'mangle-prerouting-1 of sleep', 'nat-output-5 of httpbin'];
    const isShort = wanted.every((id) => skippedIds.includes(id)) && beyond.length === 0;
    const expected = `${wanted.join(', ')}; and met only ${LATER_PACKETS}`;
    checks.that('pods', 'counters', 'later packets did not visit', skippedIds.join(', '), isShort, expected);

    return {
      checks: checks.list,
      request: { from: CLIENT.name, to: `http://${VIP}:${VIP_PORT}/get, twice`, source },
      answer: { status: second.status, elapsedMs: second.elapsedMs, origin: seenByApp(second).origin },
      firstRequest: { elapsedMs: first.elapsedMs, counters: visitedFirst },
      secondRequest: { elapsedMs: second.elapsedMs, counters: visitedSecond },
      notVisitedAgain: skipped.map(({ node, id, rule }) => ({ node, id, rule })),
      conntrack: [...tracked, ...delivered],
    };
  } finally {
    connection.close();
  }
}
