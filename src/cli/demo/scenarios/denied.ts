import { checkVisited, explanationText, rbacText } from '../common-checks.ts';
import { askUntilEnd } from '../http-client.ts';
import { DENY_POLICY, NAMESPACE, podIdentity } from '../mesh.ts';
import { visitsBetween } from '../observer.ts';
import { Checks, type Scenario, type ScenarioContext, type ScenarioEvidence } from '../scenario.ts';
import { CLIENT2, HTTPBIN, VIP, VIP_PORT } from './cast.ts';

/** What differs from mode to mode. */
export interface DeniedPlaces {
  /** The rule that captures client2's first packet. */
  readonly captured: { readonly node: string; readonly id: string; readonly what: string };
  /** Who would track a connection that is delivered to httpbin. */
  readonly delivery: string;
}

export function deniedScenario(places: DeniedPlaces): Scenario {
  return {
    name: 'denied',
    title: 'client2 asks httpbin, and a policy of httpbin says no',
    run: (context) => run(context, places),
  };
}

async function run(
  { lab, observer, decisions, signal }: ScenarioContext,
  { captured, delivery }: DeniedPlaces,
): Promise<ScenarioEvidence> {
  const checks = new Checks();
  decisions['node-a'].skip();
  decisions['node-b'].skip();
  const before = observer.counters();

  const question = `GET /get HTTP/1.1\r\nHost: ${VIP}\r\n\r\n`;
  const ending = await askUntilEnd(
    { namespace: lab.namespace(CLIENT2.name), ip: CLIENT2.ip },
    VIP,
    VIP_PORT,
    question,
    signal,
  );
  const source = `${ending.localIp}:${ending.localPort}`;
  const outbound = await decisions['node-a'].find((record) => record.source === source, signal);
  const inbound = await decisions['node-b'].find((record) => record.source.startsWith(`${CLIENT2.ip}:`), signal);
  const after = await observer.settled(signal);
  const visits = visitsBetween(before, after);
  const toHttpbin = { source: CLIENT2.ip, destination: HTTPBIN.ip, destinationPort: HTTPBIN.port };
  const delivered = observer.connections(delivery, toHttpbin);
  const explanation = explanationText(inbound);
  const clause = explanation.split('\n').at(-1)?.trim();

  const how = `${ending.how} after ${ending.bytesReceived} bytes, ${ending.elapsedMs.toFixed(1)} ms`;
  const isEnd = (ending.how === 'reset' || ending.how === 'closed') && ending.bytesReceived === 0;
  checks.that(CLIENT2.name, 'answer', 'its connection', how, isEnd, 'reset or closed without a byte');
  checkVisited(checks, visits, captured, captured.id, captured.what);
  checks.is('ztunnel-a', 'log', 'original destination', outbound?.originalDestination, `${VIP}:${VIP_PORT}`);
  const { failure } = outbound ?? {};
  checks.that('ztunnel-a', 'log', 'failure', failure, failure !== undefined, 'the refusal it was answered with');
  checks.is('ztunnel-b', 'log', 'peer', inbound?.tunnel?.peerIdentity, podIdentity(CLIENT2.name));
  checks.that('ztunnel-b', 'log', 'RBAC', rbacText(inbound), inbound?.rbac?.allowed === false, 'denied');
  const names = explanation.includes(`${NAMESPACE}/${DENY_POLICY}`) && /\brule\b/.test(explanation);
  checks.that('ztunnel-b', 'log', 'because', clause, names, `names ${NAMESPACE}/${DENY_POLICY} and its rule`);
  checks.is(delivery, 'conntrack', 'connections of client2 to httpbin', delivered.length, 0);

  return {
    checks: checks.list,
    request: { from: CLIENT2.name, to: `http://${VIP}:${VIP_PORT}/get`, source },
    ending: { how: ending.how, bytesReceived: ending.bytesReceived, elapsedMs: ending.elapsedMs },
    policy: `${NAMESPACE}/${DENY_POLICY}`,
    explanation,
    counters: visits,
    conntrack: delivered,
    decisions: [outbound, inbound].filter((record) => record !== undefined),
  };
}
