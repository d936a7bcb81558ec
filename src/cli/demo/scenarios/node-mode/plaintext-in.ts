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
import { clusterNatBetween, routeDecisionText, visitsBetween } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { HTTPBIN, NODE_A_IP, OUTSIDE, VIP, VIP_PORT } from '../cast.ts';

export const plaintextIn: Scenario = {
  name: 'plaintext-in',
  title: 'a host outside asks httpbin, a node asks the ClusterIP, neither in the mesh: through 15006',
  run,
};

async function run({ lab, observer, decisions, signal }: ScenarioContext): Promise<ScenarioEvidence> {
  const checks = new Checks();
  const target = `${HTTPBIN.ip}:${HTTPBIN.port}`;
  decisions['node-b'].skip();
  const before = observer.counters();

  const connection = await HttpConnection.open(lab.namespace(OUTSIDE.name), HTTPBIN.ip, HTTPBIN.port, signal);
  const source = `${connection.localIp}:${connection.localPort}`;
  const answer = await connection.get('/get', {}, signal).catch((error: unknown) => {
    connection.close();
    throw error;
  });
  const flow = { source: OUTSIDE.ip, destination: HTTPBIN.ip, destinationPort: HTTPBIN.port };
  const captured = observer.connections('node-b', { ...flow, sourcePort: connection.localPort });
  connection.close();
  const inbound = await decisions['node-b'].find((record) => record.source === source, signal);
  const after = await observer.settled(signal);
  const visits = visitsBetween(before, after);

  const connectionOfNode = await HttpConnection.open(lab.namespace('node-a'), VIP, VIP_PORT, signal);
  const answerToNode = await connectionOfNode.get('/get', {}, signal).finally(() => connectionOfNode.close());
  const inboundOfNode = await decisions['node-b'].find(({ source: from }) => from.startsWith(`${NODE_A_IP}:`), signal);
  const onNode = { node: 'node-a', hook: 'output' } as const;
  const translated = clusterNatBetween(after, await observer.settled(signal), onNode, `${VIP}:${VIP_PORT}`);

  const towards = observer.route('node-b', { source: OUTSIDE.ip, destination: HTTPBIN.ip, device: 'eth0' });
  const { origin } = seenByApp(answer);

  checkAnswer(checks, OUTSIDE.name, answer, source);
  const toProxy = { table: 100, local: false, device: 'istioin', gateway: '192.168.126.2' };
  checks.is('node-b', 'routing', 'towards httpbin', routeDecisionText(towards), routeDecisionText(toProxy));
  checkVisited(checks, visits, { node: 'node-b', at: 'ztunnel-b' }, 'ztunnel-3', 'TPROXY to 15006');
  checks.is('ztunnel-b', 'counters', 'packets for 15008', packetsOf(visits, 'node-b', 'ztunnel-1'), 0);
  checks.is('ztunnel-b', 'log', 'listener', inbound?.direction, 'inbound-plaintext');
  checks.is('ztunnel-b', 'log', 'original destination', inbound?.originalDestination, target);
  checkDecision(checks, 'ztunnel-b', inbound, 'accept');
  checks.is('ztunnel-b', 'log', 'peer identity', inbound?.tunnel?.peerIdentity ?? 'none', 'none');
  checkRbac(checks, 'ztunnel-b', inbound);
  checks.is('httpbin', 'answer', 'saw as its client', origin, OUTSIDE.ip);
  checkConntrack(checks, 'node-b', captured, 'connection', () => true, `from ${source} to ${target}`);
  const sourceOfNode = `${connectionOfNode.localIp}:${connectionOfNode.localPort}`;
  checkAnswer(checks, 'node-a', answerToNode, sourceOfNode);
  checks.is('node-a', 'counters', 'connections that kube-proxy took', translated, 1);
  checks.is('ztunnel-b', 'log', 'listener', inboundOfNode?.direction, 'inbound-plaintext');
  checks.is('httpbin', 'answer', 'saw as its client', seenByApp(answerToNode).origin, NODE_A_IP);

  return {
    checks: checks.list,
    request: { from: OUTSIDE.name, to: `http://${target}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    routes: [{ at: 'node-b', packet: `${OUTSIDE.ip} to ${HTTPBIN.ip}, no mark`, decision: routeDecisionText(towards) }],
    conntrack: captured,
    decisions: [inbound, inboundOfNode].filter((record) => record !== undefined),
  };
}
