import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Explanation, explainPacket, type Packet, readKernelView } from '../../src/explain/index.ts';
import { createLab, type Lab, type LabDescription, twoNodes } from '../../src/lab/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { NftTrace, TRACE_TABLE, type TracedPacket } from './nft-trace.ts';

const SLEEP = '10.244.1.10';
const CLIENT2 = '10.244.1.11';
const PLAIN = '10.244.1.20';
const HTTPBIN = '10.244.2.10';
const VIP = '10.96.0.105';
const NODE = '172.18.0.2';
const ZTUNNEL = '10.244.1.2';
const OUTSIDE = '172.18.0.100';
const FAR = '203.0.113.10';

/** The lab of the articles, with one pod that is not enrolled. */
function description(): LabDescription {
  const lab = twoNodes(`akt-${process.pid}-explain-`);
  const [a, b] = lab.nodes;
  return { ...lab, nodes: [{ ...a!, pods: [...a!.pods, { name: 'plain', ip: PLAIN, enrolled: false }] }, b!] };
}

/** What the two accounts must agree on. */
function told(explanation: Explanation) {
  const rules = explanation.steps.flatMap((step) =>
    step.kind === 'rule' && step.verdict !== 'break' && step.table.name !== TRACE_TABLE
      ? [`${step.comment} ${step.verdict}`]
      : [],
  );
  const { ending, source, destination } = explanation;
  const end =
    ending.kind === 'forwarded' || ending.kind === 'sent'
      ? { hook: 'postrouting', device: ending.device, source, destination }
      : ending.kind === 'delivered'
        ? { hook: 'input', device: undefined, source, destination }
        : ending.kind;
  return { rules, end };
}

function traced({ rules, dropped, last }: TracedPacket) {
  if (dropped || last === undefined) return { rules, end: dropped ? 'dropped' : 'nowhere' };
  const { hook, fields } = last;
  const device = hook === 'postrouting' ? fields.get('oif') : undefined;
  return { rules, end: { hook, device, source: fields.get('ip saddr'), destination: fields.get('ip daddr') } };
}

/** A first packet: who sends it to where, and where it is looked at. */
interface Flow {
  readonly from: string;
  readonly source: string;
  readonly to: readonly [ip: string, port: number];
  readonly protocol?: 'udp';
  /** The namespace, and the device it comes in by there; none where it is made there. */
  readonly at: string;
  readonly device?: string;
  readonly mark?: number;
}

const sleep = { from: 'sleep', source: SLEEP, at: 'node-a', device: 'vethsleep' };
const client2 = { from: 'client2', source: CLIENT2, at: 'node-a', device: 'vethclient2' };
const plain = { from: 'plain', source: PLAIN, at: 'node-a', device: 'vethplain' };
const outside = { from: 'outside', source: OUTSIDE, at: 'node-a', device: 'eth0' };
const node = { from: 'node-a', source: NODE, at: 'node-a' };
const proxy = { from: 'ztunnel-a', source: ZTUNNEL, at: 'node-a', device: 'vethza' };
const proxyAsSleep = { ...proxy, source: SLEEP };
const udp = { protocol: 'udp' } as const;

const flows: readonly (readonly [string, Flow])[] = [
  ['enrolled → ClusterIP', { ...sleep, to: [VIP, 80] }],
  ['enrolled → pod of the other node', { ...sleep, to: [HTTPBIN, 80] }],
  ['enrolled → pod of the same node', { ...sleep, to: [CLIENT2, 8080] }],
  ['enrolled → outside the cluster', { ...sleep, to: [FAR, 8080] }],
  ['enrolled → the LAN', { ...sleep, to: [OUTSIDE, 22] }],
  ['enrolled → its node', { ...sleep, to: [NODE, 9999] }],
  ['another enrolled → ClusterIP', { ...client2, to: [VIP, 80] }],
  ['another enrolled → HBONE port', { ...client2, to: [HTTPBIN, 15008] }],
  ['not enrolled → ClusterIP', { ...plain, to: [VIP, 80] }],
  ['not enrolled → pod of the other node', { ...plain, to: [HTTPBIN, 80] }],
  ['not enrolled → enrolled of the same node', { ...plain, to: [CLIENT2, 80] }],
  ['not enrolled → outside the cluster', { ...plain, to: [FAR, 8080] }],
  ['not enrolled → its node', { ...plain, to: [NODE, 9999] }],
  ['node → ClusterIP', { ...node, to: [VIP, 80] }],
  ['node → enrolled (a probe)', { ...node, to: [SLEEP, 80] }],
  ['node → not enrolled', { ...node, to: [PLAIN, 80] }],
  ['node → outside the cluster', { ...node, to: [FAR, 443] }],
  ['node → itself', { ...node, to: [NODE, 9998] }],
  ['node, marked 0x200 → enrolled', { ...node, to: [SLEEP, 80], mark: 0x200 }],
  ['node, marked 0x100 → outside the cluster', { ...node, to: [FAR, 80], mark: 0x100 }],
  ['node, marked 0x40 → ClusterIP', { ...node, to: [VIP, 80], mark: 0x40 }],
  ['proxy → outside the cluster', { ...proxy, to: [FAR, 80] }],
  ['proxy → ClusterIP', { ...proxy, to: [VIP, 80] }],
  ['proxy with a pod’s address → HBONE port', { ...proxyAsSleep, to: [HTTPBIN, 15008] }],
  ['proxy with a pod’s address → outside the cluster', { ...proxyAsSleep, to: [FAR, 80] }],
  ['outside → enrolled', { ...outside, to: [SLEEP, 80] }],
  ['outside → not enrolled', { ...outside, to: [PLAIN, 80] }],
  ['UDP: enrolled → DNS', { ...sleep, ...udp, to: [FAR, 53] }],
  ['UDP: enrolled → ClusterIP', { ...sleep, ...udp, to: [VIP, 80] }],
  ['UDP: not enrolled → enrolled', { ...plain, ...udp, to: [CLIENT2, 5353] }],
  ['UDP: outside → enrolled', { ...outside, ...udp, to: [SLEEP, 53] }],
  ['UDP: node → enrolled', { ...node, ...udp, to: [SLEEP, 53] }],
  ['proxy’s namespace: captured, somebody listens', { ...sleep, at: 'ztunnel-a', device: 'pistioout', to: [FAR, 81] }],
  [
    'proxy’s namespace: for an enrolled pod, nobody does',
    { ...plain, at: 'ztunnel-a', device: 'pistioin', to: [SLEEP, 82] },
  ],
  ['proxy’s namespace: HBONE, nobody does', { ...outside, at: 'ztunnel-a', device: 'pistioin', to: [SLEEP, 15008] }],
];

describeRequiring('explainPacket against nft monitor trace', { root: true, tools: ['nft', 'bash', 'stdbuf'] }, () => {
  let lab: Lab;
  const traces = new Map<string, NftTrace>();
  const open: Disposable[] = [];
  const accepted: Socket[] = [];
  let port = 20_000;

  async function server(name: string, host: string, at: number, transparent = false): Promise<void> {
    const one = await listen({ namespace: lab.namespace(name), host, port: at, transparent });
    one.on('connection', (socket) => {
      accepted.push(socket);
      socket.on('error', () => {}).resume();
    });
    open.push({ [Symbol.dispose]: () => one.close() });
  }

  function explain(at: string, packet: Packet): Explanation {
    return explainPacket(readKernelView(lab.namespace(at), { packet }), packet);
  }

  beforeAll(async () => {
    lab = await createLab(description());
    for (const name of ['node-a', 'ztunnel-a']) traces.set(name, await NftTrace.open(lab.namespace(name)));
    await server('ztunnel-a', '127.0.0.1', 15001, true);
    await server('outside', '0.0.0.0', 7000);
    await server('plain', '0.0.0.0', 7000);
  }, 60_000);

  afterAll(async () => {
    for (const socket of accepted) socket.destroy();
    for (const one of open) one[Symbol.dispose]();
    for (const trace of traces.values()) trace.close();
    await lab.close();
  });

  it.each(flows)('%s', async (_, flow) => {
    const { from, source, to, at, device, mark } = flow;
    const protocol = flow.protocol ?? 'tcp';
    const sourcePort = port++;
    const explanation = explain(at, {
      source,
      destination: to[0],
      protocol,
      sourcePort,
      destinationPort: to[1],
      ...(device === undefined ? {} : { device }),
      ...(mark === undefined ? {} : { mark }),
    });
    const trace = traces.get(at)!;
    trace.clear();
    const namespace = lab.namespace(from);
    if (protocol === 'udp') runIn(namespace, 'bash', '-c', `echo x > /dev/udp/${to[0]}/${to[1]}`);
    else {
      const own = { ip: source, port: sourcePort };
      const options = { namespace, host: to[0], port: to[1], source: own, transparent: true, mark, timeoutMs: 300 };
      const socket = await connect(options).catch(() => undefined);
      socket?.on('error', () => {}).destroy();
    }
    const packet = await trace.packet({ 'ip saddr': source, 'ip daddr': to[0], [`${protocol} dport`]: String(to[1]) });
    expect(told(explanation)).toEqual(traced(packet));
  });

  /** A connection that is open, to be asked about while it is. */
  async function established(from: string, source: string, to: readonly [string, number]): Promise<[Socket, number]> {
    const sourcePort = port++;
    accepted.length = 0;
    const options = { host: to[0], port: to[1], source: { ip: source, port: sourcePort } };
    const socket = await connect({ namespace: lab.namespace(from), ...options, timeoutMs: 3000 });
    open.push({ [Symbol.dispose]: () => socket.on('error', () => {}).destroy() });
    // An answer that was acknowledged: the connection is assured, and nothing is under way.
    while (accepted.length === 0) await new Promise((done) => setTimeout(done, 10));
    accepted[0]!.write('hello');
    await once(socket.resume(), 'data');
    await new Promise((done) => setTimeout(done, 100));
    return [socket, sourcePort];
  }

  /** Explains a packet of an open connection, sends one, and compares. */
  async function later(at: string, packet: Packet, send: () => void): Promise<Explanation> {
    const explanation = explain(at, packet);
    const trace = traces.get(at)!;
    trace.clear();
    send();
    const seen = await trace.packet({ 'ip saddr': packet.source, 'tcp sport': String(packet.sourcePort) });
    expect(told(explanation)).toEqual(traced(seen));
    return explanation;
  }

  it('a captured connection: data of the pod, at the node and at the proxy, and the answer', async () => {
    const [socket, sourcePort] = await established('sleep', SLEEP, [VIP, 80]);
    const there = { source: SLEEP, sourcePort, destination: VIP, destinationPort: 80, protocol: 'tcp' } as const;
    const back = {
      source: VIP,
      sourcePort: 80,
      destination: SLEEP,
      destinationPort: sourcePort,
      protocol: 'tcp',
    } as const;
    const fast = await later('node-a', { ...there, device: 'vethsleep' }, () => socket.write('a'));
    expect(fast.ending).toEqual({ kind: 'forwarded', device: 'vethza', gateway: ZTUNNEL });
    // Two of each are the trace's own.
    expect(fast.fastPath).toMatchObject({ firstRules: 6, rules: 4, firstEnding: { device: 'istioout' } });
    expect(fast.fastPath!.spared).toEqual(expect.arrayContaining(['prerouting-15', 'nat-prerouting-1']));
    expect(fast.steps.find(({ kind }) => kind === 'connection')).toMatchObject({
      kind: 'connection',
      state: 'established',
      mark: 0x210,
    });
    await later('ztunnel-a', { ...there, device: 'eth0' }, () => socket.write('b'));
    const answer = await later('node-a', { ...back, device: 'vethza' }, () => accepted[0]!.write('c'));
    expect(answer.ending).toEqual({ kind: 'forwarded', device: 'vethsleep' });
    expect(answer.fastPath).toBeUndefined();
  });

  it('a masqueraded connection, and its answer', async () => {
    const [socket, sourcePort] = await established('plain', PLAIN, [OUTSIDE, 7000]);
    const there = { source: PLAIN, sourcePort, destination: OUTSIDE, destinationPort: 7000, protocol: 'tcp' } as const;
    const gone = await later('node-a', { ...there, device: 'vethplain' }, () => socket.write('a'));
    expect(gone.source).toBe(NODE);
    const port = gone.sourcePort!;
    const back = {
      source: OUTSIDE,
      sourcePort: 7000,
      destination: NODE,
      destinationPort: port,
      protocol: 'tcp',
    } as const;
    const answer = await later('node-a', { ...back, device: 'eth0' }, () => accepted[0]!.write('b'));
    expect(answer).toMatchObject({ destination: PLAIN, ending: { kind: 'forwarded', device: 'vethplain' } });
  });

  it('a connection that was open when its pod was enrolled, and its answer (trap 3)', async () => {
    const [socket, sourcePort] = await established('plain', PLAIN, [OUTSIDE, 7000]);
    const redirection = lab.redirection('node-a')!;
    redirection.addPod({ ip: PLAIN, veth: 'vethplain', comment: 'plain' });
    try {
      const there = {
        source: PLAIN,
        sourcePort,
        destination: OUTSIDE,
        destinationPort: 7000,
        protocol: 'tcp',
      } as const;
      const gone = await later('node-a', { ...there, device: 'vethplain' }, () => socket.write('a'));
      expect(told(gone).rules).toContain('prerouting-open-1 continue');
      expect(gone.steps).toContainEqual(
        expect.objectContaining({ text: expect.stringContaining('ct original ip saddr @ztunnel-pods-ips') }),
      );
      const { source, sourcePort: port } = gone;
      const back = { source: OUTSIDE, sourcePort: 7000, destination: source, protocol: 'tcp' } as const;
      const answer = await later('node-a', { ...back, destinationPort: port!, device: 'eth0' }, () =>
        accepted[0]!.write('b'),
      );
      expect(answer).toMatchObject({ destination: PLAIN, ending: { kind: 'forwarded', device: 'vethplain' } });
      expect(told(answer).rules).toContain('prerouting-open-1 continue');
    } finally {
      redirection.removePod(PLAIN);
    }
  });

  it('a connection to a pod that was open when the pod was enrolled (trap 3)', async () => {
    const [socket, sourcePort] = await established('node-a', NODE, [PLAIN, 7000]);
    const redirection = lab.redirection('node-a')!;
    redirection.addPod({ ip: PLAIN, veth: 'vethplain', comment: 'plain' });
    try {
      const back = { source: PLAIN, sourcePort: 7000, destination: NODE, protocol: 'tcp' } as const;
      const answer = await later('node-a', { ...back, destinationPort: sourcePort, device: 'vethplain' }, () =>
        accepted[0]!.write('b'),
      );
      expect(told(answer).rules).toContain('prerouting-open-2 continue');
      expect(answer.steps).toContainEqual(
        expect.objectContaining({ text: expect.stringContaining('ct reply ip saddr @ztunnel-pods-ips') }),
      );
      expect(answer.ending).toMatchObject({ kind: 'delivered', ip: NODE, port: sourcePort });
      socket.destroy();
    } finally {
      redirection.removePod(PLAIN);
    }
  });

  it('a connection of the node', async () => {
    const [socket, sourcePort] = await established('node-a', NODE, [PLAIN, 7000]);
    const there = { source: NODE, sourcePort, destination: PLAIN, destinationPort: 7000, protocol: 'tcp' } as const;
    await later('node-a', there, () => socket.write('a'));
    const back = {
      source: PLAIN,
      sourcePort: 7000,
      destination: NODE,
      destinationPort: sourcePort,
      protocol: 'tcp',
    } as const;
    const answer = await later('node-a', { ...back, device: 'vethplain' }, () => accepted[0]!.write('b'));
    expect(answer.ending).toMatchObject({ kind: 'delivered', ip: NODE, port: sourcePort });
  });
});
