import { randomUUID } from 'node:crypto';
import { checkAnswer, checkConntrack, checkDecision, checkVisited, seenByApp } from '../../common-checks.ts';
import { HttpConnection } from '../../http-client.ts';
import { visitsBetween } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, MARKER_HEADER, NODE_A_IP, OUTSIDE } from '../cast.ts';

export const outsideMesh: Scenario = {
  name: 'outside-mesh',
  title: 'sleep asks a host that is not in the mesh: plain TCP',
  run,
};

async function run({ lab, observer, link, decisions, signal }: ScenarioContext): Promise<ScenarioEvidence> {
  const checks = new Checks();
  const marker = `plaintext-${randomUUID()}`;
  const target = `${OUTSIDE.far}:${OUTSIDE.port}`;
  decisions['node-a'].skip();
  link.begin(marker);
  const before = observer.counters();

  const connection = await HttpConnection.open(lab.namespace(CLIENT.name), OUTSIDE.far, OUTSIDE.port, signal);
  const source = `${connection.localIp}:${connection.localPort}`;
  const answer = await connection.get(`/get?${marker}`, { [MARKER_HEADER]: marker }, signal).catch((error: unknown) => {
    connection.close();
    throw error;
  });
  const flow = { source: CLIENT.ip, destination: OUTSIDE.far, destinationPort: OUTSIDE.port };
  const tracked = observer.connections('node-a', flow);
  const port = connection.localPort;
  connection.close();
  const outbound = await decisions['node-a'].find((record) => record.source === source, signal);
  const after = await observer.settled(signal);
  const wire = link.end();
  const visits = visitsBetween(before, after);
  const { app, origin } = seenByApp(answer);
  const isCaptured = ({ original }: { original: string }) => original.startsWith(`${CLIENT.ip}:${port} `);
  const dialled = tracked.filter((entry) => !isCaptured(entry));

  checkAnswer(checks, CLIENT.name, answer, source);
  checkVisited(checks, visits, { node: 'node-a' }, 'prerouting-15', 'first packet gets mark 0x100');
  checkVisited(checks, visits, { node: 'node-a', at: 'ztunnel-a' }, 'ztunnel-2', 'TPROXY to 15001');
  checks.is('ztunnel-a', 'log', 'original destination', outbound?.originalDestination, target);
  checkDecision(checks, 'ztunnel-a', outbound, 'tcp');
  const passed = `${wire.tunnelSegments} segments of port 15008, ${wire.plaintextSegments} with plaintext`;
  // The same packet socket that sees no plaintext elsewhere does see it here.
  const isPlain = wire.tunnelSegments === 0 && wire.plaintextSegments > 0;
  checks.that('link', 'wire', 'leaves the node', passed, isPlain, 'plaintext, no tunnel');
  const masqueraded = ({ reply }: { reply: string }) => reply.includes(`> ${NODE_A_IP}:`);
  checkConntrack(checks, 'node-a', dialled, 'the proxy’s connection', masqueraded, `answers to ${NODE_A_IP}`);
  checks.is(OUTSIDE.name, 'answer', 'who answered', app, OUTSIDE.name);
  checks.is(OUTSIDE.name, 'answer', 'saw as its client', origin, NODE_A_IP);

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    conntrack: tracked,
    decisions: outbound === undefined ? [] : [outbound],
    wire,
  };
}
