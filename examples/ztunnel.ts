/**
 * One node's proxy at work: two pods of a node behind `startZtunnel`, a policy that is put in the mesh file while a connection is
 * open, and what the decision log has to say about both. Needs root.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CertificateAuthority } from '../src/identity/index.ts';
import { createLab, twoNodes } from '../src/lab/index.ts';
import { connect, listen } from '../src/socket/index.ts';
import { startZtunnel } from '../src/ztunnel/index.ts';

const prefix = `example-zt-${process.pid}-`;
const folder = mkdtempSync(join(tmpdir(), prefix));
const mesh = (policies: string) => `
workloads:
- {uid: sleep, name: sleep, namespace: default, serviceAccount: sleep, trustDomain: cluster.local, workloadIps: [10.244.1.10], node: node-a, protocol: HBONE, services: {}}
- {uid: client2, name: client2, namespace: default, serviceAccount: client2, trustDomain: cluster.local, workloadIps: [10.244.1.11], node: node-a, protocol: HBONE, services: {}}
services: []
policies: ${policies}
`;
const path = join(folder, 'mesh.yaml');
writeFileSync(path, mesh('[]'));

try {
  await using lab = await createLab(twoNodes(prefix));
  const authority = (await CertificateAuthority.create({ trustDomain: 'cluster.local' })).export();
  await using ztunnel = await startZtunnel({
    namespace: `${prefix}ztunnel-a`,
    nodeName: 'node-a',
    trustDomain: 'cluster.local',
    discovery: { path },
    authority,
    decisionLogPath: join(folder, 'decisions.jsonl'),
  });

  const server = await listen({ namespace: lab.namespace('client2'), host: '0.0.0.0', port: 80 });
  server.on('connection', (socket) => {
    // It will be reset: that is what this is about.
    socket.on('error', () => {});
    socket.on('data', (data) => socket.write(`hello ${socket.remoteAddress}, you said ${data}`));
  });
  const client = await connect({ namespace: lab.namespace('sleep'), host: '10.244.1.11', port: 80 });
  const ended = new Promise((resolve) => client.on('error', resolve).on('close', resolve));
  client.write('good morning');
  console.log('client2 answers:', String(await new Promise((resolve) => client.once('data', resolve))));

  writeFileSync(
    path,
    mesh(
      '[{name: quiet, namespace: default, scope: Namespace, action: Deny, dryRun: false, rules: [[[{destinationPorts: [80]}]]]}]',
    ),
  );
  console.log('with the policy the connection ends:', String(await ended));
  console.log('stats', await ztunnel.stats());
  server.close();
  for (const line of readFileSync(join(folder, 'decisions.jsonl'), 'utf8').trim().split('\n')) {
    const { direction, decision, rbac, failure } = JSON.parse(line);
    console.log(direction, decision, rbac?.explanation ?? '(the source judges nothing)', '|', failure);
  }
} finally {
  rmSync(folder, { recursive: true });
}
