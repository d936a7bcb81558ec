import { checkAnswer, checkConntrack, checkVisited, seenByApp } from '../../common-checks.ts';
import { HttpConnection } from '../../http-client.ts';
import { routeDecisionText, visitsBetween } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, VIP, VIP_PORT } from '../cast.ts';

export const fastPath: Scenario = {
  name: 'fast-path',
  title: 'a second request on the same connection: what its packets need not do again',
  run,
};

/** The only rules of node-a and its proxy that later packets of a captured connection may meet (node mode, section 4). */
const LATER_PACKETS = ['prerouting-8', 'prerouting-9', 'prerouting-10', 'prerouting-11', 'forward-2', 'ztunnel-4'];

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
    const tracked = observer.connections('node-a', { ...flow, destination: VIP, destinationPort: VIP_PORT });
    const visitedFirst = visitsBetween(before, between).filter(({ node }) => node === 'node-a');
    const visitedSecond = visitsBetween(between, after).filter(({ node }) => node === 'node-a');
    const secondIds = new Set(visitedSecond.map(({ id }) => id));
    const skipped = visitedFirst.filter(({ id }) => !secondIds.has(id));
    const skippedIds = skipped.map(({ id }) => id);
    const beyond = visitedSecond.filter(({ id }) => !LATER_PACKETS.includes(id)).map(({ id }) => id);
    const direct = observer.route('node-a', { source: CLIENT.ip, destination: VIP, device: CLIENT.veth, mark: 0x40 });

    checkAnswer(checks, CLIENT.name, first, source);
    checkVisited(checks, visitedFirst, { node: 'node-a' }, 'prerouting-15', 'packet 1 is looked up in the pods’ set');
    checkVisited(checks, visitedFirst, { node: 'node-a' }, 'nat-prerouting-1', 'packet 1 keeps the ClusterIP');
    checkVisited(checks, visitedFirst, { node: 'node-a', at: 'ztunnel-a' }, 'ztunnel-2', 'packet 1 meets TPROXY');
    const isMarked = ({ reply }: { reply: string }) => reply.startsWith(`${VIP}:`);
    checkConntrack(checks, 'node-a', tracked, 'the proxy’s answer is noted', isMarked, `answers from ${VIP}`);
    checkAnswer(checks, CLIENT.name, second, source);
    checkVisited(
      checks,
      visitedSecond,
      { node: 'node-a' },
      'prerouting-8',
      'later packets: mark 0x40 by the connection’s',
    );
    const viaVeth = { table: 102, local: false, device: 'vethza', gateway: '10.244.1.2' };
    const asked = `mark 0x40: ${routeDecisionText(direct)}`;
    checks.is('node-a', 'routing', 'straight to the proxy', asked, `mark 0x40: ${routeDecisionText(viaVeth)}`);
    const wanted = ['prerouting-15', 'nat-prerouting-1', 'nat-postrouting-1', 'filter-forward-1', 'ztunnel-2'];
    const isShort = wanted.every((id) => skippedIds.includes(id)) && beyond.length === 0;
    const expected = `${wanted.join(', ')}; and met only ${LATER_PACKETS.join(', ')}`;
    checks.that('node-a', 'counters', 'later packets did not visit', skippedIds.join(', '), isShort, expected);

    return {
      checks: checks.list,
      request: { from: CLIENT.name, to: `http://${VIP}:${VIP_PORT}/get, twice`, source },
      answer: { status: second.status, elapsedMs: second.elapsedMs, origin: seenByApp(second).origin },
      firstRequest: { elapsedMs: first.elapsedMs, counters: visitedFirst },
      secondRequest: { elapsedMs: second.elapsedMs, counters: visitedSecond },
      notVisitedAgain: skipped.map(({ id, rule }) => ({ id, rule })),
      routes: [{ at: 'node-a', packet: `${CLIENT.ip} to ${VIP}, mark 0x40`, decision: routeDecisionText(direct) }],
      conntrack: tracked,
    };
  } finally {
    connection.close();
  }
}
