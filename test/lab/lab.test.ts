import { expect, it } from 'vitest';
import {
  createLab,
  type Lab,
  type LabDescription,
  LabError,
  lookupRoute,
  PacketCapture,
  remainingNamespaces,
  removeLab,
  type TcpSegment,
  twoNodes,
} from '../../src/lab/index.ts';
import { openNetlink } from '../../src/netlink/index.ts';
import { createNamespace, deleteNamespace, type NetworkNamespace } from '../../src/netns/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

let labs = 0;
const fresh = () => twoNodes(`akt-lab-${process.pid}-${labs++}-`);

/** Asks a server that answers with the address it sees. */
async function ask(from: NetworkNamespace, host: string, port: number): Promise<string> {
  const socket = await connect({ namespace: from, host, port, timeoutMs: 2000 });
  let answer = '';
  socket.end('hello');
  for await (const data of socket) answer += data;
  return answer;
}

async function answerer(lab: Lab, name: string, port: number): Promise<() => void> {
  const server = await listen({ namespace: lab.namespace(name), host: '0.0.0.0', port });
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.end(socket.remoteAddress ?? ''));
  });
  return () => server.close();
}

describeRequiring('a lab without a mesh', { root: true, tools: ['ip', 'nft'] }, () => {
  it('connects its pods as a cluster does, and is gone when closed', async () => {
    const description = fresh();
    const steps: string[] = [];
    const lab = await createLab(description, { redirect: false, onProgress: (step) => steps.push(step) });
    const closing: (() => void)[] = [];
    try {
      expect(remainingNamespaces(description)).toHaveLength(8);
      expect(steps).toContain('node-b: cables to its pods');
      expect(lab.redirection('node-a')).toBeUndefined();
      closing.push(await answerer(lab, 'httpbin', 80), await answerer(lab, 'client2', 80));
      closing.push(await answerer(lab, 'outside', 8080));
      const sleep = lab.namespace('sleep');
      expect(await ask(sleep, '10.244.2.10', 80)).toBe('10.244.1.10');
      expect(await ask(sleep, '10.244.1.11', 80)).toBe('10.244.1.10');
      expect(await ask(sleep, '10.96.0.105', 80)).toBe('10.244.1.10');
      expect(await ask(lab.namespace('node-a'), '10.96.0.105', 80)).toBe('172.18.0.2');
      expect(await ask(sleep, '203.0.113.10', 8080)).toBe('172.18.0.2');
      expect(await ask(lab.namespace('outside'), '10.244.2.10', 80)).toBe('172.18.0.100');
      const rules = runIn(lab.namespace('node-a'), 'nft', 'list', 'table', 'ip', 'kube-proxy');
      expect(rules).toMatch(/ip daddr 10\.96\.0\.105 tcp dport 80 counter .* dnat to 10\.244\.2\.10:80/);
      expect(rules).toMatch(/ip saddr 10\.244\.0\.0\/16 ip daddr != 10\.244\.0\.0\/16 counter .* masquerade/);
    } finally {
      for (const close of closing) close();
      await lab.close();
    }
    expect(remainingNamespaces(description)).toEqual([]);
    await lab.close();
    expect(() => lab.namespace('sleep')).toThrow(expect.objectContaining({ code: 'ERR_LAB_CLOSED' }));
  });

  it('is left standing by leave(), and taken away by removeLab()', async () => {
    const description = fresh();
    const lab = await createLab(description, { redirect: false });
    lab.leave();
    await lab.close();
    expect(remainingNamespaces(description)).toHaveLength(8);
    expect(removeLab(description)).toHaveLength(8);
    expect(remainingNamespaces(description)).toEqual([]);
    expect(removeLab(description)).toEqual([]);
  });
});

describeRequiring('a lab that redirects in its pods', { root: true }, () => {
  it('has a plan in force in each enrolled pod, and lets each node probe them', async () => {
    const description = fresh();
    const [nodeA, nodeB] = description.nodes;
    const pods = nodeA!.pods.map((pod) => (pod.name === 'client2' ? { ...pod, enrolled: false } : pod));
    await using lab = await createLab({ ...description, nodes: [{ ...nodeA!, pods }, nodeB!] }, { mode: 'pod' });
    expect([...lab.redirections.keys()]).toEqual(['node-a', 'sleep', 'node-b', 'httpbin']);
    expect(lab.redirection('node-a')!.readBack().pods).toEqual(['10.244.1.10']);
    const closing = await Promise.all(['client2', 'httpbin', 'outside'].map((name) => answerer(lab, name, 80)));
    // Nobody listens on 15001 and 15006: what is redirected is refused, what is not gets through.
    await expect(ask(lab.namespace('sleep'), '172.18.0.100', 80)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await expect(ask(lab.namespace('outside'), '10.244.2.10', 80)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    expect(await ask(lab.namespace('client2'), '172.18.0.100', 80)).toBe('172.18.0.2');
    expect(await ask(lab.namespace('outside'), '10.244.1.11', 80)).toBe('172.18.0.100');
    expect(await ask(lab.namespace('node-b'), '10.244.2.10', 80)).toBe('169.254.7.127');
    for (const close of closing) close();
  });
});

describeRequiring('a lab with redirection', { root: true }, () => {
  it('enrols the pods of each node, but for those that say no', async () => {
    const description = fresh();
    const [a, b] = description.nodes as [LabDescription['nodes'][0], LabDescription['nodes'][0]];
    const pods = a.pods.map((pod) => (pod.name === 'client2' ? { ...pod, enrolled: false } : pod));
    await using lab = await createLab({ ...description, nodes: [{ ...a, pods }, b] });
    expect(lab.redirection('node-a')?.readBack().pods).toEqual(['10.244.1.10']);
    expect(lab.redirection('node-b')?.readBack().pods).toEqual(['10.244.2.10']);
    const missing = lab
      .redirection('node-a')!
      .readBack()
      .rules.filter(({ installed }) => !installed);
    expect(missing).toEqual([]);
  });

  it('sends a captured packet to the proxy, as `ip route get` has it', async () => {
    await using lab = await createLab(fresh());
    const node = lab.namespace('node-a');
    using route = openNetlink({ family: 'route', namespace: node });
    const packet = { source: '10.244.1.10', destination: '10.96.0.105', device: 'vethsleep' };
    const toProxy = { table: 101, local: false, device: 'istioout', gateway: '192.168.127.2' };
    expect(lookupRoute(route, { ...packet, mark: 0x100 })).toEqual(toProxy);
    const get = ['ip', '-j', 'route', 'get', '10.96.0.105', 'from', '10.244.1.10', 'iif', 'vethsleep', 'mark', '0x100'];
    const [theirs] = JSON.parse(runIn(node, ...(get as [string, ...string[]])));
    expect(theirs).toMatchObject({ table: '101', dev: toProxy.device, gateway: toProxy.gateway });
    expect(lookupRoute(route, packet)).toMatchObject({ table: 254, device: 'eth0', gateway: '172.18.0.100' });
    expect(lookupRoute(route, { destination: '172.18.0.2' })).toMatchObject({ table: 255, local: true });
    expect(() => lookupRoute(route, { destination: 'fd00::1' })).toThrow(
      expect.objectContaining({ code: 'ERR_LAB_INVALID', field: 'destination' }),
    );
    expect(() => lookupRoute(route, { destination: '10.0.0.1', device: 'eth9' })).toThrow(/eth9/);
  });
});

describeRequiring('a lab that cannot be built', { root: true }, () => {
  it('leaves a namespace alone that was there, and takes back the others', async () => {
    const description = fresh();
    const taken = `${description.prefix}httpbin`;
    createNamespace(taken).close();
    try {
      await expect(createLab(description)).rejects.toMatchObject({ code: 'ERR_LAB_EXISTS' });
      expect(remainingNamespaces(description)).toEqual([taken]);
    } finally {
      deleteNamespace(taken);
    }
  });

  it('says which step failed and why, and leaves nothing', async () => {
    const description = fresh();
    const [a, b] = description.nodes as [LabDescription['nodes'][0], LabDescription['nodes'][0]];
    // Not on the LAN, so that no route to the outside host can be made.
    const nodes = [a, { ...b, ip: '192.0.2.3' }];
    const failure = await createLab({ ...description, nodes }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(LabError);
    expect(failure).toMatchObject({ code: 'ERR_LAB_FAILED', cause: { code: 'ENETUNREACH' } });
    expect(String(failure)).toContain('the LAN between the nodes');
    expect(remainingNamespaces(description)).toEqual([]);
  });

  it.each([1, 3, 6])('is ended by an abort at step %i with its reason, and leaves nothing', async (last) => {
    const description = fresh();
    const abort = new AbortController();
    let steps = 0;
    const onProgress = () => {
      if (++steps === last) abort.abort(new Error('enough'));
    };
    await expect(createLab(description, { signal: abort.signal, onProgress })).rejects.toThrow('enough');
    expect(steps).toBe(last);
    expect(remainingNamespaces(description)).toEqual([]);
  });
});

describeRequiring('PacketCapture', { root: true }, () => {
  it('sees each segment of its device with its bytes, and none of other devices', async () => {
    await using lab = await createLab(fresh(), { redirect: false });
    const close = await answerer(lab, 'httpbin', 80);
    const seen: string[] = [];
    const keep = ({ source, sourcePort, destination, destinationPort, payload }: TcpSegment) => {
      const [from, to] = [
        `${source}${sourcePort === 80 ? ':80' : ''}`,
        `${destination}${destinationPort === 80 ? ':80' : ''}`,
      ];
      if (payload.length > 0) seen.push(`${from} > ${to} ${payload}`);
    };
    using capture = PacketCapture.open(lab.namespace('node-a'), 'eth0', keep, { intervalMs: 60_000 });
    using other = PacketCapture.open(lab.namespace('node-a'), 'vethclient2', () => seen.push('other'));
    expect(await ask(lab.namespace('sleep'), '10.96.0.105', 80)).toBe('10.244.1.10');
    expect(seen).toEqual([]);
    capture.drain();
    other.drain();
    expect(seen).toEqual(['10.244.1.10 > 10.244.2.10:80 hello', '10.244.2.10:80 > 10.244.1.10 10.244.1.10']);
    expect(capture.lost()).toBe(0);
    close();
  });

  it('tells of frames that it had no room for', async () => {
    await using lab = await createLab(fresh(), { redirect: false });
    const close = await answerer(lab, 'httpbin', 80);
    const options = { intervalMs: 60_000, receiveBufferBytes: 2304 };
    using capture = PacketCapture.open(lab.namespace('node-a'), 'eth0', () => {}, options);
    for (let i = 0; i < 20; i++) await ask(lab.namespace('sleep'), '10.244.2.10', 80);
    const lost = capture.lost();
    expect(lost).toBeGreaterThan(0);
    // The kernel forgets what it has told; the sum stays.
    expect(capture.lost()).toBe(lost);
    close();
  });

  it('names a device that is not there', async () => {
    await using lab = await createLab(fresh(), { redirect: false });
    expect(() => PacketCapture.open(lab.namespace('sleep'), 'eth7', () => {})).toThrow(
      expect.objectContaining({ code: 'ERR_LAB_CAPTURE' }),
    );
  });
});
