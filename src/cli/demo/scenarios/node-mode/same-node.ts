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

export const sameNode: Scenario = {
  name: 'same-node',
  title: 'sleep asks client2 beside it: the proxy hands over inside itself',
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
    whileOpen: ({ port }) => observer.connections('node-a', { ...flow, sourcePort: port }),
    findRecords: async (from) => {
      const find = (direction: string) =>
        decisions['node-a'].find((record) => record.source === from && record.direction === direction, signal);
      return { outbound: await find('outbound'), inbound: await find('inbound') };
    },
  });
  const { outbound, inbound } = records;
  const { app, origin } = seenByApp(answer);

  checkAnswer(checks, CLIENT.name, answer, source);
  checkVisited(checks, visits, { node: 'node-a' }, 'prerouting-15', 'first packet gets mark 0x100');
  checkVisited(checks, visits, { node: 'node-a', at: 'ztunnel-a' }, 'ztunnel-2', 'TPROXY to 15001');
  checks.is('ztunnel-a', 'log', 'original destination', outbound?.originalDestination, target);
  checkDecision(checks, 'ztunnel-a', outbound, 'local');
  checkRbac(checks, 'ztunnel-a', inbound);
  checks.is(CLIENT2.name, 'answer', 'who answered', app, CLIENT2.name);
  checks.is(CLIENT2.name, 'answer', 'saw as its client', origin, CLIENT.ip);
  checkSilence(checks, wire);
  checkConntrack(checks, 'node-a', open, 'connection', () => true, `from ${source} to ${target}`);

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    conntrack: open,
    decisions: [outbound, inbound].filter((record) => record !== undefined),
    wire,
  };
}
