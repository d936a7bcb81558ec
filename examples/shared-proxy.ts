/**
 * One proxy for the pods of a node, from inside their network namespaces: in-pod redirection (`lab`), `startZtunnel` in shared mode,
 * two pods that come, a request from one to the other, and one that goes while it has a connection open. Needs root.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CertificateAuthority } from '../src/identity/index.ts';
import { createLab, twoNodes } from '../src/lab/index.ts';
import { connect, listen } from '../src/socket/index.ts';
import { startZtunnel } from '../src/ztunnel/index.ts';

const prefix = `example-sp-${process.pid}-`;
const folder = mkdtempSync(join(tmpdir(), prefix));
const trustDomain = 'cluster.local';
const named = (name: string) => ({ name, namespace: 'default', serviceAccount: name });
const inMesh = { trustDomain, node: 'node-a', protocol: 'HBONE', services: {} };
const workloads = [
  { ...named('sleep'), ...inMesh, workloadIps: ['10.244.1.10'] },
  { ...named('client2'), ...inMesh, workloadIps: ['10.244.1.11'] },
];
const path = join(folder, 'mesh.yaml');
// YAML is a superset of JSON.
writeFileSync(path, JSON.stringify({ workloads }));

try {
  await using lab = await createLab(twoNodes(prefix), { mode: 'pod' });
  await using ztunnel = await startZtunnel({
    mode: 'shared',
    namespace: lab.namespace('ztunnel-a'),
    nodeName: 'node-a',
    trustDomain,
    discovery: { path },
    authority: (await CertificateAuthority.create({ trustDomain })).export(),
  });
  for (const name of ['sleep', 'client2'])
    await ztunnel.addPod({ uid: name, ...named(name), netns: `${prefix}${name}` });
  console.log('serves', ztunnel.pods);

  const server = await listen({ namespace: lab.namespace('client2'), host: '0.0.0.0', port: 80 });
  server.on('connection', (socket) => {
    socket.on('data', (data) => socket.write(`hello ${socket.remoteAddress}, you said ${data}`));
  });
  const ask = () => connect({ namespace: lab.namespace('sleep'), host: '10.244.1.11', port: 80 });
  const client = await ask();
  const answer = () => new Promise((resolve) => client.once('data', (data) => resolve(String(data))));
  client.write('good morning');
  console.log('client2 answers:', await answer());

  const removed = ztunnel.removePod('sleep', { deadlineMs: 10_000 });
  await ztunnel.stats();
  console.log('a new connection of sleep:', await ask().catch(({ code }) => code));
  client.write('still here');
  console.log('the old one:', await answer());
  client.end();
  console.log('removed once it has ended:', await removed);
  server.close();
} finally {
  rmSync(folder, { recursive: true });
}
