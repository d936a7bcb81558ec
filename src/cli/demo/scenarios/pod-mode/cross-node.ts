import {
  checkAnswer,
  checkCiphertext,
  checkConntrack,
  checkDecision,
  checkRbac,
  checkVisited,
  packetsOf,
  seenByApp,
} from '../../common-checks.ts';
import { podIdentity } from '../../mesh.ts';
import { observedRequest } from '../../observed-request.ts';
import { clusterNatBetween, routeDecisionText } from '../../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../../scenario.ts';
import { CLIENT, HTTPBIN, VIP, VIP_PORT } from '../cast.ts';
import { checkRedirected, NOTED_MARK, TO_PROXY } from './in-pod.ts';

export const crossNode: Scenario = {
  name: 'cross-node',
  title: 'sleep on node-a asks the ClusterIP, httpbin on node-b answers: redirected in the pods',
  run,
};

async function run(context: ScenarioContext): Promise<ScenarioEvidence> {
  const { observer, decisions, signal } = context;
  const checks = new Checks();
  const delivery = { source: CLIENT.ip, destination: HTTPBIN.ip, destinationPort: HTTPBIN.port };
  const { source, answer, open, records, before, after, visits, wire } = await observedRequest(context, {
    from: CLIENT.name,
    host: VIP,
    port: VIP_PORT,
    whileOpen: ({ ip, port }) => {
      const asked = { source: ip, sourcePort: port, destination: VIP, destinationPort: VIP_PORT };
      return {
        captured: observer.connections('sleep', asked),
        delivered: observer.connections('httpbin', delivery),
        onNodes: [...observer.connections('node-a', asked), ...observer.connections('node-b', delivery)],
      };
    },
    findRecords: async (from) => ({
      outbound: await decisions['node-a'].find((record) => record.source === from, signal),
      inbound: await decisions['node-b'].find((record) => record.source.startsWith(`${CLIENT.ip}:`), signal),
    }),
  });
  const { captured, delivered, onNodes } = open;
  const { outbound, inbound } = records;
  const { tunnel } = outbound ?? {};
  const far = inbound?.tunnel;
  const answering = { source: HTTPBIN.ip, destination: CLIENT.ip, mark: 0x111 };
  const back = observer.route('httpbin', answering);
  const unmarked = observer.route('httpbin', { source: HTTPBIN.ip, destination: CLIENT.ip });
  const origin = seenByApp(answer).origin;

  checkAnswer(checks, CLIENT.name, answer, source);
  checkRedirected(checks, visits, captured, source);
  const translated = clusterNatBetween(before, after, { node: 'node-a', hook: 'prerouting' }, `${VIP}:${VIP_PORT}`);
  checks.is('node-a', 'counters', 'connections that kube-proxy took', translated, 0);
  checks.is('ztunnel-a', 'log', 'original destination', outbound?.originalDestination, `${VIP}:${VIP_PORT}`);
  checkDecision(checks, 'ztunnel-a', outbound, 'hbone');
  checks.is('ztunnel-a', 'log', 'tunnel from', tunnel?.localIdentity, podIdentity(CLIENT.name));
  checks.is('ztunnel-a', 'log', 'tunnel to', tunnel?.peerIdentity, podIdentity(HTTPBIN.name));
  checks.is('ztunnel-a', 'log', ':authority', tunnel?.authority, `${HTTPBIN.ip}:${HTTPBIN.port}`);
  checks.is('nodes', 'conntrack', 'of the request itself, outside the pods', onNodes.length, 0);
  checkCiphertext(checks, wire);
  const toPlaintext = packetsOf(visits, 'httpbin', 'nat-prerouting-3');
  checks.is('httpbin', 'counters', 'packets redirected on their way in', toPlaintext, 0);
  checks.that('ztunnel-b', 'log', 'TLS', far?.tls, /^TLSv1\.3 /.test(far?.tls ?? ''), 'TLSv1.3');
  checks.is('ztunnel-b', 'log', 'peer', far?.peerIdentity, podIdentity(CLIENT.name));
  checkRbac(checks, 'ztunnel-b', inbound);
  checks.is('ztunnel-b', 'log', 'connects from', inbound?.dialledFrom, CLIENT.ip);
  checkVisited(checks, visits, { node: 'httpbin' }, 'mangle-prerouting-1', 'the proxy’s connection is noted');
  checkConntrack(checks, 'httpbin', delivered, 'connection', () => true, 'from the client’s address', NOTED_MARK);
  checks.is('httpbin', 'answer', 'saw as its client', origin, CLIENT.ip);
  checkVisited(checks, visits, { node: 'httpbin' }, 'mangle-output-1', 'its answer gets mark 0x111');
  const asked = (decision: typeof back) => `mark 0x111: ${routeDecisionText(decision)}`;
  checks.is('httpbin', 'routing', 'its answer stays in the pod', asked(back), asked(TO_PROXY));

  return {
    checks: checks.list,
    request: { from: CLIENT.name, to: `http://${VIP}:${VIP_PORT}/get`, source },
    answer: { status: answer.status, elapsedMs: answer.elapsedMs, origin },
    counters: visits,
    routes: [
      { at: 'httpbin', packet: `${HTTPBIN.ip} to ${CLIENT.ip}, no mark`, decision: routeDecisionText(unmarked) },
      { at: 'httpbin', packet: `${HTTPBIN.ip} to ${CLIENT.ip}, mark 0x111`, decision: routeDecisionText(back) },
    ],
    conntrack: [...captured, ...delivered, ...onNodes],
    decisions: [outbound, inbound].filter((record) => record !== undefined),
    wire,
  };
}
