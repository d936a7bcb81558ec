import {
  checkAnswer,
  checkConntrack,
  checkDecision,
  checkPlaintext,
  checkVisited,
  seenByApp,
} from '../../common-checks.ts';
import { observedRequest } from '../../observed-request.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, NODE_A_IP, OUTSIDE } from '../cast.ts';

export const outsideMesh: Scenario = {
  name: 'outside-mesh',
  title: 'sleep asks a host that is not in the mesh: plain TCP',
  run,
};

async function run(context: ScenarioContext): Promise<ScenarioEvidence> {
  const { observer, decisions, signal } = context;
  const checks = new Checks();
  const target = `${OUTSIDE.far}:${OUTSIDE.port}`;
  const flow = { source: CLIENT.ip, destination: OUTSIDE.far, destinationPort: OUTSIDE.port };
  const { source, answer, open, records, visits, wire } = await observedRequest(context, {
    from: CLIENT.name,
    host: OUTSIDE.far,
    port: OUTSIDE.port,
    whileOpen: () => observer.connections('node-a', flow),
    findRecords: (from) => decisions['node-a'].find((record) => record.source === from, signal),
  });
  const { app, origin } = seenByApp(answer);
  const dialled = open.filter(({ original }) => !original.startsWith(`${source} `));

  checkAnswer(checks, CLIENT.name, answer, source);
  checkVisited(checks, visits, { node: 'node-a' }, 'prerouting-15', 'first packet gets mark 0x100');
  checkVisited(checks, visits, { node: 'node-a', at: 'ztunnel-a' }, 'ztunnel-2', 'TPROXY to 15001');
  checks.is('ztunnel-a', 'log', 'original destination', records?.originalDestination, target);
  checkDecision(checks, 'ztunnel-a', records, 'tcp');
  checkPlaintext(checks, wire);
  const masqueraded = ({ reply }: { reply: string }) => reply.includes(`> ${NODE_A_IP}:`);
  checkConntrack(checks, 'node-a', dialled, 'the proxy’s connection', masqueraded, `answers to ${NODE_A_IP}`);
  checks.is(OUTSIDE.name, 'answer', 'who answered', app, OUTSIDE.name);
  checks.is(OUTSIDE.name, 'answer', 'saw as its client', origin, NODE_A_IP);

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    conntrack: open,
    decisions: records === undefined ? [] : [records],
    wire,
  };
}
