import {
  checkAnswer,
  checkCiphertext,
  checkConntrack,
  checkDecision,
  checkRbac,
  checkVisited,
  seenByApp,
} from '../../common-checks.ts';
import { podIdentity } from '../../mesh.ts';
import { observedRequest } from '../../observed-request.ts';
import { clusterNatBetween, routeDecisionText } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, HTTPBIN, VIP, VIP_PORT } from '../cast.ts';

export const crossNode: Scenario = {
  name: 'cross-node',
  title: 'sleep on node-a asks the ClusterIP, httpbin on node-b answers',
  run,
};

async function run(context: ScenarioContext): Promise<ScenarioEvidence> {
  const { observer, decisions, signal } = context;
  const checks = new Checks();
  const toVip = { destination: VIP, destinationPort: VIP_PORT };
  const delivery = { source: CLIENT.ip, destination: HTTPBIN.ip, destinationPort: HTTPBIN.port };
  const { source, answer, open, records, before, after, visits, wire } = await observedRequest(context, {
    from: CLIENT.name,
    host: VIP,
    port: VIP_PORT,
    whileOpen: ({ ip, port }) => ({
      captured: observer.connections('node-a', { ...toVip, source: ip, sourcePort: port }),
      delivered: observer.connections('node-b', delivery),
    }),
    findRecords: async (from) => ({
      outbound: await decisions['node-a'].find((record) => record.source === from, signal),
      inbound: await decisions['node-b'].find((record) => record.source.startsWith(`${CLIENT.ip}:`), signal),
    }),
  });
  const { captured, delivered } = open;
  const { outbound, inbound } = records;

  const packet = { source: CLIENT.ip, destination: VIP, device: CLIENT.veth };
  const unmarked = observer.route('node-a', packet);
  const marked = observer.route('node-a', { ...packet, mark: 0x100 });
  const onNodeB = observer.route('node-b', { source: CLIENT.ip, destination: HTTPBIN.ip, device: 'eth0' });
  const origin = seenByApp(answer).origin;
  const { tunnel } = outbound ?? {};
  const far = inbound?.tunnel;

  checkAnswer(checks, CLIENT.name, answer, source);
  checkVisited(checks, visits, { node: 'node-a' }, 'prerouting-15', 'first packet gets mark 0x100');
  checkVisited(checks, visits, { node: 'node-a' }, 'nat-prerouting-1', 'keeps the ClusterIP');
  const translated = clusterNatBetween(before, after, { node: 'node-a', hook: 'prerouting' }, `${VIP}:${VIP_PORT}`);
  checks.is('node-a', 'counters', 'connections that kube-proxy took', translated, 0);
  const toProxy = { table: 101, local: false, device: 'istioout', gateway: '192.168.127.2' };
  const asked = `mark 0x100: ${routeDecisionText(marked)}`;
  checks.is('node-a', 'routing', 'to the proxy', asked, `mark 0x100: ${routeDecisionText(toProxy)}`);
  checkVisited(checks, visits, { node: 'node-a', at: 'ztunnel-a' }, 'ztunnel-2', 'TPROXY to 15001');
  checks.is('ztunnel-a', 'log', 'original destination', outbound?.originalDestination, `${VIP}:${VIP_PORT}`);
  checkDecision(checks, 'ztunnel-a', outbound, 'hbone');
  checks.is('ztunnel-a', 'log', 'tunnel from', tunnel?.localIdentity, podIdentity(CLIENT.name));
  checks.is('ztunnel-a', 'log', 'tunnel to', tunnel?.peerIdentity, podIdentity(HTTPBIN.name));
  checks.is('ztunnel-a', 'log', ':authority', tunnel?.authority, `${HTTPBIN.ip}:${HTTPBIN.port}`);
  checkCiphertext(checks, wire);
  const toFarProxy = { table: 100, local: false, device: 'istioin', gateway: '192.168.126.2' };
  checks.is('node-b', 'routing', 'towards httpbin', routeDecisionText(onNodeB), routeDecisionText(toFarProxy));
  checkVisited(checks, visits, { node: 'node-b', at: 'ztunnel-b' }, 'ztunnel-1', 'TPROXY to 15008');
  checks.that('ztunnel-b', 'log', 'TLS', far?.tls, /^TLSv1\.3 /.test(far?.tls ?? ''), 'TLSv1.3');
  checks.is('ztunnel-b', 'log', 'peer', far?.peerIdentity, podIdentity(CLIENT.name));
  checkRbac(checks, 'ztunnel-b', inbound);
  checks.is('ztunnel-b', 'log', 'connects from', inbound?.dialledFrom, CLIENT.ip);
  checks.is('httpbin', 'answer', 'saw as its client', origin, CLIENT.ip);
  const fromVip = `${VIP}:${VIP_PORT} > ${source}`;
  checkConntrack(checks, 'node-a', captured, 'connection', ({ reply }) => reply === fromVip, `answers ${fromVip}`);
  checkConntrack(checks, 'node-b', delivered, 'connection', () => true, `from ${CLIENT.ip} to ${HTTPBIN.ip}`);

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${VIP}:${VIP_PORT}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    routes: [
      { at: 'node-a', packet: `${CLIENT.ip} to ${VIP}, no mark`, decision: routeDecisionText(unmarked) },
      { at: 'node-a', packet: `${CLIENT.ip} to ${VIP}, mark 0x100`, decision: routeDecisionText(marked) },
      { at: 'node-b', packet: `${CLIENT.ip} to ${HTTPBIN.ip}, no mark`, decision: routeDecisionText(onNodeB) },
    ],
    conntrack: [...captured, ...delivered],
    decisions: [outbound, inbound].filter((record) => record !== undefined),
    wire,
  };
}
