import {
  checkAnswer,
  checkConntrack,
  checkDecision,
  checkRbac,
  checkSilence,
  checkVisited,
  seenByApp,
} from '../../common-checks.ts';
import { observedRequest } from '../../observed-request.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, CLIENT2 } from '../cast.ts';
import { checkRedirected, NOTED_MARK } from './in-pod.ts';

export const sameNode: Scenario = {
  name: 'same-node',
  title: 'sleep asks client2 beside it: the proxy hands over from one pod into the other',
  run,
};

async function run(context: ScenarioContext): Promise<ScenarioEvidence> {
  const { observer, decisions, signal } = context;
  const checks = new Checks();
  const target = `${CLIENT2.ip}:${CLIENT2.port}`;
  const flow = { source: CLIENT.ip, destination: CLIENT2.ip, destinationPort: CLIENT2.port };
  const { source, answer, open, records, visits, wire } = await observedRequest(context, {
    from: CLIENT.name,
    host: CLIENT2.ip,
    port: CLIENT2.port,
    whileOpen: ({ port }) => ({
      captured: observer.connections('sleep', { ...flow, sourcePort: port }),
      delivered: observer.connections('client2', flow),
      onNode: observer.connections('node-a', flow),
    }),
    findRecords: async (from) => {
      const find = (direction: string) =>
        decisions['node-a'].find((record) => record.source === from && record.direction === direction, signal);
      return { outbound: await find('outbound'), inbound: await find('inbound') };
    },
  });
  const { captured, delivered, onNode } = open;
  const { outbound, inbound } = records;
  const { app, origin } = seenByApp(answer);

  checkAnswer(checks, CLIENT.name, answer, source);
  checkRedirected(checks, visits, captured, source);
  checks.is('ztunnel-a', 'log', 'original destination', outbound?.originalDestination, target);
  checkDecision(checks, 'ztunnel-a', outbound, 'local');
  checkRbac(checks, 'ztunnel-a', inbound);
  checks.is('node-a', 'conntrack', 'connections of sleep to client2', onNode.length, 0);
  checkSilence(checks, wire);
  checkVisited(checks, visits, { node: 'client2' }, 'mangle-prerouting-1', 'the proxy’s connection is noted');
  checkConntrack(checks, 'client2', delivered, 'connection', () => true, 'from the client’s address', NOTED_MARK);
  checks.is(CLIENT2.name, 'answer', 'who answered', app, CLIENT2.name);
  checks.is(CLIENT2.name, 'answer', 'saw as its client', origin, CLIENT.ip);

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    conntrack: [...captured, ...delivered, ...onNode],
    decisions: [outbound, inbound].filter((record) => record !== undefined),
    wire,
  };
}
