import {
  checkAnswer,
  checkConntrack,
  checkDecision,
  checkRbac,
  checkVisited,
  packetsOf,
  seenByApp,
} from '../../common-checks.ts';
import { HttpConnection } from '../../http-client.ts';
import { observedRequest } from '../../observed-request.ts';
import { clusterNatBetween, visitsBetween } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { HTTPBIN, NODE_A_IP, OUTSIDE, PROBE_IP, VIP, VIP_PORT } from '../cast.ts';
import { NOTED_MARK } from './in-pod.ts';

export const plaintextIn: Scenario = {
  name: 'plaintext-in',
  title: 'a host outside and a node ask httpbin: through 15006; its own node probes it: past the proxy',
  run,
};

async function run(context: ScenarioContext): Promise<ScenarioEvidence> {
  const { observer, decisions, signal } = context;
  const checks = new Checks();
  const target = `${HTTPBIN.ip}:${HTTPBIN.port}`;
  const flow = { source: OUTSIDE.ip, destination: HTTPBIN.ip, destinationPort: HTTPBIN.port };
  const outside = await observedRequest(context, {
    from: OUTSIDE.name,
    host: HTTPBIN.ip,
    port: HTTPBIN.port,
    whileOpen: ({ port }) => {
      const all = observer.connections('httpbin', flow);
      const isCaptured = ({ original }: { original: string }) => original.startsWith(`${OUTSIDE.ip}:${port} `);
      return { captured: all.filter(isCaptured), delivered: all.filter((entry) => !isCaptured(entry)) };
    },
    findRecords: (from) => decisions['node-b'].find((record) => record.source === from, signal),
  });
  const { source, answer, visits, records: inbound } = outside;
  const { captured, delivered } = outside.open;

  const ofNode = await ask(context, 'node-a', VIP, VIP_PORT);
  const inboundOfNode = await decisions['node-b'].find(({ source: from }) => from.startsWith(`${NODE_A_IP}:`), signal);
  const between = await observer.settled(signal);
  const onNode = { node: 'node-a', hook: 'output' } as const;
  const translated = clusterNatBetween(outside.after, between, onNode, `${VIP}:${VIP_PORT}`);

  const probe = await ask(context, 'node-b', HTTPBIN.ip, HTTPBIN.port);
  const probeVisits = visitsBetween(between, await observer.settled(signal));
  const { origin } = seenByApp(answer);

  checkAnswer(checks, OUTSIDE.name, answer, source);
  checkVisited(checks, visits, { node: 'httpbin' }, 'nat-prerouting-3', 'redirected to 15006 as it comes in');
  const isRedirected = ({ reply }: { reply: string }) => reply === `${HTTPBIN.ip}:15006 > ${source}`;
  checkConntrack(checks, 'httpbin', captured, 'connection', isRedirected, `answers from ${HTTPBIN.ip}:15006`, '0x0');
  checks.is('ztunnel-b', 'log', 'listener', inbound?.direction, 'inbound-plaintext');
  checks.is('ztunnel-b', 'log', 'original destination', inbound?.originalDestination, target);
  checkDecision(checks, 'ztunnel-b', inbound, 'accept');
  checks.is('ztunnel-b', 'log', 'peer identity', inbound?.tunnel?.peerIdentity ?? 'none', 'none');
  checkRbac(checks, 'ztunnel-b', inbound);
  checkConntrack(checks, 'httpbin', delivered, 'the proxy’s connection', () => true, `to ${target}`, NOTED_MARK);
  checks.is('httpbin', 'answer', 'saw as its client', origin, OUTSIDE.ip);
  checkAnswer(checks, 'node-a', ofNode.answer, ofNode.source);
  checks.is('node-a', 'counters', 'connections that kube-proxy took', translated, 1);
  checks.is('ztunnel-b', 'log', 'listener', inboundOfNode?.direction, 'inbound-plaintext');
  checks.is('httpbin', 'answer', 'saw as its client', seenByApp(ofNode.answer).origin, NODE_A_IP);
  checkAnswer(checks, 'node-b', probe.answer, probe.source);
  checkVisited(checks, probeVisits, { node: 'node-b' }, 'host-postrouting-1', 'a probe gets an address of its own');
  checkVisited(checks, probeVisits, { node: 'httpbin' }, 'nat-prerouting-2', 'which the pod lets pass');
  const redirected = packetsOf(probeVisits, 'httpbin', 'nat-prerouting-3');
  checks.is('httpbin', 'counters', 'probes that were redirected', redirected, 0);
  checks.is('httpbin', 'answer', 'saw as its client', seenByApp(probe.answer).origin, PROBE_IP);

  return {
    checks: checks.list,
    request: { from: OUTSIDE.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    probe: { counters: probeVisits, origin: seenByApp(probe.answer).origin },
    conntrack: [...captured, ...delivered],
    decisions: [inbound, inboundOfNode].filter((record) => record !== undefined),
  };
}

async function ask({ lab, signal }: ScenarioContext, from: string, host: string, port: number) {
  const connection = await HttpConnection.open(lab.namespace(from), host, port, signal);
  const source = `${connection.localIp}:${connection.localPort}`;
  const answer = await connection.get('/get', {}, signal).finally(() => connection.close());
  return { source, answer };
}
