import { checkAnswer, checkConntrack, checkDecision, checkPlaintext, seenByApp } from '../../common-checks.ts';
import { observedRequest } from '../../observed-request.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, NODE_A_IP, OUTSIDE } from '../cast.ts';
import { checkRedirected } from './in-pod.ts';

export const outsideMesh: Scenario = {
  name: 'outside-mesh',
  title: 'sleep asks a host that is not in the mesh: plain TCP, from the pod’s own address',
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
    whileOpen: ({ port }) => ({
      captured: observer.connections('sleep', { ...flow, sourcePort: port }),
      dialled: observer.connections('node-a', flow),
    }),
    findRecords: (from) => decisions['node-a'].find((record) => record.source === from, signal),
  });
  const { captured, dialled } = open;
  const { app, origin } = seenByApp(answer);

  checkAnswer(checks, CLIENT.name, answer, source);
  checkRedirected(checks, visits, captured, source);
  checks.is('ztunnel-a', 'log', 'original destination', records?.originalDestination, target);
  checkDecision(checks, 'ztunnel-a', records, 'tcp');
  checkPlaintext(checks, wire);
  const isOwn = ({ original, reply }: { original: string; reply: string }) =>
    !original.startsWith(`${source} `) && reply.includes(`> ${NODE_A_IP}:`);
  const expected = `from the pod, with a port of its own, answers to ${NODE_A_IP}`;
  checkConntrack(checks, 'node-a', dialled, 'the proxy’s connection', isOwn, expected, '0x0');
  checks.is(OUTSIDE.name, 'answer', 'who answered', app, OUTSIDE.name);
  checks.is(OUTSIDE.name, 'answer', 'saw as its client', origin, NODE_A_IP);

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    conntrack: [...captured, ...dialled],
    decisions: records === undefined ? [] : [records],
    wire,
  };
}
