import { randomUUID } from 'node:crypto';
import { checkAnswer, checkConntrack, checkDecision, checkRbac, checkVisited, seenByApp } from '../../common-checks.ts';
import { HttpConnection } from '../../http-client.ts';
import { visitsBetween } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, CLIENT2, MARKER_HEADER } from '../cast.ts';

export const sameNode: Scenario = {
  name: 'same-node',
  title: 'sleep asks client2 beside it: the proxy hands over inside itself',
  run,
};

async function run({ lab, observer, link, decisions, signal }: ScenarioContext): Promise<ScenarioEvidence> {
  const checks = new Checks();
  const marker = `plaintext-${randomUUID()}`;
  const target = `${CLIENT2.ip}:${CLIENT2.port}`;
  decisions['node-a'].skip();
  link.begin(marker);
  const before = observer.counters();

  const connection = await HttpConnection.open(lab.namespace(CLIENT.name), CLIENT2.ip, CLIENT2.port, signal);
  const source = `${connection.localIp}:${connection.localPort}`;
  const answer = await connection.get(`/get?${marker}`, { [MARKER_HEADER]: marker }, signal).catch((error: unknown) => {
    connection.close();
    throw error;
  });
  const flow = { source: connection.localIp, destination: CLIENT2.ip, destinationPort: CLIENT2.port };
  const captured = observer.connections('node-a', { ...flow, sourcePort: connection.localPort });
  connection.close();
  const outbound = await decisions['node-a'].find(
    (record) => record.source === source && record.direction === 'outbound',
    signal,
  );
  const inbound = await decisions['node-a'].find(
    (record) => record.source.startsWith(`${CLIENT.ip}:`) && record.direction === 'inbound',
    signal,
  );
  const after = await observer.settled(signal);
  const wire = link.end();
  const visits = visitsBetween(before, after);
  const { app, origin } = seenByApp(answer);

  checkAnswer(checks, CLIENT.name, answer, source);
  checkVisited(checks, visits, { node: 'node-a' }, 'prerouting-15', 'first packet gets mark 0x100');
  checkVisited(checks, visits, { node: 'node-a', at: 'ztunnel-a' }, 'ztunnel-2', 'TPROXY to 15001');
  checks.is('ztunnel-a', 'log', 'original destination', outbound?.originalDestination, target);
  checkDecision(checks, 'ztunnel-a', outbound, 'local');
  checkRbac(checks, 'ztunnel-a', inbound);
  checks.is(CLIENT2.name, 'answer', 'who answered', app, CLIENT2.name);
  checks.is(CLIENT2.name, 'answer', 'saw as its client', origin, CLIENT.ip);
  const passed = `${wire.tunnelSegments} segments of port 15008, ${wire.plaintextSegments} with plaintext`;
  const isSilent = wire.tunnelSegments === 0 && wire.plaintextSegments === 0 && wire.lost === 0;
  checks.that('link', 'wire', 'between the nodes', passed, isSilent, 'nothing of it leaves the node');
  checkConntrack(checks, 'node-a', captured, 'connection', () => true, `from ${source} to ${target}`);

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    conntrack: captured,
    decisions: [outbound, inbound].filter((record) => record !== undefined),
    wire,
  };
}
